package service

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/lvm"
)

func vain(at event.Time, comm, path string) *event.Event {
	return &event.Event{At: at, Kind: event.Open, Proc: &event.Proc{PID: 9, Comm: comm}, Open: &event.OpenInfo{Path: path, Errno: 2}}
}

// LVM is asked once about each volume, when the host has come to rest.
func TestAskerDue(t *testing.T) {
	var a asker
	due := func(at event.Time) []lvm.Volume { return a.due(at, 30*time.Second) }
	for _, e := range []*event.Event{
		vain(10*second, "qemu-system-x86", "/dev/vg0/a"),
		vain(11*second, "agent", "/dev/mapper/vg0-b"),
		vain(12*second, "agent", "/dev/vg0/a"),
		vain(13*second, "lvm", "/dev/vg0/nobodys-business"),
		vain(13*second, "agent", "/dev/sda"),
		{At: 35 * second, Kind: event.DMResume, DM: &event.DMInfo{}},
	} {
		a.observe(e)
	}
	if got := due(39 * second); got != nil {
		t.Errorf("asked too early: %v", got)
	}
	if got := due(50 * second); got != nil {
		t.Errorf("asked while mappings were being made: %v", got)
	}
	if diff := cmp.Diff([]lvm.Volume{{VG: "vg0", LV: "a"}, {VG: "vg0", LV: "b"}}, due(66*second)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	a.observe(vain(67*second, "agent", "/dev/vg0/c"))
	if got := due(200 * second); got != nil {
		t.Errorf("asked twice at a time: %v", got)
	}
	a.done(0, nil)
	if got := due(200 * second); len(got) != 1 {
		t.Errorf("a later one was not asked about: %v", got)
	}
	a.done(0, nil)
	a.observe(vain(201*second, "agent", "/dev/vg0/a"))
	if got := due(600 * second); got != nil {
		t.Errorf("asked again: %v", got)
	}
}

// A user who looks for thousands of volumes that don't exist has LVM asked about some of
// them, and about those of others all the same.
func TestAskerAsksForAll(t *testing.T) {
	var a asker
	for i := range 2 * maxVolumes {
		e := vain(10*second, "agent", fmt.Sprintf("/dev/vg0/made-up-%d", i))
		e.Proc.UID = 1000
		a.observe(e)
	}
	a.observe(vain(11*second, "qemu-system-x86", "/dev/vg0/root"))
	volumes := a.due(100*second, 30*time.Second)
	if n := len(volumes); n != maxVolumesOfUser+1 || volumes[n-1].LV != "root" {
		t.Errorf("LVM is asked about %d volumes", n)
	}
}

// A volume about which LVM gave no answer is asked about again, not for ever.
func TestAskerRetries(t *testing.T) {
	var a asker
	a.observe(vain(10*second, "agent", "/dev/vg0/a"))
	asked := 0
	for at := 10 * second; at < 1000*second; at += second {
		if volumes := a.due(at, 30*time.Second); volumes != nil {
			asked++
			a.done(at, volumes)
		}
	}
	if asked != maxTries {
		t.Errorf("asked %d times, want %d", asked, maxTries)
	}
}

// A host on which mappings are made all the time is asked in the end.
func TestAskerPatience(t *testing.T) {
	var a asker
	a.observe(vain(10*second, "agent", "/dev/vg0/a"))
	asked := event.Time(0)
	for at := 10 * second; at < 1000*second && asked == 0; at += second {
		a.observe(&event.Event{At: at, Kind: event.DMCreate, DM: &event.DMInfo{}})
		if a.due(at, 30*time.Second) != nil {
			asked = at
		}
	}
	if asked != 310*second {
		t.Errorf("asked at %v", asked.Seconds())
	}
	if a.due(2000*second, 0) != nil {
		t.Error("asked although that is turned off")
	}
}
