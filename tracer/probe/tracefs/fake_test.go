package tracefs

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/probe/probetest"
	"github.com/bootrace/bootrace/tracer/probe/procs"
)

// busyHost has a process that starts each millisecond.
type busyHost struct{ lost, closed atomic.Uint64 }

func (h *busyHost) Wait(time.Duration) error {
	time.Sleep(time.Millisecond)
	return nil
}

func (h *busyHost) Receive(each func(procs.Event)) error {
	each(procs.Event{At: event.Now(), Kind: procs.Fork, TID: otherPID, PID: otherPID, Parent: 1})
	return nil
}

func (h *busyHost) Lost() uint64 { return h.lost.Load() }

func (h *busyHost) Close() error {
	h.closed.Add(1)
	return nil
}

// The files of the trace that fakeBackend uses.
const (
	fakePages = "per_cpu/cpu0/trace_pipe_raw"
	fakeExec  = "events/sched/" + evExec
)

// fakeBackend is a backend that sees execs, in a folder like that of a kernel
// without instances.
func fakeBackend(t *testing.T, opts backend.Options, as asIf) (*Backend, *busyHost) {
	t.Helper()
	dir := t.TempDir()
	for file, text := range map[string]string{
		"kprobe_events": "", "kprobe_profile": "", "trace_clock": "[boot]\n", "buffer_size_kb": "7\n",
		"current_tracer": "nop\n", "set_event": "", "tracing_on": "1\n",
		fakePages: "", "per_cpu/cpu0/stats": "overrun: 0\n",
		fakeExec + "/enable": "", fakeExec + "/format": "name: " + evExec + "\nID: 308\n\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n",
	} {
		writeFake(t, dir, file, text)
	}
	host := &busyHost{}
	b := newBackend(opts.WithDefaults(), as, ftrace.Dir(dir), ftrace.ABI{})
	var err error
	if b.trace, err = b.dir.Open(b.options); err != nil {
		t.Fatal(err)
	}
	if _, err := b.attachExec(b.abi); err != nil {
		t.Fatal(err)
	}
	b.clock, b.procs = newClock(b.trace.Clock()), host
	// What is written to them is appended: they would show all that was.
	writeFake(t, dir, "tracing_on", "1\n")
	writeFake(t, dir, fakeExec+"/enable", "1\n")
	b.watching.Go(b.watch)
	t.Cleanup(func() { b.Close() })
	return b, host
}

func writeFake(t *testing.T, dir, file, text string) {
	t.Helper()
	path := filepath.Join(dir, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (t *Backend) queued() int {
	t.queueMu.Lock()
	defer t.queueMu.Unlock()
	return len(t.queue)
}

// Where the backend fails, nothing of it is left in the kernel, and nothing
// piles up.
func TestFails(t *testing.T) {
	for name, run := range map[string]func(t *testing.T, b *Backend) (failed bool){
		"a page is damaged": func(t *testing.T, b *Backend) bool {
			writeFake(t, string(b.dir), fakePages, "no page")
			return b.Run(context.Background(), func(event.Event) {}) != nil
		},
		"its reader panics": func(_ *testing.T, b *Backend) (failed bool) {
			defer func() { failed = recover() != nil }()
			_ = b.Run(context.Background(), func(event.Event) { panic("a decoder") })
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, host := fakeBackend(t, backend.Options{}, asIf{})
			if !run(t, b) {
				t.Fatal("it does not fail")
			}
			if text, _ := os.ReadFile(filepath.Join(string(b.dir), fakeExec, "enable")); !strings.HasSuffix(string(text), "0") {
				t.Errorf("the event is on: %q", text)
			}
			before := b.queued()
			time.Sleep(50 * time.Millisecond)
			if n := b.queued(); n > before {
				t.Errorf("%d process events are waiting for nobody, then %d", before, n)
			}
			if err := b.Close(); err != nil || host.closed.Load() != 1 {
				t.Errorf("closed again: %v, %d times", err, host.closed.Load())
			}
		})
	}
}

// A switch of root takes the trace files away for a moment, and /dev: the backend
// waits for them, and closes nothing.
func TestDuringASwitchOfRoot(t *testing.T) {
	var b *Backend
	tries := 0
	back := make(chan struct{})
	b, _ = fakeBackend(t, backend.Options{LossInterval: 10 * time.Millisecond, FindRoot: func() {
		if tries++; tries == 3 {
			if err := os.Rename(string(b.dir)+"-moved", string(b.dir)); err != nil {
				t.Error(err)
			}
			close(back)
		}
	}}, asIf{})
	if err := os.Rename(string(b.dir), string(b.dir)+"-moved"); err != nil {
		t.Fatal(err)
	}
	events := probetest.Trace(t, b, func() {
		select {
		case <-back:
		case <-time.After(10 * time.Second):
			t.Error("nobody looks for the real root")
		}
		time.Sleep(100 * time.Millisecond) // some looks more
	})
	for _, e := range events {
		if e.Kind != event.Source || e.Source.State == "upgraded" {
			t.Errorf("it tells %s %+v %+v", e.Kind, e.Loss, e.Source)
		}
	}
	if text, err := os.ReadFile(filepath.Join(string(b.dir), fakeExec, "enable")); string(text) != "1\n" {
		t.Errorf("the event was turned off: %q, %v", text, err)
	}
}

// The clock goes without an anchor that it cannot have, and says so of the first.
func TestWithoutAnchor(t *testing.T) {
	b, _ := fakeBackend(t, backend.Options{}, asIf{clock: "global"})
	b.calls.openSymbol = openSymbols[0]
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: limit.Max}); err != nil { // no open succeeds
		t.Fatal(err)
	}
	_, err := b.cycle()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Errorf("that ends it: %v", err)
	}
	if a := b.tieClock(); a.OK || a.Why == "" || b.clock.tied() {
		t.Errorf("the clock is tied by nothing: %+v", a)
	}
}

// A queue of process events that was full has lost forks, too: an open by a guest's
// child may then not be told.
func TestLosesProcesses(t *testing.T) {
	b, host := fakeBackend(t, backend.Options{}, asIf{})
	events := probetest.Trace(t, b, func() { host.lost.Store(2) })
	losses := slices.DeleteFunc(events, func(e event.Event) bool { return e.Kind != event.Loss })
	if len(losses) != 1 || losses[0].Loss.What != "all" || losses[0].Loss.Count != 2 {
		t.Errorf("losses %+v", losses)
	}
}

// A thread's end comes behind its last calls, also where the trace clock is off by
// all that it can be: they would be taken for lost.
func TestEndComesLast(t *testing.T) {
	const off = 2_000_000
	b, _ := fakeBackend(t, backend.Options{}, asIf{clock: "global"})
	now := event.Now()
	b.clock.tie(1, now-off, now+off)
	b.queueMu.Lock()
	b.queue = append(b.queue, procEvent{Event: procs.Event{At: now, Kind: procs.Exit, TID: otherPID, PID: otherPID}})
	b.queueMu.Unlock()
	hits, err := b.cycle()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(hits, func(h hit) bool { return h.proc.Kind == procs.Exit })
	if i < 0 || hits[i].at.Sub(now) < off || hits[i].proc.At != now {
		t.Errorf("at %d: %+v", now, hits)
	}
}
