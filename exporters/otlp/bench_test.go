package otlp

import (
	"fmt"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// BenchmarkEncode makes requests of a boot in which 1,000 guests, each with 32 disks,
// fail for want of them, are started again, and run: from the events to the bytes that
// are sent. Spans a second are those of the processor.
func BenchmarkEncode(b *testing.B) {
	events := troubled(1000, 32)
	boot := timeline.Boot{ID: "33333333-3333-4333-8333-333333333333", Host: "kvm7"}
	spans, bytes := 0, 0
	m := ptrace.ProtoMarshaler{}
	before := processor(b)
	for b.Loop() {
		for _, r := range requestsOf(b, standsOf(boot, events)) {
			data, err := m.MarshalTraces(r)
			if err != nil {
				b.Fatal(err)
			}
			spans += r.SpanCount()
			bytes += len(data)
		}
	}
	b.ReportMetric(float64(spans)/(processor(b)-before), "spans/cpu-s")
	b.ReportMetric(float64(spans)/float64(b.N), "spans/op")
	b.ReportMetric(float64(bytes)/float64(spans), "bytes/span")
}

// processor is the processor time that this process has used, in seconds.
func processor(b *testing.B) float64 {
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	return float64(own.Utime.Nano()+own.Stime.Nano()) / 1e9
}

// troubled has each of so many guests start before its disks are there, and once more
// when they are.
func troubled(guests, disks int) []event.Event {
	const ms = event.Time(1e6)
	events := []event.Event{{At: ms, Kind: event.Clock, Clock: &event.ClockInfo{WallOffset: 1795593534529908368, Trusted: true}}}
	for _, a := range []string{"ebpf", "uevent", "udev", "snapshot"} {
		info := event.SourceInfo{Name: a, State: "attached"}
		for _, ability := range []string{"exec", "exit", "dm", "open", "link"} {
			info.Abilities = append(info.Abilities, event.Ability{Name: ability, OK: true})
		}
		events = append(events, event.Event{At: ms, Kind: event.Source, Src: a, Source: &info})
	}
	at := 1000 * ms
	path := func(guest, disk int) string { return fmt.Sprintf("/dev/vg0/guest-%d-%d", guest, disk) }
	start := func(guest, pid int, there bool) {
		proc := &event.Proc{PID: pid, PPID: 1, Comm: "qemu-system-x86"}
		args := []string{"qemu-system-x86_64", "-name", fmt.Sprintf("guest-%d", guest)}
		for d := range disks {
			args = append(args, "-drive", "format=raw,if=none,file="+path(guest, d))
		}
		events = append(events, event.Event{At: at, Kind: event.Exec, Proc: proc, Exec: &event.ExecInfo{Filename: "/usr/bin/" + args[0], Args: args}})
		for d := range disks {
			at += ms / 10
			open := event.OpenInfo{Path: path(guest, d), Errno: 2, Size: -1}
			if there {
				open = event.OpenInfo{Path: path(guest, d), Type: "block", Dev: &event.Dev{Major: 253, Minor: uint32(guest*disks + d)}, Size: 1 << 30}
			}
			events = append(events, event.Event{At: at, From: at - 1000, Kind: event.Open, Proc: proc, Open: &open})
		}
		if !there {
			events = append(events, event.Event{At: at + ms, Kind: event.Exit, Proc: proc, Exit: &event.ExitInfo{Status: 1}})
		}
		at += 2 * ms
	}
	for g := range guests {
		start(g, 1000+g, false)
	}
	for g := range guests {
		for d := range disks {
			n := g*disks + d
			name, dev := fmt.Sprintf("vg0-guest--%d--%d", g, d), &event.Dev{Major: 253, Minor: uint32(n)}
			at += ms / 10
			for k, kind := range []event.Kind{event.DMCreate, event.DMLoad, event.DMResume} {
				dm := event.DMInfo{Name: name, UUID: fmt.Sprintf("LVM-QvQoYb1XR3bglU4pMye1Ukto61V396l4%032d", n), Dev: dev}
				if kind == event.DMLoad {
					dm.Size, dm.Table = 1<<30, []string{"0 2097152 linear 254:16 2048"}
				}
				events = append(events, event.Event{At: at + event.Time(k)*1000, Kind: kind, DM: &dm})
			}
			events = append(events, event.Event{At: at + 5000, Kind: event.Link, Open: &event.OpenInfo{Path: path(g, d), Target: fmt.Sprintf("../dm-%d", n), Size: -1}})
		}
	}
	at += 1000 * ms
	for g := range guests {
		start(g, 100_000+g, true)
	}
	events = append(events, event.Event{At: at + 60_000*ms, Kind: event.Mark, Mark: &event.MarkInfo{Name: event.MarkSettled}})
	for n := range events {
		events[n].ID = uint64(n + 1)
	}
	return events
}
