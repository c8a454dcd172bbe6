package service

import (
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/hold"
	"github.com/bootrace/bootrace/tracer/inspect"
	"github.com/bootrace/bootrace/tracer/inspector"
)

// inspect begins a look into the disks of a guest that is about to start.
func (s *Service) inspect(start hold.Start) hold.Look {
	where := map[string]event.Dev{}
	for i := range start.Members {
		if m := &start.Members[i]; m.Dev != nil && m.Disk == "" {
			where[m.Path] = *m.Dev
		}
	}
	look := s.inspector.Start(inspector.Start{
		Guest: start.Guest, PID: start.PID, UID: start.UID, Dir: start.Dir, Where: where, Again: start.Again,
	})
	if look == nil {
		return nil
	}
	return doubtful{look}
}

// doubtful tells what of a look can keep a guest from coming up. The timeline's
// findings of the same names say the same.
type doubtful struct{ *inspector.Look }

// Doubts implements hold.Look.
func (d doubtful) Doubts() (doubts []hold.Doubt, unknown string) {
	for _, disk := range d.Disks() {
		if disk.Report == nil {
			unknown = disk.Path + ": " + disk.Why
		}
		for _, t := range disk.CutOff() {
			switch t.Kind {
			case inspect.Truncated:
				doubts = append(doubts, hold.Doubt{Kind: string(t.Kind), Disk: disk.Path, Text: fmt.Sprintf("inside %s, its %s needs %s and has %s: short by %s",
					disk.Path, t.Layer, bytes(t.Needs), bytes(t.Has), bytes(t.Needs-t.Has))})
			default:
				doubts = append(doubts, hold.Doubt{Kind: string(t.Kind), Disk: disk.Path, Text: fmt.Sprintf("inside %s, its %s: %s", disk.Path, t.Layer, t.What)})
			}
		}
	}
	return doubts, unknown
}

func bytes(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
