package timeline

import (
	"time"

	"github.com/bootrace/bootrace/tracer/event"
)

// NotExecuted says that libvirt was about to start a domain whose disks were not
// all ready, and that qemu was never executed for it: libvirt looks at the disks
// first, and gives up. Only its hook tells of such a start.
const NotExecuted = "not-executed"

type notExecuted struct{}

// executing is how long libvirt may take from its hook to the exec of qemu, on a
// host that boots.
const executing = 30 * time.Second

func (notExecuted) find(r *record, report func(*Finding)) {
	for _, u := range r.unstarted {
		if u.call == nil || len(u.out.Holds) > 0 && refused(&u.out.Holds[len(u.out.Holds)-1]) {
			continue // the hold tells it
		}
		at := u.call.stamp
		p := r.planOf(u.out, at)
		w := p.last()
		if w == nil {
			continue // its disks were there: nothing is known of why
		}
		f := &Finding{
			Kind: NotExecuted, Guest: u.called(), GuestID: u.out.ID, Disk: w.disk.Path, BackingOf: w.disk.BackingOf,
			At: at.at, Count: u.calls, Waits: p.paths(), Evidence: u.evidence,
		}
		r.stood(f, w.disk.Path, at)
		if f.Ready != nil {
			f.Margin = margin(at, w.way.ready, true)
		}
		f.Evidence = proof(f.Evidence)
		f.Withheld = r.withheldOf(ofAnybody, append([]string{whatExec}, readiness...), at.from, max(at.at, r.last-1))
		if f.Withheld == "" && r.last.Sub(at.at) < executing {
			f.Withheld = "the record ends before libvirt must have executed it"
		}
		report(f)
	}
}

func (notExecuted) kinds() []findingKind {
	return []findingKind{{name: NotExecuted, outcome: failed, cause: howItStood}}
}

// refused reports whether a hold kept the start from being made, or is not over.
func refused(h *Hold) bool { return h.Outcome != event.HoldAllowed }
