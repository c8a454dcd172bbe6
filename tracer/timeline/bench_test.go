package timeline

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline/histories"
)

// largeBoot is a host with 10,000 volumes and 1,000 guests of three disks each;
// the rest of a million events are opens by others.
func largeBoot(tb testing.TB) []event.Event {
	const mappings, guests, total = 10_000, 1_000, 1_000_000
	var p histories.Writer
	if err := p.Line("0.000000001 sources"); err != nil {
		tb.Fatal(err)
	}
	for i := range mappings {
		if err := p.Line(fmt.Sprintf("%f activate lv=vg%d/lv%d dev=253:%d", 1+float64(i)/1000, i%7, i, i)); err != nil {
			tb.Fatal(err)
		}
	}
	for i := range guests {
		start := 5 + float64(i)/100
		args, opens := "qemu-system-x86_64 -enable-kvm -m 2048", []string{}
		for d := range 3 {
			lv := (i*3 + d) % mappings
			path := fmt.Sprintf("/dev/vg%d/lv%d", lv%7, lv)
			args += fmt.Sprintf(" -drive file=%s,if=none,id=drive_%d,format=raw,cache=none", path, d)
			for k := range 3 {
				opens = append(opens, fmt.Sprintf("%f..%f open pid=%d %s dev=253:%d", start+.01*float64(d+k), start+.01*float64(d+k)+.001, 1000+i, path, lv))
			}
		}
		lines := append(opens, fmt.Sprintf("%f exec pid=%d args: %s -name vm%d", start, 1000+i, args, i))
		for _, line := range lines {
			if err := p.Line(line); err != nil {
				tb.Fatal(err)
			}
		}
	}
	out := p.Events()
	for n := 0; len(out) < total; n++ {
		out = append(out, event.Event{
			ID: uint64(len(out) + 1),
			At: event.Time(n * 30_000), From: event.Time(n*30_000 - 2000), Kind: event.Open,
			Proc: &event.Proc{PID: 100_000 + n%5000, Comm: "lvm"},
			Open: &event.OpenInfo{Path: "/dev/vg/absent" + fmt.Sprint(n%2000), Errno: 2, Size: -1},
		})
	}
	return out
}

func BenchmarkBuild(b *testing.B) {
	events := largeBoot(b)
	b.ReportAllocs()
	for b.Loop() {
		buildOf(events)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(events)), "ns/event")
}

// BenchmarkAgain is what the running service pays for a new Timeline.
func BenchmarkAgain(b *testing.B) {
	events := largeBoot(b)
	builder := NewBuilder(Boot{Current: true}, Options{})
	for i := range events {
		builder.Add(&events[i])
	}
	for b.Loop() {
		builder.Timeline()
	}
}

// BenchmarkMemory reports what a Builder and its Timeline keep of a large boot.
func BenchmarkMemory(b *testing.B) {
	events := largeBoot(b)
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		builder := NewBuilder(Boot{Current: true}, Options{})
		for i := range events {
			builder.Add(&events[i])
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "builder-MB")
		tl := builder.Timeline()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "both-MB")
		runtime.KeepAlive(tl)
		runtime.KeepAlive(builder)
	}
}

// chainedBoot is a host with 1,000 guests of three disks each, each disk with
// two images below it, as their headers name them. It remembers all guests; a
// third of them lost a volume and run on another.
func chainedBoot(tb testing.TB) []event.Event {
	const guests = 1_000
	var p histories.Writer
	add := func(format string, args ...any) {
		if err := p.Line(fmt.Sprintf(format, args...)); err != nil {
			tb.Fatal(err)
		}
	}
	add("0.000000001 sources")
	for i := range guests * 9 {
		add("%f activate lv=vg/lv%05d dev=253:%d", 1+float64(i)/10_000, i, i)
	}
	for i := range guests {
		start, args := 5+float64(i)/100, ""
		for d := range 3 {
			args += fmt.Sprintf(" -drive file=/dev/vg/lv%05d,if=none,id=drive_%d", 9*i+3*d, d)
		}
		add("%f exec pid=%d args: qemu-system-x86_64 -name vm%d %s", start, 1000+i, i, args)
		for d := range 9 {
			lv := 9*i + d
			if d%3 == 0 {
				add("%f image pid=%d disk=/dev/vg/lv%05d", start+.001, 1000+i, lv)
				for m := range 3 {
					role := []string{"disk", "backing", "backing"}[m]
					add("0 member path=/dev/vg/lv%05d role=%s state=read over=%d", lv+m, role, m-1)
				}
			}
			add("%f open pid=%d /dev/vg/lv%05d dev=253:%d", start+.01+float64(d)/1000, 1000+i, lv, lv)
		}
		add("%f memory pid=%d guest=name:vm%d", start+.002, 1000+i, i)
		for d := range 9 {
			lv, over := fmt.Sprintf("vg/lv%05d", 9*i+d), ""
			if d%3 != 0 {
				over = fmt.Sprintf("/dev/vg/lv%05d", 9*i+d/3*3)
			} else if i%3 == 0 {
				lv = fmt.Sprintf("vg/lost%05d", 9*i+d)
			}
			add("0 remembered path=/dev/vg/lv%05d lv=%s backing_of=%s", 9*i+d, lv, over)
		}
	}
	return p.Events()
}

// BenchmarkChanges is to stay below a second.
func BenchmarkChanges(b *testing.B) {
	events := chainedBoot(b)
	b.ReportAllocs()
	for b.Loop() {
		tl := buildOf(events)
		if n := len(tl.Findings); n != 2*3*334 {
			b.Fatalf("%d findings", n)
		}
	}
	b.ReportMetric(float64(len(events)), "events")
}
