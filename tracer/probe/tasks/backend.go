package tasks

import (
	"context"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/procs"
	"github.com/bootrace/bootrace/tracer/proc"
)

// Name is the backend's, as the source of its events.
const Name = "process"

// Backend is what is left where the kernel allows no probes: guests' starts and
// ends, from the proc connector if there is one.
type Backend struct {
	source   *procs.Source // nil: not available
	sourceIs error         // why not
	attached event.Time
	status   backend.Status // as it was opened

	mu    sync.Mutex
	table *Table
}

// Open never fails: where the kernel tells nothing of processes either, the backend
// sees nothing and says so. why says why there are no probes.
func Open(opts backend.Options, why string) *Backend {
	opts = opts.WithDefaults()
	b := &Backend{table: NewTable(Name, opts.Guests), status: backend.Status{Source: Name}}
	b.source, b.sourceIs = procs.Open()
	b.table.Told = b.source != nil
	b.attached = event.Now()
	for _, name := range []string{backend.AbilityExec, backend.AbilityExit} {
		a := event.Ability{Name: name, OK: b.source != nil}
		if !a.OK {
			a.Why = b.sourceIs.Error()
		}
		b.status.Abilities = append(b.status.Abilities, a)
	}
	for _, name := range []string{backend.AbilityDM, backend.AbilityOpen, backend.AbilityLink, backend.AbilityDMLiveInstant} {
		b.status.Abilities = append(b.status.Abilities, event.Ability{Name: name, Why: why})
	}
	return b
}

// Info implements probe.Backend.
func (b *Backend) Info() event.SourceInfo { return b.status.Info(backend.Attached) }

// AddGuest implements probe.Backend.
func (b *Backend) AddGuest(pid int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.table.AddGuest(pid)
}

// DeviceMapperLoaded implements probe.Backend: nothing waits for it here.
func (b *Backend) DeviceMapperLoaded() error { return nil }

// Run implements probe.Backend.
func (b *Backend) Run(ctx context.Context, emit func(event.Event)) error {
	emit(b.status.Event(backend.Attached, b.attached, 0))
	if b.source == nil {
		<-ctx.Done()
	}
	lost := backend.Losses{Source: Name, Why: "the queue of process events was full", Polled: b.attached}
	for b.source != nil {
		ended, looked := ctx.Err(), event.Now()
		err := b.source.Receive(func(e procs.Event) {
			for _, ev := range b.handle(e) {
				emit(ev)
			}
		})
		if err != nil {
			return err
		}
		for _, e := range lost.Poll(looked, map[backend.Loss]uint64{{What: "exec"}: b.source.Lost()}, ended != nil) {
			emit(e)
		}
		if ended != nil {
			break
		}
		const patience = 100 * time.Millisecond // until it looks whether ctx ended
		if err := b.source.Wait(patience); err != nil {
			return err
		}
	}
	emit(b.status.Event(backend.Ended, event.Now(), 0))
	return nil //nolint:nilerr // asked to end, and nothing is left in the queue
}

func (b *Backend) handle(e procs.Event) []event.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Kind != procs.Exec {
		return b.table.Process(e)
	}
	// There is no record of the exec itself: the program's path is what
	// /proc says a moment later.
	exe, _ := os.Readlink(proc.Path(e.PID, "exe")) // nothing, if it has ended
	return b.table.Exec(e.At, e.PID, strings.TrimSuffix(exe, " (deleted)"))
}

// OwnLosses implements probe.Backend: users have no shares here.
func (b *Backend) OwnLosses() []event.LossInfo { return nil }

// Losses implements probe.Backend.
func (b *Backend) Losses() map[string]uint64 {
	if b.source == nil || b.source.Lost() == 0 {
		return map[string]uint64{}
	}
	return map[string]uint64{"exec": b.source.Lost()}
}

// Close implements probe.Backend.
func (b *Backend) Close() error {
	if b.source == nil {
		return nil
	}
	return b.source.Close()
}
