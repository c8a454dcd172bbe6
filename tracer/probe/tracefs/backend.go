// Package tracefs watches a kernel through its trace files, for kernels without eBPF, from
// Linux 3.10 on: kprobe events and the scheduler's tracepoint of execs, read from a trace
// instance of our own (package ftrace), and the proc connector (package procs). What the
// eBPF programs decide in the kernel is decided here, so it sees the same, later and at a
// higher price.
//
// The way of one open: a probe at the entry of the function that all opens go through
// records the path, and one at its return what was opened (probes.go). Each 25 ms Run
// takes what the trace has recorded (run.go) and tells when that was by the boot clock
// (clock.go). calls joins the entry with the return (calls.go), asks package tasks whose
// open it was and package syscalls whether it is worth telling, and makes the event. A
// request of device-mapper goes the same way; what it has changed is asked of
// device-mapper itself, a moment later (dm.go).
//
// The probes are defined in attach.go, as this kernel takes them. They use functions and
// structures that are nobody's interface: what they need of a function is its name and
// the place of its arguments, and where the kernel keeps a file's type and size is found
// by looking (layout.go). Somebody else can turn the probes off, by resetting the trace
// files: then Run attaches them anew, and tells what it did not see.
package tracefs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/probe/procs"
	"github.com/bootrace/bootrace/tracer/probe/syscalls"
	"github.com/bootrace/bootrace/tracer/probe/tasks"
)

// Name is the backend's, as the source of its events.
const Name = "tracefs"

// Backend is the probes, attached.
type Backend struct {
	log      *slog.Logger
	interval time.Duration
	findRoot func()
	dir      ftrace.Dir
	abi      ftrace.ABI
	options  ftrace.Options
	trace    *ftrace.Instance
	procs    processEvents // nil: not available
	noProcs  error         // why
	watching sync.WaitGroup
	unwatch  chan struct{}
	clock    *clock
	calls    calls
	asIf     asIf
	began    event.Time
	attached event.Time

	queueMu sync.Mutex
	queue   []procEvent // in the order in which they came

	mu      sync.Mutex
	status  backend.Status
	waiting bool // for dm_mod, to attach to returns in it
	damaged uint64
	counted map[string]uint64 // losses of trace, the most that was read
	before  map[string]uint64 // those of the instances before it
	closed  bool
}

// asIf has the backend take this kernel for another one. Tests do.
type asIf struct {
	clock      ftrace.Clock             // of the trace, if not empty
	refuses    func(ftrace.Probe) error // says which probes the kernel does not take; nil: it takes all
	fewReturns bool                     // it keeps room for few returns at a time
}

// processEvents is what the kernel tells of processes; see procs.Source.
type processEvents interface {
	Wait(limit time.Duration) error
	Receive(each func(procs.Event)) error
	Lost() uint64
	Close() error
}

// procEvent is a process event with what could still be read of a new program.
type procEvent struct {
	procs.Event
	read *tasks.Task // nil: nothing
}

// Open attaches probes without eBPF. What it cannot attach on this
// kernel is in the abilities of Info; it fails if it can attach nothing. ctx
// ends the attempt, not the backend.
func Open(ctx context.Context, opts backend.Options) (*Backend, error) {
	return openAs(ctx, opts, asIf{})
}

func openAs(ctx context.Context, opts backend.Options, as asIf) (*Backend, error) {
	t, err := open(ctx, opts.WithDefaults(), as)
	if err != nil {
		return nil, fmt.Errorf("start tracefs probes: %w", err)
	}
	return t, nil
}

func open(ctx context.Context, opts backend.Options, as asIf) (*Backend, error) {
	a, err := ftrace.ThisABI()
	if err != nil {
		return nil, reason(err)
	}
	if err := opts.CheckGuests(); err != nil {
		return nil, err
	}
	dir, err := ftrace.Find()
	if err != nil {
		return nil, reason(err)
	}
	if err := ftrace.RemoveStale(); err != nil && !errors.Is(err, ftrace.ErrNotPermitted) { // that, Open says
		opts.Log.Warn("remove what a killed bootrace has left", "err", err)
	}
	t := newBackend(opts, as, dir, a)
	t.trace, err = dir.Open(t.options)
	if err != nil {
		return nil, reason(err)
	}
	t.clock = newClock(t.trace.Clock())
	if err := t.start(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func newBackend(opts backend.Options, as asIf, dir ftrace.Dir, a ftrace.ABI) *Backend {
	return &Backend{
		log: opts.Log, interval: opts.LossInterval, findRoot: opts.FindRoot, began: event.Now(),
		dir: dir, abi: a, options: ftrace.Options{BufferKB: bufferKB(opts.RingBytes), Clock: as.clock},
		unwatch: make(chan struct{}), calls: newCalls(opts.Guests), asIf: as, status: backend.Status{Source: Name},
		counted: map[string]uint64{}, before: map[string]uint64{},
	}
}

// reason turns ftrace's reasons into those of package backend.
func reason(err error) error {
	for from, to := range map[error]error{
		ftrace.ErrNoTracing: backend.ErrNoTracefs, ftrace.ErrNotPermitted: backend.ErrNotPermitted,
		ftrace.ErrNoKprobes: backend.ErrNotSupported, ftrace.ErrBusy: backend.ErrNotSupported, ftrace.ErrNoABI: backend.ErrNotSupported,
	} {
		if errors.Is(err, from) {
			return fmt.Errorf("%w: %w", to, err)
		}
	}
	return err
}

// minBufferKB holds what a processor records between two looks.
const minBufferKB = 512

// bufferKB divides the memory for the buffers by the processors.
func bufferKB(bytes int) int { return max(bytes>>10/runtime.NumCPU(), minBufferKB) }

// start attaches everything and notes what that gives.
func (t *Backend) start(ctx context.Context) error {
	if source, err := procs.Open(); err != nil {
		t.noProcs = err
	} else {
		t.procs, t.calls.tasks.Told = source, true
		t.watching.Go(t.watch)
	}
	abilities, err := t.attach(ctx)
	if err != nil {
		return err
	}
	t.status.Abilities = append(abilities, t.tieClock())
	t.attached = event.Now()
	return nil
}

// reattach attaches everything anew, in an instance of its own again. It fails if
// that does not give what verdicts need, and there was before.
func (t *Backend) reattach(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return backend.ErrClosed
	}
	if err := t.trace.Close(); err != nil {
		t.log.Debug("remove what is left of the probes", "err", err)
	}
	for what, n := range t.counted {
		t.before[what] += n
	}
	clear(t.counted)
	t.calls.forget()
	t.waiting = false
	trace, err := t.dir.Open(t.options)
	if err != nil {
		return reason(err)
	}
	t.trace = trace
	abilities, err := t.attach(ctx)
	if err != nil {
		return err
	}
	before := t.status.Abilities
	had := backend.NotSeen(before)
	for _, a := range before {
		if a.Name == backend.AbilityClock {
			abilities = append(abilities, a)
		}
	}
	t.status.Abilities = abilities
	if missing := backend.NotSeen(abilities); len(missing) > len(had) {
		t.status.Abilities = before
		return fmt.Errorf("%w: cannot attach again to: %s", backend.ErrNotSupported, strings.Join(missing, ", "))
	}
	t.status.Upgrade(event.Now())
	return nil
}

// tieClock makes the first anchor.
func (t *Backend) tieClock() event.Ability {
	ability := event.Ability{Name: backend.AbilityClock, OK: true}
	if t.clock.exact {
		return ability
	}
	if t.calls.openSymbol == "" {
		ability.OK, ability.Why = false, "the trace clock cannot be tied to boottime without the probe of opens"
		return ability
	}
	// The first readings meet code that has never run: the tightest counts.
	const tries = 5
	var best anchor
	for range tries {
		*t.clock = clock{}
		if _, err := t.cycle(); err != nil {
			ability.OK, ability.Why = false, err.Error()
			return ability
		}
		if a := t.clock.now; t.clock.tied() && (best.trace == 0 || a.err < best.err) {
			best = a
		}
	}
	*t.clock = clock{now: best}
	if !t.clock.tied() {
		ability.OK, ability.Why = false, "an own open, which ties the trace clock to boottime, was not told"
		return ability
	}
	ability.Why = fmt.Sprintf("trace clock %q, tied to boottime again each second, to within %v at first", t.trace.Clock(), t.clock.error(event.Now()).Round(time.Microsecond))
	if source := clockSource(); tickBound(source) {
		ability.Why += fmt.Sprintf("; this kernel does not trust its TSC (its clock is %s): while a timer tick is late, records are early by as much", source)
	}
	return ability
}

// Info implements probe.Backend.
func (t *Backend) Info() event.SourceInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status.Info(backend.Attached)
}

// AddGuest implements probe.Backend.
func (t *Backend) AddGuest(pid int) error {
	t.calls.mu.Lock()
	defer t.calls.mu.Unlock()
	return t.calls.tasks.AddGuest(pid)
}

// DeviceMapperLoaded attaches what had to wait for the module, and checks that what
// was armed before is in it: until then the kernel takes any name.
func (t *Backend) DeviceMapperLoaded() error {
	in := dmModule()
	missing := t.absent(in + syscalls.DMFunction)
	noLive := t.absent(in + dmResume)
	t.mu.Lock()
	defer t.mu.Unlock()
	waited, err := t.waiting, error(nil)
	if waited && !t.closed && len(missing) == 0 {
		err = t.attachReturns()
	}
	changed := t.setAbility(backend.AbilityDM, missing)
	changed = t.setAbility(backend.AbilityDMLiveInstant, noLive) || changed
	if waited && !t.closed {
		t.returnsAttached(err, len(noLive) == 0)
		changed = true
	}
	if changed {
		t.status.Upgrade(event.Now())
	}
	if len(missing)+len(noLive) > 0 {
		return fmt.Errorf("probe device-mapper: functions %s are not in this kernel", strings.Join(append(missing, noLive...), ", "))
	}
	if err != nil {
		return fmt.Errorf("probe device-mapper's returns: %w", err)
	}
	return nil
}

// returnsAttached sets the abilities once it has been tried to attach to returns.
func (t *Backend) returnsAttached(err error, live bool) {
	switch instant := t.status.Ability(backend.AbilityDMLiveInstant); {
	case t.waiting:
		t.status.Ability(backend.AbilityDM).Why += "; not seen: removals, and requests that failed"
	case err != nil:
		instant.Why = err.Error()
	case live:
		instant.OK = true
		instant.Why = fmt.Sprintf("from %.3f s after the boot on, when dm_mod had been loaded; what went live before is known as a window as wide as the request", event.Now().Seconds())
	}
}

// absent returns the symbol if a probe cannot be put there.
func (t *Backend) absent(symbol string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	const name = "verify"
	if err := t.trace.Define(ftrace.Probe{Name: name, Symbol: symbol}); err != nil {
		return []string{symbol}
	}
	if err := t.trace.Undefine(name); err != nil {
		t.log.Warn("remove a probe", "err", err)
	}
	return nil
}

// setAbility reports whether it changes anything.
func (t *Backend) setAbility(name string, missing []string) bool {
	ability := t.status.Ability(name)
	before := *ability
	after := event.Ability{Name: name, OK: before.OK && len(missing) == 0, Why: before.Why}
	if len(missing) > 0 {
		after.Why = "not in this kernel: " + strings.Join(missing, ", ")
	} else if before.OK {
		after.Why, _, _ = strings.Cut(before.Why, "; armed")
	}
	*ability = after
	return after != before
}

// watch reads of new guests what may be gone soon.
func (t *Backend) watch() {
	const patience = 200 * time.Millisecond
	for {
		select {
		case <-t.unwatch:
			return
		default:
		}
		if err := t.procs.Wait(patience); err != nil {
			t.log.Error("process events", "err", err)
			return
		}
		t.receive()
	}
}

// receive moves process events into the queue.
func (t *Backend) receive() {
	if t.procs == nil {
		return
	}
	err := t.procs.Receive(func(e procs.Event) {
		q := procEvent{Event: e}
		if e.Kind == procs.Exec {
			q.read = t.calls.tasks.ReadNew(e.PID)
		}
		t.queueMu.Lock()
		t.queue = append(t.queue, q)
		t.queueMu.Unlock()
	})
	if err != nil {
		t.log.Error("process events", "err", err)
	}
}

// Losses implements probe.Backend.
func (t *Backend) Losses() map[string]uint64 {
	losses, err := t.countLosses()
	if err != nil {
		t.log.Warn("count lost events", "err", err)
	}
	return losses
}

// OwnLosses implements probe.Backend: the trace files know no users.
func (t *Backend) OwnLosses() []event.LossInfo { return nil }

func (t *Backend) countLosses() (map[string]uint64, error) {
	losses := map[string]uint64{}
	if t.procs != nil {
		// Forks, too: whose child opens something is not known then.
		losses[lossAll] = t.procs.Lost()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return losses, nil
	}
	records, missed, err := t.trace.Losses()
	delete(missed, evOpened) // calls.missed tells
	traced := map[string]uint64{lossAll: records}
	for name, n := range missed {
		traced[lostWith(name)] += n
	}
	// A probe that somebody has removed counts nothing any more.
	for what, n := range traced {
		t.counted[what] = max(t.counted[what], n)
		losses[what] += t.counted[what] + t.before[what]
	}
	losses[lossAll] += t.damaged
	t.calls.mu.Lock()
	for what, n := range t.calls.missed {
		losses[what] = max(losses[what], n)
	}
	t.calls.mu.Unlock()
	maps.DeleteFunc(losses, func(_ string, n uint64) bool { return n == 0 })
	return losses, err
}

// lostWith says what is not told when a probe misses a hit.
func lostWith(name string) string {
	switch {
	case strings.HasPrefix(name, evOpen):
		return lossOpen
	case strings.HasPrefix(name, "dm_"):
		return lossDM
	}
	return lossLink
}

// What losses are of.
const (
	lossAll  = "all"
	lossOpen = "open"
	lossDM   = "dm"
	lossLink = "link"
)

// Close detaches and removes everything. Run, if it still runs, fails.
func (t *Backend) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.mu.Unlock()
	close(t.unwatch)
	t.watching.Wait()
	var err error
	if t.procs != nil {
		err = t.procs.Close()
	}
	t.calls.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(err, t.trace.Close())
}

// procInSight reports whether /proc is where it should be: not while the host switches
// its root.
func procInSight() bool {
	_, err := os.Stat("/proc/self")
	return err == nil
}
