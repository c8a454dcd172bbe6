package hold

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
)

// seen is a look that a test decides about.
type seen struct {
	done    chan struct{}
	doubts  []Doubt
	unknown string
}

func (s *seen) Done() <-chan struct{}     { return s.done }
func (s *seen) Doubts() ([]Doubt, string) { return s.doubts, s.unknown }

// A start on a disk that is cut off is held until the device is given back, or denied,
// as the policy says; what is not known, or not yet, keeps nobody back.
func TestFilesystem(t *testing.T) {
	hold, deny := config.FilesystemHold, config.FilesystemDeny
	var whole atomic.Bool
	var again atomic.Int64
	h := newHost(t, func(o *Options) {
		o.Inspect = func(s Start) Look {
			l := &seen{done: make(chan struct{})}
			if s.Again {
				again.Add(1)
			}
			switch s.Guest.Name {
			case "hoff", "doff":
				return nil
			case "slow":
				return l // never done
			case "hunread":
				l.unknown = "its storage did not answer"
			case "fine":
			default:
				if !whole.Load() {
					l.doubts = []Doubt{{Kind: "truncated", Disk: s.Guest.Disks[0].Path, Text: "its xfs needs 416 MiB and has 320 MiB"}}
				}
			}
			close(l.done)
			return l
		}
		o.Config.Guests = []config.GuestRule{{Name: "h*", Filesystem: &hold}, {Name: "d*", Filesystem: &deny}}
	})
	names := map[string]int{"fine": 0, "warned": 0, "slow": 0, "hoff": 0, "doff": 0, "hunread": 0, "denied": 126}
	for name := range names {
		h.disks.set("/dev/vg0/"+name, true)
	}
	for name, want := range names {
		if status := h.guest(name).ends(); status != want {
			t.Errorf("%s ended with %d", name, status)
		}
	}
	late := h.guest("slow", "-drive", "file=/dev/vg0/late,format=raw") // held for another disk before
	h.held(1)
	h.disks.set("/dev/vg0/late", true)
	if late.ends() != 0 {
		t.Error("a look that is never done kept a start back")
	}
	h.disks.set("/dev/vg0/h1", true)
	h1 := h.guest("h1")
	held := h.held(1)[0]
	if held.Reason != event.HoldFilesystem || held.OnTimeout != "deny" || len(held.Doubts) != 1 || !strings.Contains(held.Remedy, "give the device back") {
		t.Errorf("held %+v", held)
	}
	h1.waits()
	whole.Store(true)
	h.Changed()
	if h1.ends() != 0 || again.Load() == 0 {
		t.Error("a guest whose device was given back did not start")
	}
	h.settled()
	if r := h.Status().Refused; len(r) != 1 || r[0].Guest != "denied" || r[0].Why != event.HoldFilesystem || !strings.Contains(r[0].Remedy, "repair nothing before") {
		t.Errorf("refused %+v", r)
	}
}
