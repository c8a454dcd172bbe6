package timeline

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline/histories"
)

// troubledBoot is a host on which everything is late: guests of three disks
// each, every disk with two backing files, all of them volumes in a thin pool on
// a disk that comes late; an agent has looked for each, LVM was asked about the
// third that never came, and udev had all of it at once.
func troubledBoot(tb testing.TB, guests int) []event.Event {
	tb.Helper()
	const disks, depth = 3, 3
	var p histories.Writer
	add := func(format string, args ...any) {
		if err := p.Line(fmt.Sprintf(format, args...)); err != nil {
			tb.Fatal(err)
		}
	}
	add("0.1 sources")
	add("0.5 uevent add vdb dev=254:16 seq=1")
	add("0.5..30 udev add vdb dev=254:16 seq=1 ID_FS_TYPE=LVM2_member")
	add("30.1..30.2 dm_create lv=vg/pool/tpool dev=253:0")
	add("30.2..30.3 dm_load lv=vg/pool/tpool dev=253:0 table=0_2048_thin-pool_254:16_254:16_128_0")
	add("30.3..30.4 dm_resume lv=vg/pool/tpool dev=253:0 live=30.35")
	minor := 0
	for g := range guests {
		start := 1 + float64(g)/1000
		args := ""
		for d := range disks {
			over := ""
			for c := range depth {
				minor++
				lv := fmt.Sprintf("vg/g%d-d%d-c%d", g, d, c)
				path := "/dev/" + lv
				if c == 0 {
					args += " -drive file=" + path + ",format=qcow2"
				}
				at := start + .01 + float64(d*depth+c)/1e5
				add("%f open pid=70 comm=agent %s ENOENT args: agent --start", start-.5, path)
				add("%f open pid=%d %s ENOENT", at, 1000+g, path)
				add("%f open pid=%d %s ENOENT", at+1e-6, 1000+g, path)
				if over == "" {
					over = path
				}
				if d == disks-1 {
					add("100 lvm %s skip=1", lv)
					continue
				}
				ready := 31 + float64(minor)/1000
				add("%f..%f dm_create lv=%s dev=253:%d", ready, ready+.0001, lv, minor)
				add("%f..%f dm_load lv=%s dev=253:%d table=0_2048_thin_253:0_%d", ready+.0001, ready+.0002, lv, minor, minor)
				add("%f..%f dm_resume lv=%s dev=253:%d live=%f flags=32", ready+.0002, ready+.0003, lv, minor, ready+.00025)
				add("%f uevent change dm-%d dev=253:%d seq=%d", ready+.0003, minor, minor, 100+minor)
				add("%f..%f udev change dm-%d dev=253:%d seq=%d lv=%s DM_ACTIVATION=1 links=%s", ready+.0003, ready+20, minor, minor, 100+minor, lv, path)
			}
		}
		add("%f exec pid=%d args: qemu-system-x86_64 -name vm%d%s", start, 1000+g, g, args)
		add("%f exit pid=%d status=1", start+.5, 1000+g)
	}
	return p.Events()
}

// A thousand guests in trouble are judged with memory in proportion: twice the
// guests take twice the allocations, and twice the bytes. Time is not measured:
// the machine may have other work.
func TestJudgeLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT RUN: takes a second; leave out -short to run it")
	}
	took := func(guests int) (allocations, size float64, tl *Timeline) {
		events := troubledBoot(t, guests)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		tl = buildOf(events)
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs - before.Mallocs), float64(after.TotalAlloc - before.TotalAlloc), tl
	}
	count, size, _ := took(500)
	count2, size2, tl := took(1000)
	t.Logf("500 guests: %.0f allocations, %.0f bytes; 1000 guests: %.0f, %.0f; %d findings", count, size, count2, size2, len(tl.Findings))
	if len(tl.Verdicts) != 1000 || len(tl.Findings) < 9000 {
		t.Errorf("%d verdicts of %d findings", len(tl.Verdicts), len(tl.Findings))
	}
	if ratio := count2 / count; ratio > 2.2 {
		t.Errorf("twice the guests took %.1f times as many allocations", ratio)
	}
	if ratio := size2 / size; ratio > 2.5 { // tables grow by doubling
		t.Errorf("twice the guests took %.1f times as many bytes", ratio)
	}
}

// The waits of all events are what comparing each with all others gives.
func TestQueueAll(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	for range 300 {
		q := &udevQueue{announced: map[uint64]event.Time{}}
		for i := range r.IntN(60) {
			f := &blockFact{seq: uint64(r.IntN(50)), dev: event.Dev{Minor: uint32(r.IntN(6))}, done: true}
			f.at, f.id = event.Time(r.IntN(80)), uint64(i+1)
			q.ends = append(q.ends, f)
			if r.IntN(5) > 0 {
				q.announced[f.seq] = event.Time(r.IntN(60))
			}
		}
		slices.SortFunc(q.ends, func(a, b *blockFact) int { return cmp.Compare(a.at, b.at) })
		for _, mine := range q.ends {
			since, known := q.announced[mine.seq]
			var want wait
			for _, f := range q.ends {
				if !known || f.at <= since || f.at > mine.at || f.seq >= mine.seq {
					continue
				}
				want.held = f.at.Sub(since)
				if f.dev != mine.dev {
					want.behind++
				}
			}
			if want.behind == 0 {
				want = wait{}
			}
			if got := q.wait(mine.id); got != want {
				t.Fatalf("event %d of %d: %+v, want %+v", mine.id, len(q.ends), got, want)
			}
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	events := troubledBoot(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		buildOf(events)
	}
}
