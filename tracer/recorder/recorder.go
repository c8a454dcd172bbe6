// Package recorder joins the sources of one host into the log of its boot. It
// is the only place between a probe and the log: here arguments lose their
// secrets, repetitions are dropped, and a source that fails is noted.
package recorder

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// Source delivers events. Run returns nil when ctx ends, after it has
// delivered what it had already received.
type Source interface {
	// Info describes the source, or the several that it delivers.
	Info() []event.SourceInfo
	Run(ctx context.Context, emit func(event.Event)) error
	Close() error
}

// Sink stores events in the order in which they come, and gives them their
// ids. It doesn't block, and what it can't store it counts.
type Sink interface {
	Append(e *event.Event)
}

// Recorder moves events from sources to a sink.
type Recorder struct {
	// Fill adds to an event what can still be found out about its process, if
	// it is set; set it before the first event.
	Fill func(*event.Event)

	sink  Sink
	log   *slog.Logger
	quiet quiet
	// observers see each event that was recorded, after it was stored.
	observers []func(*event.Event)

	mu      sync.Mutex
	sources []event.SourceInfo
	counts  map[event.Kind]uint64
}

// New returns a Recorder that stores into sink. Observers are called from
// several goroutines, and must not block.
func New(sink Sink, log *slog.Logger, observers ...func(*event.Event)) *Recorder {
	return &Recorder{sink: sink, log: log, observers: observers, counts: map[event.Kind]uint64{}}
}

// Record stores one event, without its secrets, unless it repeats others.
func (r *Recorder) Record(e event.Event) { r.quiet.pass(&e, r.store) }

// store is Record of what is no repetition.
func (r *Recorder) store(e *event.Event) {
	if r.Fill != nil {
		r.Fill(e)
	}
	if e.Exec != nil {
		e.Exec.Args = guest.Parser{Program: e.Exec.Filename, Watched: true}.Redact(e.Exec.Args)
	}
	if e.Proc != nil && len(e.Proc.Args) > 0 {
		e.Proc.Args = guest.RedactCommand(e.Proc.Args)
	}
	if e.Kind == event.Source {
		r.note(*e.Source)
	}
	r.sink.Append(e)
	r.mu.Lock()
	r.counts[e.Kind]++
	r.mu.Unlock()
	for _, observe := range r.observers {
		observe(e)
	}
}

// Attached records that a source sees everything from now on.
func (r *Recorder) Attached(s Source) {
	for _, info := range s.Info() {
		info.State = "attached"
		r.Record(event.Event{At: event.Now(), Kind: event.Source, Src: info.Name, Source: &info})
	}
}

// Run moves the events of all sources until ctx ends. A source that fails
// before that is a loss in the record, from then on, and does not stop the
// others.
func (r *Recorder) Run(ctx context.Context, sources ...Source) {
	var running sync.WaitGroup
	for _, s := range sources {
		running.Go(func() {
			err := r.run(ctx, s)
			if err == nil {
				return
			}
			now := event.Now()
			for _, info := range s.Info() {
				r.log.Error("a source ended", "source", info.Name, "error", err)
				info.State, info.Abilities = "ended", nil
				r.Record(event.Event{At: now, Kind: event.Source, Src: info.Name, Source: &info})
				r.Record(event.Event{At: now, Kind: event.Loss, Src: info.Name, Loss: &event.LossInfo{
					Source: info.Name, What: "all", Why: err.Error(),
				}})
			}
		})
	}
	ended := make(chan struct{})
	go func() { running.Wait(); close(ended) }()
	r.settle(ended)
}

// settle lets go of repetitions that are over, until the sources have ended.
func (r *Recorder) settle(ended <-chan struct{}) {
	defer r.quiet.finish(r.store)
	tick := time.NewTicker(time.Duration(period))
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			r.quiet.settle(event.Now(), r.store)
		}
	}
}

// run turns a source's panic into its failure: one broken decoder must not end
// the tracing of a host.
func (r *Recorder) run(ctx context.Context, s Source) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("a source panicked", "source", s.Info()[0].Name, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error: %v", p)
		}
	}()
	return s.Run(ctx, r.Record)
}

func (r *Recorder) note(info event.SourceInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.sources {
		if r.sources[i].Name == info.Name {
			if info.Abilities == nil {
				info.Abilities = r.sources[i].Abilities
			}
			r.sources[i] = info
			return
		}
	}
	r.sources = append(r.sources, info)
}

// Sources returns the sources and their present state.
func (r *Recorder) Sources() []event.SourceInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]event.SourceInfo(nil), r.sources...)
}

// Counts returns how many events of each kind were recorded.
func (r *Recorder) Counts() map[event.Kind]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := make(map[event.Kind]uint64, len(r.counts))
	for k, n := range r.counts {
		counts[k] = n
	}
	return counts
}
