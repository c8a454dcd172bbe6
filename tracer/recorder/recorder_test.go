package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
)

// memory is a sink that keeps copies of what it is given.
type memory struct {
	mu     sync.Mutex
	events []event.Event
}

func (m *memory) Append(e *event.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.ID = uint64(len(m.events) + 1)
	m.events = append(m.events, *e)
}

func (m *memory) of(kind event.Kind) []event.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []event.Event
	for _, e := range m.events {
		if e.Kind == kind {
			list = append(list, e)
		}
	}
	return list
}

func newRecorder(observers ...func(*event.Event)) (*Recorder, *memory) {
	m := new(memory)
	return New(m, slog.New(slog.DiscardHandler), observers...), m
}

// source runs a function.
type source struct {
	names []string
	run   func(ctx context.Context, emit func(event.Event)) error
}

func (s source) Info() []event.SourceInfo {
	var list []event.SourceInfo
	for _, n := range s.names {
		list = append(list, event.SourceInfo{Name: n, Abilities: []event.Ability{{Name: n, OK: true}}})
	}
	return list
}

func (s source) Run(ctx context.Context, emit func(event.Event)) error { return s.run(ctx, emit) }
func (s source) Close() error                                          { return nil }

func failedOpen(pid int, path string, at time.Duration) event.Event {
	return event.Event{At: event.Time(at), Kind: event.Open, Proc: &event.Proc{PID: pid}, Open: &event.OpenInfo{Path: path, Errno: 2, Size: -1}}
}

// A program spins on a path: some of it is kept, the rest is counted.
func TestRepeatedFailures(t *testing.T) {
	r, m := newRecorder()
	for i := range 1000 {
		r.Record(failedOpen(7, "/dev/vg/lv", time.Duration(i)*time.Millisecond))
	}
	if n := len(m.of(event.Open)); n != burst {
		t.Errorf("%d kept in one period, want %d", n, burst)
	}
	r.Record(failedOpen(7, "/dev/vg/lv", time.Duration(period)))
	got := m.of(event.Open)
	if last := got[len(got)-1]; len(got) != burst+1 || last.Open.Repeats != 1000-burst {
		t.Errorf("%d kept, the last after %d others", len(got), last.Open.Repeats)
	}
	r.Record(failedOpen(7, "/dev/vg/lv", time.Duration(period)+1))
	if got = m.of(event.Open); got[len(got)-1].Open.Repeats != 0 {
		t.Error("repeats are counted twice")
	}
	if n := r.Counts()[event.Open]; n != burst+2 {
		t.Errorf("counted %d", n)
	}
}

// Of repetitions that have ended, the last one is kept and counts the others.
func TestLastFailure(t *testing.T) {
	const tries = 100
	for name, end := range map[string]func(r *Recorder){
		"the process ends": func(r *Recorder) {
			r.Record(event.Event{At: tries, Kind: event.Exit, Proc: &event.Proc{PID: 7}, Exit: &event.ExitInfo{}})
		},
		"it does something else": func(r *Recorder) { r.quiet.settle(2*period, r.store) },
		"tracing ends":           func(r *Recorder) { r.Run(t.Context()) },
	} {
		r, m := newRecorder()
		for i := range tries {
			r.Record(failedOpen(7, "/dev/vg/lv", time.Duration(i)))
		}
		r.Record(event.Event{Kind: event.Exit, Proc: &event.Proc{PID: 8}, Exit: &event.ExitInfo{}})
		r.quiet.settle(event.Time(tries), r.store)
		if n := len(m.of(event.Open)); n != burst {
			t.Errorf("%s: %d are kept before, want %d", name, n, burst)
		}
		end(r)
		got := m.of(event.Open)
		if last := got[len(got)-1]; len(got) != burst+1 || last.At != tries-1 || last.Open.Repeats != tries-burst-1 {
			t.Errorf("%s: %d are kept, the last at %d after %d others", name, len(got), last.At, last.Open.Repeats)
		}
		end(r)
		if n := len(m.of(event.Open)); n != burst+1 {
			t.Errorf("%s: %d are kept after another end", name, n)
		}
	}
}

// What differs is no repetition; what succeeds is always kept.
func TestKept(t *testing.T) {
	for name, vary := range map[string]func(e *event.Event, i int){
		"path":    func(e *event.Event, i int) { e.Open.Path = fmt.Sprint("/dev/vg/lv", i) },
		"process": func(e *event.Event, i int) { e.Proc.PID = i },
		"error":   func(e *event.Event, i int) { e.Open.Errno = i + 1 },
		"success": func(e *event.Event, _ int) { e.Open.Errno = 0 },
		"link":    func(e *event.Event, _ int) { e.Kind = event.Link },
		"apart":   func(e *event.Event, i int) { e.At = event.Time(i) * period / burst },
	} {
		r, m := newRecorder()
		for i := range 100 {
			e := failedOpen(7, "/dev/vg/lv", 0)
			vary(&e, i)
			r.Record(e)
		}
		if len(m.events) != 100 {
			t.Errorf("%s: %d of 100 kept", name, len(m.events))
		}
	}
}

// Nobody makes the filter grow: not by many paths, not over a long time.
func TestFilterIsBounded(t *testing.T) {
	r, m := newRecorder()
	for i := range 3 * tracked {
		r.Record(failedOpen(i, "/dev/absent", time.Duration(i)))
		if n := len(r.quiet.runs); n > tracked {
			t.Fatalf("%d runs", n)
		}
	}
	if len(m.events) != 3*tracked {
		t.Errorf("%d events: a full filter must keep too much, not too little", len(m.events))
	}
	// What is old goes first.
	r, _ = newRecorder()
	for i := range tracked {
		r.Record(failedOpen(i, "/dev/old", 0))
	}
	r.Record(failedOpen(0, "/dev/old", time.Duration(period)))
	r.Record(failedOpen(0, "/dev/new", time.Duration(period)))
	if n := len(r.quiet.runs); n != 2 {
		t.Errorf("%d runs are left, want 2", n)
	}
}

func TestSecrets(t *testing.T) {
	var observed []event.Event
	r, m := newRecorder(func(e *event.Event) { observed = append(observed, *e) })
	args := []string{"qemu-system-x86_64", "-object", "secret,id=s0,data=hunter2", "-name", "a"}
	r.Record(event.Event{Kind: event.Exec, Proc: &event.Proc{PID: 1}, Exec: &event.ExecInfo{Args: args}})
	r.Record(event.Event{Kind: event.Backfill, Proc: &event.Proc{PID: 1}, Exec: &event.ExecInfo{Args: args}})
	r.Record(event.Event{Kind: event.DMCreate, Proc: &event.Proc{PID: 2, Args: []string{"sh", "-c", "x --password=hunter2"}}, DM: &event.DMInfo{}})
	for _, list := range [][]event.Event{m.events, observed} {
		if len(list) != 3 {
			t.Fatalf("%d events", len(list))
		}
		for _, e := range list {
			if text := string(e.AppendJSON(nil)); strings.Contains(text, "hunter2") {
				t.Errorf("a secret: %s", text)
			}
		}
	}
	if m.events[0].Exec.Args[4] != "a" {
		t.Errorf("what is no secret is kept: %q", m.events[0].Exec.Args)
	}
	if observed[0].ID != 1 {
		t.Error("an observer saw the event before it was stored")
	}
}

// A source that fails, or panics, is a loss from then on; the others go on.
func TestSourceFails(t *testing.T) {
	for name, run := range map[string]func(context.Context, func(event.Event)) error{
		"broken":   func(context.Context, func(event.Event)) error { return errors.New("broken") },
		"a decode": func(context.Context, func(event.Event)) error { panic("a decode") },
	} {
		t.Run(name, func(t *testing.T) {
			r, m := newRecorder()
			ctx, cancel := context.WithCancel(t.Context())
			failing := source{[]string{"uevent", "udev"}, run}
			other := source{[]string{"ebpf"}, func(ctx context.Context, emit func(event.Event)) error {
				for len(m.of(event.Loss)) < 2 && ctx.Err() == nil {
					time.Sleep(time.Millisecond)
				}
				emit(event.Event{Kind: event.Mark, Mark: &event.MarkInfo{Name: "after"}})
				cancel()
				return nil
			}}
			r.Attached(failing)
			r.Attached(other)
			r.Run(ctx, failing, other)
			losses := m.of(event.Loss)
			if len(losses) != 2 || losses[0].Src != "uevent" || losses[1].Src != "udev" || losses[0].Loss.What != "all" || !strings.Contains(losses[0].Loss.Why, name) {
				t.Errorf("losses %+v", losses)
			}
			if len(m.of(event.Mark)) != 1 {
				t.Error("the other source was stopped")
			}
			want := []event.SourceInfo{
				{Name: "uevent", State: "ended", Abilities: []event.Ability{{Name: "uevent", OK: true}}},
				{Name: "udev", State: "ended", Abilities: []event.Ability{{Name: "udev", OK: true}}},
				{Name: "ebpf", State: "attached", Abilities: []event.Ability{{Name: "ebpf", OK: true}}},
			}
			if diff := cmp.Diff(want, r.Sources()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRunEnds(t *testing.T) {
	r, m := newRecorder()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Run(ctx, source{[]string{"ebpf"}, func(ctx context.Context, emit func(event.Event)) error {
		<-ctx.Done()
		emit(event.Event{Kind: event.Mark, Mark: &event.MarkInfo{Name: "received before"}})
		return nil
	}})
	if len(m.events) != 1 || len(r.Sources()) != 0 {
		t.Errorf("events %+v, sources %+v", m.events, r.Sources())
	}
}

func BenchmarkRecord(b *testing.B) {
	r := New(nothing{}, slog.New(slog.DiscardHandler))
	e := failedOpen(7, "/dev/vg/lv", 0)
	e.Open.Errno = 0
	b.ReportAllocs()
	for b.Loop() {
		r.Record(e)
	}
}

type nothing struct{}

func (nothing) Append(*event.Event) {}
