package tracefs

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/ebpf"
	"github.com/bootrace/bootrace/tracer/probe/execs"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/probe/probetest"
)

func TestMain(m *testing.M) { probetest.Main(m) }

// openTest opens the backend, or skips where this kernel has no kprobes.
func openTest(t testing.TB, opts backend.Options) *Backend {
	t.Helper()
	return openTestAs(t, opts, asIf{})
}

func openTestAs(t testing.TB, opts backend.Options, as asIf) *Backend {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root to attach probes")
	}
	b, err := openAs(context.Background(), opts, as)
	if errors.Is(err, backend.ErrNoTracefs) || errors.Is(err, backend.ErrNotSupported) {
		t.Skip("NOT TESTED:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// clocksToTest are the best trace clock, and the one that 3.10 has.
var clocksToTest = []ftrace.Clock{"", "global"}

// TestTellsTheSame has both backends watch the same acts.
func TestTellsTheSame(t *testing.T) {
	for _, clock := range clocksToTest {
		t.Run("clock "+string(clock), func(t *testing.T) { tellsTheSame(t, asIf{clock: clock}) })
	}
	// As before Linux 4.12.
	t.Run("few returns", func(t *testing.T) { tellsTheSame(t, asIf{fewReturns: true}) })
}

func tellsTheSame(t *testing.T, as asIf) {
	t.Helper()
	tf := openTestAs(t, backend.Options{}, as)
	if as.fewReturns && !tf.calls.byDescriptor {
		t.Log("NOT TESTED: this kernel has other functions where opens end")
	}
	eb, err := ebpf.Open(t.Context(), backend.Options{})
	if errors.Is(err, backend.ErrNoBTF) {
		t.Skip("NOT TESTED:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer eb.Close()
	for _, a := range tf.Info().Abilities {
		t.Logf("%+v", a)
	}
	var want []event.Event
	got := probetest.Trace(t, tf, func() {
		want = probetest.Trace(t, eb, func() { actBoth(t, tf, eb) })
	})
	compare(t, got, want)
	tf.calls.mu.Lock()
	defer tf.calls.mu.Unlock()
	if len(tf.calls.missed) > 0 {
		t.Errorf("calls whose end was missed: %v", tf.calls.missed)
	}
}

func actBoth(t *testing.T, backends ...interface{ DeviceMapperLoaded() error }) {
	t.Helper()
	runtime.LockOSThread() // who makes a link renames it
	defer runtime.UnlockOSThread()
	_, noModules := os.Stat("/lib/modules")
	if _, err := exec.LookPath("dmsetup"); err == nil && noModules == nil {
		_ = exec.Command("modprobe", "dm_mod").Run()
		for _, b := range backends {
			if err := b.DeviceMapperLoaded(); err != nil {
				t.Error(err)
			}
		}
		probetest.Act(t, backends[0])
	}
	_ = probetest.Staying(probetest.Guest(t, "qemu-system-x86_64", probetest.ManyArgs(100<<10)...)).Run()
	_ = probetest.Guest(t, "qemu-img").Run()
	dir, err := os.MkdirTemp("/dev", "bootrace-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := probetest.MakeLinks(dir); err != nil {
		t.Error(err)
	}
	if l, err := net.Listen("unix", filepath.Join(dir, "socket")); err == nil {
		_ = probetest.TryOpen(l.Addr().String(), unix.O_PATH|unix.O_CLOEXEC)
		l.Close()
	}
	_ = probetest.TryOpen("/dev/bootrace-test/nothing-here", unix.O_RDWR|unix.O_CLOEXEC)
}

// TestAttachesAgain has somebody else turn the probes off or remove them:
// what is missed is told, and not more than that is.
func TestAttachesAgain(t *testing.T) {
	owner, err := ftrace.Owner()
	if err != nil {
		t.Fatal(err)
	}
	for name, disturb := range map[string]string{
		"events are off":     `echo 0 >$1/events/$2/enable`,
		"trace is off":       `echo 0 >$1/tracing_on`,
		"execs are off":      `echo 0 >$1/events/sched/enable`,
		"events are removed": `echo 0 >$1/events/$2/enable; sed -n "s|^[pr][0-9]*:\($2/[^ ]*\).*|-:\1|p" $3/kprobe_events | while read e; do echo "$e" >>$3/kprobe_events || true; done`, // some may be gone, or back, by then
	} {
		t.Run(name, func(t *testing.T) {
			b := openTest(t, backend.Options{LossInterval: 100 * time.Millisecond})
			const path = "/dev/bootrace-test/again"
			events := probetest.Trace(t, b, func() {
				if out, err := exec.Command("sh", "-c", disturb, "sh", filepath.Join(string(b.dir), "instances", owner), owner, string(b.dir)).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
				for until := time.Now().Add(time.Minute); b.intact() != nil; time.Sleep(10 * time.Millisecond) {
					if time.Now().After(until) {
						t.Error("the probes do not come back")
						return
					}
				}
				_ = probetest.TryOpen(path, unix.O_RDWR)
			})
			if len(probetest.OpensOf(events, path)) != 1 {
				t.Errorf("the next open is not told: %+v", events)
			}
			losses := slices.DeleteFunc(events, func(e event.Event) bool { return e.Kind != event.Loss })
			// Once, or twice where what came back is removed, too.
			if !slices.ContainsFunc(losses, func(e event.Event) bool { return e.Loss.What == lossAll }) {
				t.Errorf("no loss is told: %+v", losses)
			}
			for _, e := range losses {
				// Whoever was within an open just then has lost its return.
				if e.Loss.What != lossAll && e.Loss.What != lossOpen || e.From == 0 || e.From >= e.At {
					t.Errorf("loss: %+v from %d to %d", *e.Loss, e.From, e.At)
				}
			}
		})
	}
}

// The probes of execve come back, too.
func TestAttachesAgainExecs(t *testing.T) {
	b := openTest(t, backend.Options{}) // or skips
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	source, err := execs.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	owner, err := ftrace.Owner()
	if err != nil {
		t.Fatal(err)
	}
	enabled := filepath.Join(string(b.dir), "instances", owner, "events", owner, "enable")
	until := time.Now().Add(time.Minute)
	for os.WriteFile(enabled, []byte("0"), 0) != nil { // it may be making its instance anew
		if time.Sleep(10 * time.Millisecond); time.Now().After(until) {
			t.Fatalf("there is no %s", enabled)
		}
	}
	for ; ; time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(enabled)
		if strings.TrimSpace(string(text)) == "1" {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("they do not come back: %q, %v", text, err)
		}
	}
}

// compare holds what the two told against each other, but for sources and for
// what neither can be blamed for.
func compare(t *testing.T, got, want []event.Event) {
	t.Helper()
	relevant := func(events []event.Event) []event.Event {
		return slices.DeleteFunc(events, func(e event.Event) bool {
			return e.Kind == event.Source || e.Proc == nil ||
				e.Kind == event.Open && strings.HasPrefix(e.Open.Path, "/dev/.") // udev's
		})
	}
	got, want = relevant(got), relevant(want)
	tellAll := func(events []event.Event) []string {
		var lines []string
		for _, e := range events {
			lines = append(lines, tellShort(e))
		}
		slices.Sort(lines)
		return lines
	}
	g, w := tellAll(got), tellAll(want)
	for _, line := range w {
		if !slices.Contains(g, line) {
			t.Errorf("tracefs does not tell %s", line)
		}
	}
	for _, line := range g {
		if !slices.Contains(w, line) {
			t.Errorf("eBPF does not tell %s", line)
		}
	}
	for _, e := range got {
		checkSameTime(t, e, want)
	}
}

func tellShort(e event.Event) string {
	parts := []string{string(e.Kind), e.Proc.Comm}
	switch {
	case e.Open != nil:
		parts = append(parts, e.Open.Path, e.Open.Target, e.Open.Type, unix.ErrnoName(unix.Errno(e.Open.Errno)))
	case e.DM != nil:
		parts = append(parts, e.DM.Name, e.DM.UUID, e.DM.NewName, unix.ErrnoName(unix.Errno(e.DM.Errno)))
	case e.Exec != nil:
		parts = append(parts, e.Exec.Filename, strings.Join(e.Exec.Args, " ")[:min(200, len(strings.Join(e.Exec.Args, " ")))])
	case e.Exit != nil:
		parts = append(parts, unix.SignalName(unix.Signal(e.Exit.Signal)), string(rune('0'+e.Exit.Status)))
	}
	return strings.Join(parts, " | ")
}

// emulated bounds how far apart the two can be about one instant: their probes
// run one after the other, the proc connector tells of an end only when the
// parent is told, others run in between where the kernel preempts itself, and all
// that is emulated.
const emulated = 500 * time.Millisecond

// checkSameTime: the windows of the same event overlap.
func checkSameTime(t *testing.T, e event.Event, others []event.Event) {
	t.Helper()
	line := tellShort(e)
	best := event.Duration(1 << 62)
	for _, o := range others {
		if tellShort(o) == line && o.Proc.PID == e.Proc.PID {
			best = min(best, max(o.Earliest().Sub(e.At), e.Earliest().Sub(o.At), 0))
		}
	}
	exact := e.Kind != event.Exec && e.Kind != event.Fork && e.Kind != event.Exit
	if best > emulated || exact && best > 0 {
		t.Errorf("%s by process %d: %v apart", line, e.Proc.PID, best)
	}
}
