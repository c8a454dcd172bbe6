package timeline

import "github.com/bootrace/bootrace/tracer/event"

// WouldHold says, of a boot in trace mode, that enforce mode would have held this
// start: a disk was not ready when the guest's program began, or something inside one
// is cut off and enforce.filesystem is hold or deny. Disk is the one that would have
// kept it back longest, in the end: where For is event.HoldFilesystem, the one that is
// cut off. Waits are all that it would have waited for to be ready. Held, Reason and
// Outcome say how long that would have been, and how it would have ended.
const WouldHold = "would-hold"

// holdUntried is why a hold is not promised: trace mode does not try one, which on some
// kernels marks them as tainted.
const holdUntried = "trace mode does not try for how long this kernel lets a start be held; `bootrace check` does"

type wouldHold struct{}

func (wouldHold) find(r *record, report func(*Finding)) {
	cut := map[*Guest]*within{}
	for w := range r.insides {
		if cut[w.guest] == nil && len(w.seen.CutOff()) > 0 {
			cut[w.guest] = w
		}
	}
	for _, g := range r.guests {
		policy := r.policies.at(g.out.Exec.At)
		if g.out.Backfilled || len(g.out.Holds) > 0 || policy == nil || policy.Mode != event.ModeTrace {
			continue
		}
		how := r.rulingOf(policy, g.out)
		if !how.covered || how.Deadline <= 0 {
			continue // it would not have been held
		}
		p := r.planFor(g)
		switch w := cut[g.out]; {
		case w != nil && how.holdsInside() && p.ready != nil && p.wait() <= how.Deadline:
			report(w.wouldHold(p, &how)) // they are looked into once they are ready
		case len(p.waits) > 0:
			report(r.wouldHold(g, p, &how))
		}
	}
	for _, u := range r.unstarted {
		policy := r.policies.at(u.out.Exec.At)
		if u.call == nil || len(u.out.Holds) > 0 || policy == nil || policy.Mode != event.ModeTrace {
			continue
		}
		how := r.rulingOf(policy, u.out) // the hook holds every domain
		if p := r.planOf(u.out, u.call.stamp); len(p.waits) > 0 && how.Deadline > 0 {
			f := &Finding{Guest: u.called(), GuestID: u.out.ID, At: u.out.Exec.At, Evidence: u.evidence}
			w := p.last()
			r.stood(f, w.disk.Path, u.call.stamp)
			f.Withheld = r.withheldOf(ofAnybody, readiness, u.call.from, p.end(max(u.call.at, r.last-1)))
			p.tell(f, w, &how)
			report(f)
		}
	}
}

func (wouldHold) kinds() []findingKind {
	return []findingKind{{name: WouldHold, outcome: noOutcome, cause: none}}
}

// plan is what a start would have waited for.
type plan struct {
	from  stamp
	waits []waited // in the order of the command line
	// ready is when all of them were, nil if never.
	ready *stamp
}

// waited is a disk that was not ready.
type waited struct {
	disk *Disk
	use  *firstUse // nil where it was not opened
	way  *access   // to it, once it was ready; nil: never
}

// planFor works out what a hold of g would have waited for: all disks of the
// command line with what is beneath them, whether or not qemu got so far as to
// open them.
func (r *record) planFor(g *guestLife) *plan {
	p := &plan{from: g.fact.stamp}
	for i := range g.out.Disks {
		d := &g.out.Disks[i]
		if !d.Needs && (d.Announced || d.FromHeader) || !d.Announced && !d.FromHeader && d.BackingOf == "" {
			continue
		}
		p.consider(r, d, g.firstOf(d))
	}
	p.settle(r)
	return p
}

// planOf is planFor of a start that was never made: no disk was opened.
func (r *record) planOf(g *Guest, from stamp) *plan {
	p := &plan{from: from}
	for i := range g.Disks {
		p.consider(r, &g.Disks[i], nil)
	}
	p.settle(r)
	return p
}

func (g *guestLife) firstOf(d *Disk) *firstUse {
	for i := range g.firsts {
		if g.firsts[i].disk == d {
			return &g.firsts[i]
		}
	}
	return nil
}

// consider adds a disk that was not ready.
func (p *plan) consider(r *record, d *Disk, u *firstUse) {
	rt := r.route(r.h.names.add(clean(d.Path)))
	w := waited{disk: d, use: u, way: rt.at(p.from, nil, true)}
	if w.way == nil && u != nil {
		w.way = u.way // by a link that only the open itself tells of
	}
	switch {
	case w.way != nil && w.way.ready.from > p.from.at:
		p.waits = append(p.waits, w)
	case w.way == nil && u != nil && u.never(), w.way == nil && u == nil && rt.nothing(p.from):
		p.waits = append(p.waits, w)
	}
}

// nothing reports whether the path led nowhere at s, and can mean a device.
func (rt *route) nothing(s stamp) bool {
	if rt.elsewhere {
		return false
	}
	l := rt.lifeAt(s)
	if l == nil {
		return rt.plausible
	}
	state, _ := l.stateAt(s)
	return state != "live"
}

// never reports whether nothing was there, and nothing came.
func (u *firstUse) never() bool {
	return u.absent() && u.way == nil && (u.life != nil || u.route.plausible && !u.route.elsewhere)
}

// settle works out when all disks were ready at one time: one that was ready may
// be gone again when the last one comes.
func (p *plan) settle(r *record) {
	at := p.from
	for range len(p.waits) + 8 {
		latest := at
		for i := range p.waits {
			w := &p.waits[i]
			way := r.route(r.h.names.add(clean(w.disk.Path))).at(at, nil, true)
			if way == nil && w.use != nil {
				way = w.way
			}
			if way == nil {
				return // never again
			}
			if way.ready.at > latest.at {
				latest = way.ready
			}
		}
		if latest == at {
			p.ready = &latest
			return
		}
		at = stamp{from: latest.at, at: latest.at, id: latest.id}
	}
}

// last returns the disk that was waited for longest: one that never came, else
// the one that came last. nil where all were ready.
func (p *plan) last() *waited {
	var found *waited
	for i := range p.waits {
		w := &p.waits[i]
		switch {
		case w.way == nil:
			return w
		case found == nil || w.way.ready.at > found.way.ready.at:
			found = w
		}
	}
	return found
}

// end is when all disks were ready, never where they were not.
func (p *plan) end(never event.Time) event.Time {
	if p.ready == nil {
		return never
	}
	return p.ready.at
}

func (p *plan) paths() []string {
	var list []string
	for i := range p.waits {
		list = append(list, p.waits[i].disk.Path)
	}
	return list
}

// wait is how long it took until all disks were ready, 0 where that never came.
func (p *plan) wait() event.Duration {
	if p.ready == nil {
		return 0
	}
	return p.ready.at.Sub(p.from.at)
}

func (r *record) wouldHold(g *guestLife, p *plan, how *ruling) *Finding {
	w := p.last()
	var f *Finding
	if w.use != nil {
		f = r.finding(WouldHold, false, w.use)
		f.Margin, f.Errno, f.Error = nil, 0, ""
		f.Withheld = r.rest(w.use)
		if w.way != nil {
			f.Withheld = r.between(w.use)
		}
	} else {
		f = &Finding{Guest: g.called(), GuestID: g.out.ID, Exit: g.out.Exit, Evidence: []uint64{g.out.Exec.Event}}
		r.stood(f, w.disk.Path, g.fact.stamp)
		f.Withheld = r.withheld(readiness, g.out.Exec.From, p.end(max(g.out.Exec.At, r.last-1)))
	}
	if f.Withheld == "" && g.out.Truncated {
		f.Withheld = "its command line is not recorded to its end: there may be further disks"
	}
	if f.Withheld == "" && how.untried {
		f.Withheld = holdUntried
	}
	f.At = g.out.Exec.At
	p.tell(f, w, how)
	return f
}

// holdsInside reports whether a start on a disk that is cut off is kept back.
func (r *ruling) holdsInside() bool {
	return r.Filesystem == event.FilesystemHolds || r.Filesystem == event.FilesystemDenies
}

// wouldHold is about a disk that is cut off, which nobody gives back in time as far as
// the record tells: the start is denied, at once or at the deadline.
func (w *within) wouldHold(p *plan, how *ruling) *Finding {
	f := w.finding(WouldHold, &Trouble{})
	f.Inside = nil // what is wrong has a finding of its own
	f.At, f.For, f.Outcome, f.InVain = w.guest.Exec.At, event.HoldFilesystem, event.HoldDenied, true
	f.Waits, f.Deadline = p.paths(), how.Deadline
	f.Held, f.Reason = p.wait(), string(event.HoldFilesystem)
	if f.Withheld == "" && how.untried {
		f.Withheld = holdUntried
	}
	if how.Filesystem == event.FilesystemHolds {
		f.Held, f.Reason = how.Deadline, string(event.ReleaseDeadline)
	}
	return f
}

// tell fills in what a hold would have come to.
func (p *plan) tell(f *Finding, w *waited, how *ruling) {
	f.Kind, f.Disk, f.BackingOf, f.Late = WouldHold, w.disk.Path, w.disk.BackingOf, nil
	f.Waits, f.Deadline = p.paths(), how.Deadline
	f.Held, f.Reason, f.Outcome = p.wait(), string(event.ReleaseReady), event.HoldAllowed
	if p.ready == nil || f.Held > how.Deadline {
		f.Held, f.Reason, f.InVain = how.Deadline, string(event.ReleaseDeadline), true
		if how.OnTimeout == event.TimeoutDenies {
			f.Outcome = event.HoldDenied
		}
	}
	f.Evidence = proof(f.Evidence)
}
