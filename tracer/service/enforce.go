package service

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bootrace/bootrace/tracer/activate"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/hold"
	"github.com/bootrace/bootrace/tracer/readiness"
)

// enforcer holds the starts of guests while the mode is enforce. In trace mode
// there is nothing of it: no group, no mark, nothing that could hold anybody.
type enforcer struct {
	s *Service

	mu sync.Mutex // held while the mode changes, which takes its time
	// told is the mode that was recorded last, and the policy with it.
	told       config.Mode
	toldPolicy event.PolicyInfo
	slow       int // failures that may be due to a host that is busy booting

	// now changes under mu. Who only looks does not wait: the watchdog among them.
	now atomic.Pointer[standing]
}

// standing is whether starts are held.
type standing struct {
	run *enforcement // nil while nothing is held
	why string       // why not, although it should be
}

func newEnforcer(s *Service) *enforcer {
	e := &enforcer{s: s}
	e.now.Store(&standing{})
	return e
}

// enforcement is one time in which starts are held.
type enforcement struct {
	holder *hold.Holder
	stop   context.CancelCauseFunc
	done   chan struct{}
}

// again is how long after a failure holding is tried again.
const again = 30 * time.Second

// maxSlow is how often that is worth it where it may be the kernel that can't.
const maxSlow = 3

// Why holds end that would have gone on.
var (
	errTraceMode   = errors.New(string(event.ReleaseTraceMode))
	errServiceEnds = errors.New(string(event.ReleaseEnd))
)

// follow does what the configuration says from now on. ctx ends all holding.
func (e *enforcer) follow(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	cfg := e.s.config()
	switch {
	case cfg.Mode != config.Enforcing:
		e.s.hooks.release("", event.ReleaseTraceMode)
		e.end(errTraceMode)
		e.now.Store(&standing{})
	case e.run() != nil:
		e.run().holder.Use(cfg.Enforce)
	default:
		e.begin(ctx, cfg.Enforce)
	}
	e.tell()
}

func (e *enforcer) run() *enforcement { return e.now.Load().run }

// begin starts to hold. Where that is not possible the trace goes on, and
// guests start.
func (e *enforcer) begin(ctx context.Context, cfg config.Enforce) {
	run, err := e.open(ctx, cfg)
	if err != nil {
		e.fail(err)
		return
	}
	e.now.Store(&standing{run: run})
	e.s.recordHold("attached", nil)
	e.s.log.Info("starts of guests are held until their disks are ready", "deadline", cfg.Deadline, "on_timeout", cfg.OnTimeout)
}

func (e *enforcer) open(ctx context.Context, cfg config.Enforce) (*enforcement, error) {
	tracker, err := readiness.Open(readiness.Options{Found: e.s.rec.Record, Log: e.s.log})
	if err != nil {
		return nil, err
	}
	open := e.s.opts.hold
	if open == nil {
		open = hold.Open
	}
	holder, err := open(ctx, hold.Options{
		Watch: func(r readiness.Request) (hold.Watch, error) { return tracker.Watch(r) },
		Last:  e.s.lastOf, Compare: e.s.compare, Inspect: e.s.inspect, Activate: e.s.activator(cfg.ActivateAlso),
		Record: e.s.rec.Record, Config: cfg, Log: e.s.log,
	})
	if err != nil {
		return nil, errors.Join(err, tracker.Close())
	}
	ctx, stop := context.WithCancelCause(ctx)
	run := &enforcement{holder, stop, make(chan struct{})}
	e.s.background.Go(func() {
		err := run.hold(ctx, tracker)
		close(run.done)
		e.ended(run, err)
	})
	return run, nil
}

// hold runs both until ctx ends, or holding fails.
func (r *enforcement) hold(ctx context.Context, tracker *readiness.Tracker) error {
	follow, stop := context.WithCancel(context.WithoutCancel(ctx))
	followed := make(chan error, 1)
	go func() { followed <- tracker.Run(follow) }()
	err := r.holder.Run(ctx)
	stop()
	return errors.Join(err, <-followed, tracker.Close())
}

// ended notes that a run is over, where it was not told to end.
func (e *enforcer) ended(run *enforcement, err error) {
	if err == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.run() == run {
		e.fail(err)
		e.tell()
	}
}

func (e *enforcer) fail(err error) {
	e.now.Store(&standing{why: err.Error()})
	e.s.recordHold("ended", err)
	e.s.log.Error("starts of guests are not held, tracing goes on", "error", err)
	unsupported := new(hold.UnsupportedError)
	if !errors.As(err, &unsupported) || errors.Is(err, context.DeadlineExceeded) && e.slow < maxSlow {
		e.slow++
		time.AfterFunc(again, e.s.needMode)
	}
}

// end lets everything go on that is held.
func (e *enforcer) end(why error) {
	run := e.run()
	if run == nil {
		return
	}
	run.stop(why)
	<-run.done // until then its health counts
	e.now.Store(&standing{})
	e.s.recordHold("ended", nil)
}

// rest records that nothing is held, whatever the configuration will say.
func (e *enforcer) rest() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tell()
}

// close ends all holding for good.
func (e *enforcer) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.s.hooks.release("", event.ReleaseEnd)
	e.end(errServiceEnds)
}

// tell records the mode that is in effect and the policy, where they changed: what
// would have been held can only be told by them.
func (e *enforcer) tell() {
	policy := e.s.config().Recorded()
	now := e.now.Load()
	policy.Why = now.why
	mode := config.Trace
	if now.run != nil {
		mode = config.Enforcing
		policy.Way, policy.Longest = now.run.holder.Method()
	}
	policy.Mode = string(mode)
	if mode != e.told {
		e.told = mode
		e.s.rec.Record(mark("mode", string(mode)))
	}
	if !reflect.DeepEqual(policy, e.toldPolicy) {
		e.toldPolicy = policy
		e.s.rec.Record(event.Event{At: event.Now(), Kind: event.Policy, Src: "service", Policy: &policy})
	}
}

// holder returns what holds starts now, nil where nothing does, and why not.
func (e *enforcer) holder() (*hold.Holder, string) {
	now := e.now.Load()
	if now.run == nil {
		return nil, now.why
	}
	return now.run.holder, ""
}

// observe has starts that are held for what their disks are looked at again when a
// device has changed.
func (e *enforcer) observe(ev *event.Event) {
	if ev.Kind != event.DMResume && (ev.Kind != event.Udev || ev.Dev == nil || ev.Dev.Subsystem != "block") {
		return
	}
	if h, _ := e.holder(); h != nil {
		h.Changed()
	}
}

// healthy returns an error where holds are not being looked after.
func (e *enforcer) healthy() error {
	if h, _ := e.holder(); h != nil {
		return h.Healthy()
	}
	return nil
}

// release ends the holds of one guest by hand.
func (e *enforcer) release(guest string) ([]string, error) {
	if guest == "" {
		return nil, errors.New("release whom? a guest's name, UUID or process id")
	}
	hooked := e.s.hooks.release(guest, event.ReleaseByHand)
	h, why := e.holder()
	switch {
	case h != nil:
		released, err := h.Release(guest)
		if len(hooked) > 0 {
			return append(hooked, released...), nil
		}
		return released, err
	case len(hooked) > 0:
		return hooked, nil
	case why != "":
		return nil, fmt.Errorf("no start is held: %s", why)
	default:
		return nil, errors.New("no start is held: the mode is trace")
	}
}

// activator has LVM activate what a held guest waits for, and records that.
func (s *Service) activator(also []config.Unwilling) func(context.Context, []readiness.Blocker) {
	a := activate.New(activate.Options{Log: s.log, Rules: activate.Rules{
		IgnoreAutoactivation: slices.Contains(also, config.NoAutoactivation),
		IgnoreSkip:           slices.Contains(also, config.Skip),
		Shared:               slices.Contains(also, config.Shared),
	}})
	return func(ctx context.Context, blockers []readiness.Blocker) {
		var all sync.WaitGroup
		for _, v := range activate.Volumes(blockers) {
			all.Go(func() {
				if attempt, first, err := a.Activate(ctx, v); err == nil && first {
					s.rec.Record(attempt.Event())
				}
			})
		}
		all.Wait()
	}
}

func (s *Service) recordHold(state string, err error) {
	info := event.SourceInfo{Name: hold.Source, State: state, Abilities: []event.Ability{{Name: hold.Source, OK: err == nil}}}
	if err != nil {
		info.Abilities[0].Why = err.Error()
	}
	s.rec.Record(event.Event{At: event.Now(), Kind: event.Source, Src: hold.Source, Source: &info})
}

// needMode has the mode looked at again.
func (s *Service) needMode() {
	select {
	case s.mode <- struct{}{}:
	default: // that is due already
	}
}
