// Package troubled makes the events of a large boot that goes wrong, for the measures of
// what its export takes.
package troubled

import (
	"fmt"

	"github.com/bootrace/bootrace/tracer/event"
)

// Events are those of a boot in which each guest starts before its disks are there, and
// once more when they are.
func Events(guests, disks int) []event.Event {
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
