package tracefs

import (
	"testing"

	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/probe/probetest"
)

// A user whose threads wait in open(2) of a FIFO under /dev, more than a return had room
// for by the kernel's own reckoning and by MaxActive, hides no open of root's guest from
// the trace files.
func TestWaitingOpensOfOneUser(t *testing.T) {
	const waiting = ftrace.MaxActive + 100
	b := openTest(t, backend.Options{})
	fifo := probetest.FIFO(t)
	guest := probetest.Staying(probetest.Guest(t, "qemu-system-x86_64", "-drive", "file=/dev/vg/lv,if=none"))
	events := probetest.Trace(t, b, func() {
		probetest.Unleash(t, probetest.AsHostile(t, "/bin/sh", "patient", "-c", probetest.Children(waiting, ": <"+fifo)))
		_ = guest.Run()
	})
	if lost := probetest.LossesOf(events, 0); len(lost) > 0 {
		t.Errorf("lost: %v", lost)
	}
	probetest.CheckGuest(t, events, guest)
}

// TestNothingIsLost: however many open at a time, all is seen.
func TestNothingIsLost(t *testing.T) {
	probetest.CheckNothingIsLost(t, openTest(t, backend.Options{}))
}
