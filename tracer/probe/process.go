package probe

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/procs"
)

const srcProcess = "process"

// process is what is left where the kernel allows no probes: guests' starts and
// ends, from the proc connector if there is one.
type process struct {
	source   *procs.Source // nil: not available
	sourceIs error         // why not
	why      string        // why there are no probes
	attached event.Time
	calls    calls

	mu     sync.Mutex
	closed bool
}

func openProcess(opts Options) *process {
	p := &process{calls: newCalls(opts.Guests), why: "probes are turned off"}
	p.source, p.sourceIs = procs.Open()
	p.calls.threadsTold = p.source != nil
	p.attached = event.Now()
	return p
}

func (p *process) Info() event.SourceInfo { return p.info("attached") }

func (p *process) info(state string) event.SourceInfo {
	info := event.SourceInfo{Name: srcProcess, State: state}
	for _, name := range []string{AbilityExec, AbilityExit} {
		a := event.Ability{Name: name, OK: p.source != nil}
		if !a.OK {
			a.Why = p.sourceIs.Error()
		}
		info.Abilities = append(info.Abilities, a)
	}
	for _, name := range []string{AbilityDM, AbilityOpen, AbilityLink, AbilityDMLiveInstant} {
		info.Abilities = append(info.Abilities, event.Ability{Name: name, Why: p.why})
	}
	return info
}

func (p *process) AddGuest(pid int) error {
	found := event.Now()
	proc, err := readProc(pid)
	if err != nil {
		return fmt.Errorf("watch process %d as a guest: %w", pid, err)
	}
	p.calls.mu.Lock()
	defer p.calls.mu.Unlock()
	p.calls.addGuest(&started{proc: proc, found: found})
	return nil
}

func (p *process) DeviceMapperLoaded() error { return nil }

func (p *process) Run(ctx context.Context, emit func(event.Event)) error {
	first := p.info("attached")
	emit(event.Event{At: p.attached, Kind: event.Source, Src: srcProcess, Source: &first})
	if p.source == nil {
		<-ctx.Done()
	}
	lost := uint64(0)
	for since := p.attached; p.source != nil; since = event.Now() {
		ended := ctx.Err()
		err := p.source.Receive(func(e procs.Event) {
			for _, ev := range p.handle(e) {
				emit(ev)
			}
		})
		if err != nil {
			return err
		}
		if n := p.source.Lost(); n > lost {
			emit(event.Event{At: event.Now(), From: since, Kind: event.Loss, Src: srcProcess, Loss: &event.LossInfo{
				Source: srcProcess, What: "exec", Count: n - lost, Why: "the queue of process events was full"}})
			lost = n
		}
		if ended != nil {
			break
		}
		const patience = 100 * time.Millisecond // until it looks whether ctx ended
		if err := p.source.Wait(patience); err != nil {
			return err
		}
	}
	last := p.info("ended")
	emit(event.Event{At: event.Now(), Kind: event.Source, Src: srcProcess, Source: &last})
	return nil //nolint:nilerr // asked to end, and nothing is left in the queue
}

func (p *process) handle(e procs.Event) []event.Event {
	p.calls.mu.Lock()
	defer p.calls.mu.Unlock()
	var events []event.Event
	if e.Kind == procs.Exec {
		// There is no record of the exec itself: the program's path is what
		// /proc says a moment later.
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", e.PID)) // nothing, if it has ended
		events = p.calls.exec(&hit{at: e.At, tid: e.PID, path: strings.TrimSuffix(exe, " (deleted)")})
	} else {
		events = p.calls.process(&procEvent{Event: e})
	}
	for i := range events {
		events[i].Src = srcProcess
	}
	return events
}

// OwnLosses implements Backend: users have no shares here.
func (p *process) OwnLosses() []event.LossInfo { return nil }

func (p *process) Losses() map[string]uint64 {
	if p.source == nil || p.source.Lost() == 0 {
		return map[string]uint64{}
	}
	return map[string]uint64{"exec": p.source.Lost()}
}

func (p *process) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.source == nil || p.closed {
		return nil
	}
	p.closed = true
	return p.source.Close()
}
