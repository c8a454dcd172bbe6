package timeline

import (
	"cmp"

	"github.com/bootrace/bootrace/tracer/event"
)

// lone is a hold of a start that came to nothing: it was denied, or killed, and
// no exec tells whose it was.
type lone struct {
	pid  int
	info event.HoldInfo // of the hold's begin
	Hold
}

// whyReady is the reason of a release when the disks were ready.
const whyReady = "ready"

// How a hold can end, beside "allowed".
const (
	holdDenied = "denied"
	holdGone   = "gone" // the guest was killed
)

// hold attaches a hold to the guest whose process it kept back: the next exec
// of that process, or the one it has just made.
func (p *processes) hold(f *holdFact) {
	if g := p.heldBy(f); g != nil {
		g.out.Holds = f.change(g.out.Holds)
		return
	}
	var last *lone
	for i := range p.lone {
		if p.lone[i].pid == f.pid && p.lone[i].Released == nil {
			last = &p.lone[i]
		}
	}
	if last == nil {
		if f.release {
			return // of a hold that is not recorded
		}
		p.lone = append(p.lone, lone{pid: f.pid, info: f.info})
		last = &p.lone[len(p.lone)-1]
		last.Hold = f.change(nil)[0]
		return
	}
	last.Hold = f.change([]Hold{last.Hold})[0]
}

func (p *processes) heldBy(f *holdFact) *guestLife {
	if g := p.of(f.pid, f.stamp); g != nil {
		return g
	}
	for _, t := range p.tenures[f.pid] {
		if t.start.at >= f.from {
			return t.guest
		}
	}
	return nil
}

// change applies a fact to the holds of one start. One that waits for something
// else now is the same hold.
func (f *holdFact) change(holds []Hold) []Hold {
	n := len(holds)
	open := n > 0 && holds[n-1].Released == nil
	switch {
	case f.release && open:
		h := &holds[n-1]
		h.Released, h.Reason, h.Outcome = f.pointer(), cmp.Or(f.info.Reason, h.Reason), f.info.Outcome
	case f.release:
	case open:
		h := &holds[n-1]
		h.Reason, h.Blockers, h.Disk = f.info.Reason, f.info.Blockers, cmp.Or(f.info.Disk, h.Disk)
	default:
		holds = append(holds, Hold{
			Instant: f.instant(), Reason: f.info.Reason, Blockers: f.info.Blockers,
			Disk: f.info.Disk, Deadline: f.info.Deadline,
		})
	}
	return holds
}

// inherit gives the holds of a wrapper to the guest that its process became.
func (p *processes) inherit() {
	for _, g := range p.guests {
		if len(g.out.Holds) == 0 || !p.replaced(g) {
			continue
		}
		for i, t := range p.tenures[g.out.PID] {
			if t.guest == g {
				next := p.tenures[g.out.PID][i+1].guest.out
				next.Holds = append(g.out.Holds, next.Holds...)
			}
		}
	}
}

// modes are the times at which the mode changed, in order, as the service
// recorded them.
type modes []Mark

const (
	markMode  = "mode"
	modeTrace = "trace"
)

func (b *Builder) modes(marks []Mark) modes {
	var m modes
	for _, mark := range marks {
		if mark.Name == markMode {
			m = append(m, mark)
		}
	}
	return m
}

// traceAt reports whether the record says that the mode was trace.
func (m modes) traceAt(at event.Time) bool {
	mode := ""
	for i := range m {
		if m[i].At <= at {
			mode = m[i].Text
		}
	}
	return mode == modeTrace
}
