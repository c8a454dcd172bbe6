package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/probe/procs"
)

const srcTracefs = "tracefs"

// tracefs is the backend for kernels without eBPF: kprobe events and the
// scheduler's tracepoint of execs, read from a trace instance, and the proc
// connector. What the eBPF programs decide in the kernel is decided here.
type tracefs struct {
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
	clock    *traceClock
	calls    calls
	refuses  func(ftrace.Probe) error // see Options
	few      bool                     // Options.fewReturns
	began    event.Time
	attached event.Time

	queueMu sync.Mutex
	queue   []procEvent // in the order in which they came

	mu        sync.Mutex
	abilities []event.Ability
	waiting   bool // for dm_mod, to attach to returns in it
	upgraded  []event.Event
	damaged   uint64
	counted   map[string]uint64 // losses of trace, the most that was read
	before    map[string]uint64 // those of the instances before it
	closed    bool
}

// processEvents is what the kernel tells of processes; see procs.Source.
type processEvents interface {
	Wait(limit time.Duration) error
	Receive(each func(procs.Event)) error
	Lost() uint64
	Close() error
}

// procEvent is a process event with what could still be read of a new guest.
type procEvent struct {
	procs.Event
	guest *started
}

// OpenTracefs attaches probes without eBPF. What it cannot attach on this
// kernel is in the abilities of Info; it fails if it can attach nothing. ctx
// ends the attempt, not the backend.
func OpenTracefs(ctx context.Context, opts Options) (Backend, error) {
	t, err := openTracefs(ctx, opts.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("start tracefs probes: %w", err)
	}
	return t, nil
}

func openTracefs(ctx context.Context, opts Options) (*tracefs, error) {
	a, err := ftrace.ThisABI()
	if err != nil {
		return nil, tracefsReason(err)
	}
	if _, err := guestNames(opts.Guests); err != nil {
		return nil, err
	}
	dir, err := ftrace.Find()
	if err != nil {
		return nil, tracefsReason(err)
	}
	if err := removeStale(); err != nil && !errors.Is(err, ftrace.ErrNotPermitted) { // that, Open says
		opts.Log.Warn("remove what a killed bootrace has left", "err", err)
	}
	t := newTracefs(opts, dir, a)
	t.trace, err = dir.Open(t.options)
	if err != nil {
		return nil, tracefsReason(err)
	}
	t.clock = newTraceClock(t.trace.Clock())
	if err := t.start(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func newTracefs(opts Options, dir ftrace.Dir, a ftrace.ABI) *tracefs {
	return &tracefs{
		log: opts.Log, interval: opts.LossInterval, findRoot: opts.FindRoot, began: event.Now(),
		dir: dir, abi: a, options: ftrace.Options{BufferKB: bufferKB(opts.RingBytes), Clock: ftrace.Clock(opts.traceClock)},
		unwatch: make(chan struct{}), calls: newCalls(opts.Guests), refuses: opts.refuses, few: opts.fewReturns,
		counted: map[string]uint64{}, before: map[string]uint64{},
	}
}

// tracefsReason turns ftrace's reasons into those of this package.
func tracefsReason(err error) error {
	for from, to := range map[error]error{
		ftrace.ErrNoTracing: ErrNoTracefs, ftrace.ErrNotPermitted: ErrNotPermitted,
		ftrace.ErrNoKprobes: ErrNotSupported, ftrace.ErrBusy: ErrNotSupported, ftrace.ErrNoABI: ErrNotSupported,
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
func (t *tracefs) start(ctx context.Context) error {
	if source, err := procs.Open(); err != nil {
		t.noProcs = err
	} else {
		t.procs, t.calls.threadsTold = source, true
		t.watching.Go(t.watch)
	}
	abilities, err := t.attach(ctx)
	if err != nil {
		return err
	}
	t.abilities = append(abilities, t.tieClock())
	t.attached = event.Now()
	return nil
}

// attach attaches to all that the instance tells of. It fails if that is
// nothing.
func (t *tracefs) attach(ctx context.Context) ([]event.Ability, error) {
	steps := []struct {
		ability string
		attach  func(ftrace.ABI) (limits string, err error)
	}{
		{AbilityExec, t.attachExec},
		{AbilityExit, func(ftrace.ABI) (string, error) { return "", t.noProcs }},
		{AbilityDM, t.attachDM},
		{AbilityOpen, t.attachOpen},
		{AbilityLink, t.attachLinks},
		{AbilityDMLiveInstant, t.attachLive},
	}
	var abilities []event.Ability
	var reasons []error
	for _, s := range steps {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("attach probes: %w", context.Cause(ctx))
		}
		limits, err := s.attach(t.abi)
		ability := event.Ability{Name: s.ability, OK: err == nil, Why: limits}
		if err != nil {
			ability.Why = err.Error()
			reasons = append(reasons, err)
		}
		abilities = append(abilities, ability)
	}
	if len(reasons) == len(steps) {
		return nil, errors.Join(reasons...)
	}
	return abilities, nil
}

// reattach attaches everything anew, in an instance of its own again. It fails if
// that does not give what verdicts need, and there was before.
func (t *tracefs) reattach(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errClosed
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
		return tracefsReason(err)
	}
	t.trace = trace
	abilities, err := t.attach(ctx)
	if err != nil {
		return err
	}
	before := t.abilities
	had := NotSeen(t.info(""))
	for _, a := range before {
		if a.Name == AbilityClock {
			abilities = append(abilities, a)
		}
	}
	t.abilities = abilities
	if missing := NotSeen(t.info("")); len(missing) > len(had) {
		t.abilities = before
		return fmt.Errorf("%w: cannot attach again to: %s", ErrNotSupported, strings.Join(missing, ", "))
	}
	t.upgraded = append(t.upgraded, t.sourceEvent("upgraded", event.Now(), 0))
	return nil
}

// tieClock makes the first anchor.
func (t *tracefs) tieClock() event.Ability {
	ability := event.Ability{Name: AbilityClock, OK: true}
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
		*t.clock = traceClock{}
		if _, err := t.cycle(); err != nil {
			ability.OK, ability.Why = false, err.Error()
			return ability
		}
		if a := t.clock.now; t.clock.tied() && (best.trace == 0 || a.err < best.err) {
			best = a
		}
	}
	*t.clock = traceClock{now: best}
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

func (t *tracefs) attachExec(ftrace.ABI) (string, error) {
	const limits = "arguments are read a moment later: those of a guest that ends within it are missing"
	return limits, t.trace.EnableEvent("sched", evExec, "")
}

// attachOpen attaches to opens, and looks at the layout of files first.
func (t *tracefs) attachOpen(a ftrace.ABI) (limits string, err error) {
	for _, symbol := range openSymbols {
		p := openProbe(a, symbol)
		if !t.seesReturns() {
			p.Filter = "" // else a return could be taken for that of an earlier open, whose own was missed
		}
		if err = t.trace.Define(p); err == nil {
			t.calls.openSymbol = symbol
			break
		}
		if !ftrace.NoSymbol(err) {
			return "", err
		}
	}
	if err != nil {
		return "", err
	}
	l, err := findLayout(t.trace, a, t.calls.openSymbol)
	if err != nil {
		t.log.Debug("cannot see what an open led to", "err", err)
		l, limits = nil, err.Error()
	}
	t.calls.described = l != nil
	t.calls.byDescriptor = false
	if !t.seesReturns() {
		if err := t.attachEnds(a, l); err == nil {
			t.calls.byDescriptor = true
			return limits, t.trace.Enable(evOpen)
		} else if !ftrace.NoSymbol(err) && !errors.Is(err, errElsewhere) {
			return "", err
		}
	}
	if err := t.trace.Define(openedProbe(t.calls.openSymbol, l)); err != nil {
		return "", err
	}
	// The return first, so that every open that is noted is also completed.
	return limits, errors.Join(t.trace.Enable(evOpened), t.trace.Enable(evOpen))
}

// seesReturns reports whether there is room for the returns of all calls under way.
func (t *tracefs) seesReturns() bool { return t.trace.SeesReturns() && !t.few }

// errElsewhere says that opens do not go through any function that is known to end them.
var errElsewhere = errors.New("opens end elsewhere in this kernel")

// attachEnds attaches to the ends of opens so that held starts take no room of theirs. A
// kernel may have a function that its opens do not go through, which is tried.
func (t *tracefs) attachEnds(a ftrace.ABI, l *layout) error {
	for _, call := range openCalls {
		switch err := endsOpens(t.trace, call); {
		case err == nil:
			return t.enable(endsOfOpens(a, call, l))
		case !ftrace.NoSymbol(err) && !errors.Is(err, errLayout):
			return err
		}
	}
	return errElsewhere
}

// endsOpens tries whether an open returns from that function.
func endsOpens(t *ftrace.Instance, call string) error {
	runtime.LockOSThread() // the probe is told by the thread that hits it
	defer runtime.UnlockOSThread()
	p := ftrace.Probe{Name: "layout", Symbol: call, Return: true, Fields: []ftrace.Field{{Name: "ret", Fetch: "$retval", Type: "s64"}}}
	return provoke(t, p, func(string, *ftrace.Record) error { return nil }, "/dev/null")
}

// What is said of device-mapper's probes before its module is there.
const (
	limitsArmed   = "; armed, dm_mod is not loaded yet"
	limitsWaiting = limitsArmed + ", until when this kernel takes no probe of a return in it: what a request has done is told from where the kernel answers"
)

func (t *tracefs) attachDM(a ftrace.ABI) (string, error) {
	const limits = "not seen: dm-mod.create= of the kernel command line"
	in := dmModule()
	loaded := in == "" || exists("/sys/module/dm_mod")
	probes, status := dmProbes(a, t.trace.UserMemory(), in), statusProbe(a, in)
	t.calls.returnsFrom(0)
	err := t.enable(probes)
	if err != nil && !loaded && errors.Is(err, unix.EINVAL) {
		return limits + limitsWaiting, t.attachWaiting(probes[1:], status)
	}
	if err != nil {
		return "", err
	}
	if err := t.enable([]ftrace.Probe{status}); err != nil {
		t.log.Debug("names of mappings come from user space", "err", err)
	}
	if !loaded {
		return limits + limitsArmed, nil
	}
	return limits, nil
}

// attachWaiting arms what Linux 4.12 to 5.7 take of a module that is not loaded: probes
// at entries. A request's own is one, and the other is where the kernel fills in its
// answer, which it does once all is done. What does not come there, as a removal, is
// counted as lost when its thread goes on.
func (t *tracefs) attachWaiting(entry []ftrace.Probe, status ftrace.Probe) error {
	if err := t.enable(append(entry, status)); err != nil {
		return err
	}
	t.waiting = true
	t.calls.returnsFrom(never)
	return nil
}

// attachReturns attaches what had to wait for dm_mod.
func (t *tracefs) attachReturns() error {
	in := dmModule()
	if err := t.enable(dmProbes(t.abi, t.trace.UserMemory(), in)[:1]); err != nil {
		return err
	}
	t.calls.returnsFrom(event.Now())
	t.waiting = false
	return t.enable([]ftrace.Probe{liveProbe(in)})
}

func (t *tracefs) attachLive(ftrace.ABI) (string, error) {
	if t.waiting {
		return "", errNotLoaded
	}
	return "", t.enable([]ftrace.Probe{liveProbe(dmModule())})
}

// errNotLoaded is why a probe in dm_mod has to wait.
var errNotLoaded = errors.New("dm_mod is not loaded yet")

// attachLinks attaches to those of the system calls that this kernel has.
func (t *tracefs) attachLinks(a ftrace.ABI) (string, error) {
	attached := 0
	wrappings := a.Wrappings()
	for _, c := range linkCalls {
		var err error
		for _, wrapped := range wrappings {
			if err = t.enable(c.probes(a, t.trace.UserMemory(), wrapped)); err == nil || !ftrace.NoSymbol(err) {
				break
			}
		}
		switch {
		case err == nil:
			attached++
		case !ftrace.NoSymbol(err):
			return "", err
		}
	}
	if attached == 0 {
		return "", fmt.Errorf("%w: none of the system calls that make links can be probed", ErrNotSupported)
	}
	return "", nil
}

// enable defines probes and turns them on, all or none.
func (t *tracefs) enable(probes []ftrace.Probe) error {
	for i, p := range probes {
		err := t.refused(p)
		if err == nil {
			err = t.trace.Define(p)
		}
		if err == nil {
			err = t.trace.Enable(p.Name)
			i++
		}
		if err != nil {
			for _, done := range probes[:i] {
				err = errors.Join(err, t.trace.Undefine(done.Name))
			}
			return err
		}
	}
	return nil
}

func (t *tracefs) refused(p ftrace.Probe) error {
	if t.refuses == nil {
		return nil
	}
	return t.refuses(p)
}

func (t *tracefs) Info() event.SourceInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.info("attached")
}

func (t *tracefs) info(state string) event.SourceInfo {
	return event.SourceInfo{Name: srcTracefs, State: state, Abilities: slices.Clone(t.abilities)}
}

func (t *tracefs) AddGuest(pid int) error {
	found := event.Now()
	p, err := readProc(pid)
	if err != nil {
		return fmt.Errorf("watch process %d as a guest: %w", pid, err)
	}
	t.calls.mu.Lock()
	defer t.calls.mu.Unlock()
	t.calls.addGuest(&started{proc: p, found: found})
	for _, tid := range procs.Threads(pid) {
		t.calls.threads[tid] = pid
	}
	return nil
}

// DeviceMapperLoaded attaches what had to wait for the module, and checks that what
// was armed before is in it: until then the kernel takes any name.
func (t *tracefs) DeviceMapperLoaded() error {
	in := dmModule()
	missing := t.absent(in + dmRequest)
	noLive := t.absent(in + dmResume)
	t.mu.Lock()
	defer t.mu.Unlock()
	waited, err := t.waiting, error(nil)
	if waited && !t.closed && len(missing) == 0 {
		err = t.attachReturns()
	}
	changed := t.setAbility(AbilityDM, missing)
	changed = t.setAbility(AbilityDMLiveInstant, noLive) || changed
	if waited && !t.closed {
		t.returnsAttached(err, len(noLive) == 0)
		changed = true
	}
	if changed {
		t.upgraded = append(t.upgraded, t.sourceEvent("upgraded", event.Now(), 0))
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
func (t *tracefs) returnsAttached(err error, live bool) {
	at := func(name string) *event.Ability {
		return &t.abilities[slices.IndexFunc(t.abilities, func(a event.Ability) bool { return a.Name == name })]
	}
	switch instant := at(AbilityDMLiveInstant); {
	case t.waiting:
		at(AbilityDM).Why += "; not seen: removals, and requests that failed"
	case err != nil:
		instant.Why = err.Error()
	case live:
		instant.OK = true
		instant.Why = fmt.Sprintf("from %.3f s after the boot on, when dm_mod had been loaded; what went live before is known as a window as wide as the request", event.Now().Seconds())
	}
}

// absent returns the symbol if a probe cannot be put there.
func (t *tracefs) absent(symbol string) []string {
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
func (t *tracefs) setAbility(name string, missing []string) bool {
	i := slices.IndexFunc(t.abilities, func(a event.Ability) bool { return a.Name == name })
	before := t.abilities[i]
	after := event.Ability{Name: name, OK: before.OK && len(missing) == 0, Why: before.Why}
	if len(missing) > 0 {
		after.Why = "not in this kernel: " + strings.Join(missing, ", ")
	} else if before.OK {
		after.Why, _, _ = strings.Cut(before.Why, "; armed")
	}
	t.abilities[i] = after
	return after != before
}

func (t *tracefs) sourceEvent(state string, at, from event.Time) event.Event {
	info := t.info(state)
	return event.Event{At: at, From: from, Kind: event.Source, Src: srcTracefs, Source: &info}
}

// watch reads of new guests what may be gone soon.
func (t *tracefs) watch() {
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
func (t *tracefs) receive() {
	if t.procs == nil {
		return
	}
	err := t.procs.Receive(func(e procs.Event) {
		q := procEvent{Event: e}
		if e.Kind == procs.Exec {
			q.guest = t.calls.captureIf(e.PID)
		}
		t.queueMu.Lock()
		t.queue = append(t.queue, q)
		t.queueMu.Unlock()
	})
	if err != nil {
		t.log.Error("process events", "err", err)
	}
}

// Losses implements Backend.
func (t *tracefs) Losses() map[string]uint64 {
	losses, err := t.countLosses()
	if err != nil {
		t.log.Warn("count lost events", "err", err)
	}
	return losses
}

// OwnLosses implements Backend: the trace files know no users.
func (t *tracefs) OwnLosses() []event.LossInfo { return nil }

func (t *tracefs) countLosses() (map[string]uint64, error) {
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
func (t *tracefs) Close() error {
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

// commOf is what the kernel calls a process that executes a file.
func commOf(filename string) string {
	base := path.Base(filename)
	return base[:min(len(base), commLen)]
}
