package timeline

import (
	"fmt"

	"github.com/bootrace/bootrace/tracer/event"
)

// NearMiss says that the open succeeded on a live device, but the mapping had been
// ready for less than the threshold, or udev had not even finished with it: it
// worked by luck.
const NearMiss = "near-miss"

type nearMiss struct{}

func (nearMiss) find(r *record, report func(*Finding)) {
	for u := range r.uses {
		m := u.use.Margin
		if u.use.Errno != 0 || m == nil || m.NS >= r.opts.NearMiss || u.life == nil || u.way != nil && u.way.guessed {
			continue
		}
		if m.NS >= 0 && (u.guest.waited() || r.madeFor(u)) {
			continue
		}
		if _, notLive := u.withoutTable(r); notLive && u.life.kind != KindMount {
			continue
		}
		f := r.finding(NearMiss, false, u)
		f.Withheld = r.luck(u)
		report(f)
	}
}

func (nearMiss) kinds() []findingKind {
	return []findingKind{{name: NearMiss, outcome: atRisk, cause: howItStood}}
}

// waited reports whether the guest was held until its disks were ready: that it
// came soon after is no luck.
func (g *guestLife) waited() bool {
	n := len(g.out.Holds)
	return n > 0 && g.out.Holds[n-1].Reason == event.ReleaseReady
}

// madeFor reports whether what starts the guest has made its volume before: that
// the one follows close on the other is no luck then. They are of one parent, or
// one is the other's; or the boot had long settled, and volumes are activated for
// the guests that need them; or it was plugged into a guest that ran already.
func (r *record) madeFor(u *firstUse) bool {
	live := u.life.live
	if live == nil || live.orBefore {
		return false
	}
	for i := range r.settled {
		if r.settled[i] < live.from {
			return true
		}
	}
	if u.plugged() && live.from > u.guest.out.Exec.At {
		return true
	}
	for i := range u.life.out.Steps {
		if s := &u.life.out.Steps[i]; (s.Kind == StepCreated || s.Kind == StepLive) && u.guest.relative(s.By) {
			return true
		}
	}
	return false
}

// plugged reports whether the disk was plugged into the running guest: its command
// line is known to the end and does not name it, nor does an image. Who asks a
// running guest for a disk knows that the disk is there: a start cannot wait for
// an answer, and a plug gets one at once.
func (u *firstUse) plugged() bool {
	d, g := u.disk, u.guest.out
	return !d.Announced && !d.FromHeader && d.BackingOf == "" && g.Hypervisor != "" && g.Unknown == "" && !g.Truncated
}

// relative reports whether a process is what started g, or was started by the
// same one. Everything is init's child in the end.
func (g *guestLife) relative(p *event.Proc) bool {
	const init = 1
	parent := g.fact.parent
	return p != nil && parent > init && (p.PID == parent || p.PPID == parent)
}

// luck returns why it is not certain that the margin was so small.
func (r *record) luck(u *firstUse) string {
	m := u.use.Margin
	switch {
	case m.AtLeast:
		return "the mapping was ready at or before the start of tracing"
	case m.NS+m.Width >= r.opts.NearMiss:
		return fmt.Sprintf("the margin is only known to be between %v and %v", m.NS, m.NS+m.Width)
	}
	return r.between(u)
}
