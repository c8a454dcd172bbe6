// Package hold keeps a guest's start back until its disks are ready.
//
// A guest's launcher executes qemu, and that exec waits in the kernel until it
// is answered (see Gate). What is no guest, or needs nothing that is not there,
// goes on at once; every other start is a hold: it ends when the disks are
// ready, at its deadline, by hand, or when bootrace itself ends, whichever
// comes first. Holds do not wait for each other.
//
// # Never in the way
//
// Whatever goes wrong here, guests start. The kernel lets all execs go on when
// the gate closes, so the end of this process in any way is enough; and the
// gate is closed when its reader fails or makes no progress. An answer is given
// first, and told afterwards: whoever stores or prints may be the one that
// waits. A hold's deadline is a timer of its own that starts no read; between it
// and the answer there is only the gate's thread, which waits for nobody.
package hold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/readiness"
)

// Source is the name under which holds are recorded.
const Source = "hold"

// Watch follows the disks of one guest: readiness.Watch.
type Watch interface {
	Verdict() readiness.Verdict
	Changed() <-chan struct{}
	Close()
}

// Doubt is a disk that is not what the guest last ran on.
type Doubt struct {
	Kind string `json:"kind"` // substituted, shrunk, vanished
	Disk string `json:"disk"`
	Text string `json:"text"` // what it is now and what it was, for people
}

// Options say how starts are held.
type Options struct {
	Watch func(readiness.Request) (Watch, error)
	// Last returns what a guest last ran on, nil if that is not known: it is
	// waited for whatever its path. nil: nothing is ever known.
	Last func(g *guest.Guest) []event.MemoryDisk
	// Compare tells where the disks of a guest, all ready, are not what it last
	// ran on. Its error says why that can't be told yet, such as before the disk
	// with the memory of earlier boots is there. nil: nothing is ever known.
	Compare func(g *guest.Guest, members []readiness.Member) ([]Doubt, error)
	// Inspect begins a look into the disks of a guest, and does not wait; nil where they
	// are not looked into. nil: they never are.
	Inspect func(Start) Look
	// Activate brings up what is waited for. nil: there is no way to.
	Activate func(ctx context.Context, blockers []readiness.Blocker)
	Record   func(event.Event)
	Config   config.Enforce
	Log      *slog.Logger

	attempts []attempt // in which to hold starts; nil: all that there are
}

// Holder holds starts while it runs.
type Holder struct {
	opts     Options
	method   *method
	cfg      atomic.Pointer[config.Enforce]
	gate     Gate
	restore  func() // puts back its number of processors
	programs *programs
	reload   chan struct{}
	// progress counts what the reader has taken from the gate, and swept is when
	// all holds were last looked at.
	progress atomic.Uint64
	swept    atomic.Int64
	counts   counts
	room     room
	readers  *readers
	missed   missed
	deaths   *deaths
	alive    func(*Task) bool // alive, but in tests
	journal  *journal         // lines about starts
	bell     bell
	patience time.Duration // readLimit, but in tests
	failed   chan error
	over     atomic.Bool // the gate is closed, or about to be

	mu      sync.Mutex
	running map[*hold]struct{} // every exec that waits for an answer
	letGo   map[process]letGo
	waited  map[string]event.Time // when others let a guest go, by its UUID
	refused []Refusal
	workers sync.WaitGroup
}

// counts are what became of starts.
type counts struct {
	seen, passed, held, allowed, denied, gone, unread, overflowed, unseen atomic.Uint64
	slowest                                                               atomic.Int64
}

// Open finds out whether starts can be held on this host, and guards the
// programs. From then on their execs wait for Run, which must follow. The error
// is an *UnsupportedError where they can't be held.
func Open(ctx context.Context, o Options) (*Holder, error) {
	method, err := choose(ctx, o.attempts, o.Log)
	if err != nil {
		return nil, err
	}
	gate, err := method.gate()
	if err != nil {
		return nil, errors.Join(err, method.close())
	}
	if err := urgency.enable(); err != nil {
		o.Log.Warn("starts are held at the priority of everything else: on a busy host they may go on unseen", "error", err)
	}
	h := &Holder{
		opts: o, method: method, gate: gate, restore: raiseProcessors(), reload: make(chan struct{}, 1), room: room{of: map[uint32]load{}}, readers: newReaders(), deaths: newDeaths(), alive: alive, journal: &journal{log: o.Log}, patience: readLimit, failed: make(chan error, 4),
		running: map[*hold]struct{}{}, letGo: map[process]letGo{}, waited: map[string]event.Time{},
	}
	h.cfg.Store(&o.Config)
	if err = h.guard(); err != nil {
		h.deaths.close()
		gate.Close()
		urgency.disable()
		h.restore()
		return nil, errors.Join(err, method.close())
	}
	h.warnUnused()
	return h, nil
}

// guard guards the programs. Their starts wait for a Run that has not begun: where
// finding all of them takes its time, as it does where storage does not answer, they
// go on, and nothing is held.
func (h *Holder) guard() error {
	programs, err := newPrograms(h.opts.Config.Binaries, h.gate, h.opts.Log)
	if err != nil {
		return err
	}
	late := time.AfterFunc(guardLimit, func() {
		h.gate.Close()
		h.opts.Log.Error("starts go on: the programs that run guests are still looked for", "for", guardLimit)
	})
	err = programs.scan()
	if !late.Stop() {
		err = errors.Join(err, fmt.Errorf("the programs that run guests were not found within %s", guardLimit))
	}
	if err != nil {
		return errors.Join(err, programs.close())
	}
	h.programs = programs
	return nil
}

const (
	// guardLimit is how long guarding the programs may take, which takes
	// milliseconds.
	guardLimit = 5 * time.Second
	// tryLimit is how long a first exec of our own may take.
	tryLimit = 10 * time.Second
	// readLimit is how long the arguments of a start may take to read. It is a
	// fraction of a millisecond, where nothing is wrong.
	readLimit = 10 * time.Second
	// sweepPeriod is how often it is looked whether holds are answered in time, and
	// for held guests that were killed, where that is not told.
	sweepPeriod = 500 * time.Millisecond
	// lookAll is after how many sweeps the others are looked at, too: twice a minute.
	lookAll = 60
)

// Run answers execs until ctx ends; its cause is the reason that is recorded
// with the holds that it ends. The error says why no start is held any more.
func (h *Holder) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var helpers sync.WaitGroup
	h.guarded(&helpers, func() error { return h.read() })
	h.guarded(&helpers, func() error { return h.programs.run(ctx, h.warnUnused) })
	h.guarded(&helpers, func() error { return h.programs.followMounts(ctx, h.warnUnused) })
	h.guarded(&helpers, func() error { return h.sweep(ctx) })
	h.guarded(&helpers, func() error {
		return h.deaths.run(h.killed)
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-h.failed:
	}
	// First of all everything goes on.
	h.open()
	cancel(err)
	why := event.ReleaseEnd
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		why = event.HoldReason(cause.Error())
	}
	for _, d := range h.list() {
		h.finish(d, true, why)
	}
	h.deaths.close()
	helpers.Wait()
	h.missed.record(h.opts.Record, h.opts.Log, event.Now(), true)
	h.programs.close()
	h.workers.Wait()
	urgency.disable()
	h.restore()
	return errors.Join(err, h.method.close())
}

// guarded runs f; its error, or a panic, ends all holding.
func (h *Holder) guarded(wg *sync.WaitGroup, f func() error) {
	wg.Go(func() {
		if err := h.recovered(f); err != nil && !errors.Is(err, os.ErrClosed) {
			select {
			case h.failed <- err:
			default: // an earlier one counts
			}
		}
	})
}

// open lets everything go on. From then on a task that ends was not killed while it was
// held.
func (h *Holder) open() {
	h.over.Store(true)
	h.gate.Close()
}

func (h *Holder) recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			h.open()
			err = fmt.Errorf("internal error: %v", p)
			h.opts.Log.Error("holding of starts panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	return f()
}

// Use takes over another configuration. Running holds keep theirs; from now on the
// starts of the programs that its patterns lead to are held, and no others.
func (h *Holder) Use(c config.Enforce) {
	h.cfg.Store(&c)
	h.programs.use(c.Binaries)
	if err := h.programs.scan(); err != nil {
		h.opts.Log.Error("programs are not guarded", "error", err)
	}
	h.warnUnused()
}

// Method returns how starts are held on this host, and how long a hold may last
// by that method whatever the configuration says; 0: as long as that says.
func (h *Holder) Method() (name string, longest time.Duration) {
	return h.method.name, h.method.Longest
}

func (h *Holder) warnUnused() { h.programs.warnUnused(h.cfg.Load().HasUsualBinaries()) }

// read takes execs from the gate, one at a time, and has each looked at on its
// own.
func (h *Holder) read() error {
	defer h.open()
	for {
		e, err := h.gate.Next()
		h.progress.Add(1)
		switch {
		case errors.Is(err, ErrOverflow):
			h.counts.overflowed.Add(1)
			h.missed.add(err.Error(), event.Now())
		case err != nil:
			return err
		default:
			h.begin(e)
		}
	}
}

// killed ends a hold whose task is no more.
func (h *Holder) killed(d *hold) {
	if !h.over.Load() {
		h.finish(d, true, event.ReleaseKilled)
	}
}

func (h *Holder) list() []*hold {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*hold, 0, len(h.running))
	for d := range h.running {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b *hold) int {
		return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.exec.Key, b.exec.Key))
	})
	return list
}
