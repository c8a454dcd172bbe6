package tasks

import (
	"os"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/probetest"
)

func TestMain(m *testing.M) { probetest.Main(m) }

// Without probes the decisive abilities are missing, with a reason, and guests
// are still seen as they begin and end.
func TestWithoutProbes(t *testing.T) {
	b := Open(backend.Options{}, "there are none")
	defer b.Close()
	for _, a := range b.Info().Abilities {
		if !a.OK && a.Why == "" {
			t.Errorf("%s: no reason", a.Name)
		}
	}
	if missing := backend.NotSeen(b.Info().Abilities); len(missing) < 2 {
		t.Errorf("not seen: %v", missing)
	}
	if b.source == nil || os.Geteuid() != 0 {
		t.Skip("NOT TESTED: process events are not delivered here")
	}
	guest := probetest.Guest(t, "qemu-system-x86_64", "-name", "x")
	kinds := map[event.Kind]int{}
	events := probetest.Trace(t, b, func() { _ = guest.Run() })
	for _, e := range events {
		if e.Proc == nil || e.Proc.PID != guest.Process.Pid {
			continue
		}
		kinds[e.Kind]++
		if e.Kind == event.Exit && e.Exit.Status != probetest.GuestStatus {
			t.Errorf("ended with %+v", e.Exit)
		}
		if e.Kind == event.Exec && (len(e.Exec.Args) != 3 || e.Exec.Filename != guest.Path) {
			t.Errorf("began as %+v", e.Exec)
		}
	}
	if kinds[event.Exec] != 1 || kinds[event.Exit] != 1 {
		t.Errorf("seen: %v", kinds)
	}
}
