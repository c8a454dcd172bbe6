package timeline

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// What explains that a guest ended with an error of which no finding tells.

// CauseNeither means that the guest ended with an error, and did not come too early: all of its
// disks were opened with success and ready before, and the
// record covers the time. Look inside the guest, and at what it printed.
const CauseNeither = "neither"

// CauseUnexplained means that the guest ended with an error, and the record is not
// enough to say whether its disks are the cause.
const CauseUnexplained = "unexplained"

var (
	_           = newCause(causeKind{name: CauseNeither, cures: just(CureLookInside)})
	unexplained = newCause(causeKind{name: CauseUnexplained, cures: just(CureLookInside)})
)

// unexplained is the cause of a guest that ended with an error, and of whose
// disks there is no finding.
func (r *record) unexplained(g *guestLife, v *Verdict) *Cause {
	c := &Cause{Kind: CauseNeither, Outcome: OutcomeFailed, Disks: []string{}, Findings: []string{}, Evidence: slices.Clone(v.Evidence), Cures: []string{}}
	for i := range g.firsts {
		c.Disks = union(c.Disks, []string{g.firsts[i].disk.Path})
	}
	whys := v.Unknown
	if len(whys) == 0 {
		whys = append(v.pulled(), g.inVain()...)
	}
	holder := r.holder(g)
	if holder != nil && len(whys) == 0 && !g.refused() {
		whys = []string{"guest " + holder.called() + " had one of its disks at the same time"}
	}
	switch {
	case len(whys) > 0:
		c.Kind, c.Outcome, c.Withheld = CauseUnexplained, OutcomeUnknown, strings.Join(whys, "; ")
		v.Unknown = nil // the cause says it
	case holder != nil:
		c.Kind, c.Holder = CauseInUse, holder.called()
		c.Evidence = proof(append(c.Evidence, holder.out.Exec.Event))
	}
	return c
}

// pulled says which disks went while the guest ran, a reason each.
func (v *Verdict) pulled() []string {
	var whys []string
	for _, c := range v.Causes {
		if c.Kind == CausePulled {
			whys = append(whys, strings.Join(c.Disks, " and ")+" went while it ran")
		}
	}
	return whys
}

// inVain says what a guest that ended with an error looked for and never got, or
// that it had no disk at all, a reason each.
func (g *guestLife) inVain() []string {
	var whys []string
	for i := range g.firsts {
		if d := g.firsts[i].disk; !d.opened() {
			whys = append(whys, fmt.Sprintf("its open of %s failed (%s)", d.Path, d.Uses[0].Error))
		}
	}
	for _, f := range g.strays {
		whys = append(whys, fmt.Sprintf("its open of %s failed (%s), and whether that is a disk is not known", g.names.get(f.path), errorName(f.errno)))
	}
	if len(g.firsts) == 0 && len(whys) == 0 {
		whys = []string{"the record has no disk of it"}
	}
	return whys
}

// lockTime is how long a program may live that ends because it did not get a lock:
// qemu asks for its locks while it opens its disks.
const lockTime = 10 * time.Second

// refused reports whether g can have ended because a disk was locked: soon after
// it had opened its disks, and by itself. A guest that waits for a migration locks
// nothing until that is over.
func (g *guestLife) refused() bool {
	e, last := g.out.Exit, g.out.Exec.At
	for i := range g.firsts {
		last = max(last, g.firsts[i].use.At)
	}
	return e != nil && e.Signal == 0 && e.At.Sub(last) <= lockTime && g.fact.guest.Incoming == ""
}

// failedExit: the signals that stop a guest in order are no failure; qemu ends
// with status 0 then, but a wrapper may not.
func failedExit(e *event.ExitInfo) bool {
	switch unix.Signal(e.Signal) {
	case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGKILL:
		return false
	}
	return e.Status != 0 || e.Signal != 0
}

// holder is a guest that ran on one of g's disks all the time that g lived, and
// that does not share it. qemu locks what it opens (file.locking), so g could not
// have it. The lock itself is not seen.
func (r *record) holder(g *guestLife) *guestLife {
	for i := range g.firsts {
		u := &g.firsts[i]
		if u.use.Errno != 0 {
			continue
		}
		for _, other := range r.guests {
			if other != g && other.keeps(u, g.out) {
				return other
			}
		}
	}
	return nil
}

// keeps reports whether g had what u led to as a disk while other lived, in a way
// that kept other from having it.
func (g *guestLife) keeps(u *firstUse, other *Guest) bool {
	if g.out.Exec.At > other.Exec.At || g.out.Exit != nil && g.out.Exit.At < other.Exit.At {
		return false
	}
	return slices.ContainsFunc(g.out.Disks, func(own Disk) bool {
		return u.same(&own) && !sharing(&own, u.disk) && slices.ContainsFunc(own.Uses, func(u Use) bool { return u.Errno == 0 })
	})
}

// same reports whether a guest's disk is certainly what u led to: the same device, or a file by
// the same path. What a file lies on has many others.
func (u *firstUse) same(other *Disk) bool {
	if u.life != nil && u.life.kind != KindMount {
		return other.Mapping == u.life.mapping.ID
	}
	path := clean(u.disk.Path)
	return strings.HasPrefix(path, "/") && clean(other.Path) == path
}

// sharing reports whether two guests can have one disk at the same time: both
// only read, both let others write, or one of them takes no lock at all.
//
// What no command line names is a backing file, which is only read.
func sharing(a, b *Disk) bool {
	reads := func(d *Disk) bool { return d.ReadOnly || d.BackingOf != "" || !d.Announced }
	return reads(a) && reads(b) || a.ShareRW && b.ShareRW || a.Unlocked || b.Unlocked
}
