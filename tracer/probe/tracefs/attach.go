package tracefs

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
)

// attach attaches to all that the instance tells of. It fails if that is
// nothing.
func (t *Backend) attach(ctx context.Context) ([]event.Ability, error) {
	steps := []struct {
		ability string
		attach  func(ftrace.ABI) (limits string, err error)
	}{
		{backend.AbilityExec, t.attachExec},
		{backend.AbilityExit, func(ftrace.ABI) (string, error) { return "", t.noProcs }},
		{backend.AbilityDM, t.attachDM},
		{backend.AbilityOpen, t.attachOpen},
		{backend.AbilityLink, t.attachLinks},
		{backend.AbilityDMLiveInstant, t.attachLive},
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

func (t *Backend) attachExec(ftrace.ABI) (string, error) {
	const limits = "arguments are read a moment later: those of a guest that ends within it are missing"
	return limits, t.trace.EnableEvent("sched", evExec, "")
}

// attachOpen attaches to opens, and looks at the layout of files first.
func (t *Backend) attachOpen(a ftrace.ABI) (limits string, err error) {
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
func (t *Backend) seesReturns() bool { return t.trace.SeesReturns() && !t.asIf.fewReturns }

// errElsewhere says that opens do not go through any function that is known to end them.
var errElsewhere = errors.New("opens end elsewhere in this kernel")

// attachEnds attaches to the ends of opens so that held starts take no room of theirs. A
// kernel may have a function that its opens do not go through, which is tried.
func (t *Backend) attachEnds(a ftrace.ABI, l *layout) error {
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

func (t *Backend) attachDM(a ftrace.ABI) (string, error) {
	const limits = "not seen: dm-mod.create= of the kernel command line"
	in := dmModule()
	loaded := in == "" || devmap.ModuleLoaded()
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
func (t *Backend) attachWaiting(entry []ftrace.Probe, status ftrace.Probe) error {
	if err := t.enable(append(entry, status)); err != nil {
		return err
	}
	t.waiting = true
	t.calls.returnsFrom(never)
	return nil
}

// attachReturns attaches what had to wait for dm_mod.
func (t *Backend) attachReturns() error {
	in := dmModule()
	if err := t.enable(dmProbes(t.abi, t.trace.UserMemory(), in)[:1]); err != nil {
		return err
	}
	t.calls.returnsFrom(event.Now())
	t.waiting = false
	return t.enable([]ftrace.Probe{liveProbe(in)})
}

func (t *Backend) attachLive(ftrace.ABI) (string, error) {
	if t.waiting {
		return "", errNotLoaded
	}
	return "", t.enable([]ftrace.Probe{liveProbe(dmModule())})
}

// errNotLoaded is why a probe in dm_mod has to wait.
var errNotLoaded = errors.New("dm_mod is not loaded yet")

// attachLinks attaches to those of the system calls that this kernel has.
func (t *Backend) attachLinks(a ftrace.ABI) (string, error) {
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
		return "", fmt.Errorf("%w: none of the system calls that make links can be probed", backend.ErrNotSupported)
	}
	return "", nil
}

// enable defines probes and turns them on, all or none.
func (t *Backend) enable(probes []ftrace.Probe) error {
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

func (t *Backend) refused(p ftrace.Probe) error {
	if t.asIf.refuses == nil {
		return nil
	}
	return t.asIf.refuses(p)
}
