package timeline

import "github.com/bootrace/bootrace/tracer/event"

// Held says that enforce mode held a guest's start: for how long, on what, and
// how that ended. Of those that ended in vain, waiting for disks, State, Ready and
// Late say how it stood with the disk.
const Held = "held"

// CauseDenied means that its start was held, and denied in the end.
const CauseDenied = "denied"

// CauseKilled means that it was killed while its start was held.
const CauseKilled = "killed-while-held"

// CauseDeniedInside means that its start was denied for what is inside its disks.
const CauseDeniedInside = "denied-inside"

type held struct{}

func (held) find(r *record, report func(*Finding)) {
	for _, g := range r.guests {
		for i := range g.out.Holds {
			h := &g.out.Holds[i]
			f := r.held(g.out, h)
			f.Guest, f.Exit = g.called(), g.out.Exit
			f.Evidence = append(f.Evidence, g.out.Exec.Event)
			for _, u := range g.firsts {
				if u.disk.Path == h.Disk && u.way != nil {
					f.Mapping, f.MappingName = u.life.mapping.ID, u.life.nameAt(u.stamp(), u.guest.names)
					f.Ready = u.use.Ready
					f.after(u.route.earlier(stamp{from: h.From, at: h.At}, u.way))
				}
			}
			f.Evidence = proof(f.Evidence)
			report(f)
		}
	}
	for _, u := range r.unstarted {
		for i := range u.out.Holds {
			f := r.held(u.out, &u.out.Holds[i])
			f.Guest = u.called()
			f.Evidence = proof(f.Evidence)
			report(f)
		}
	}
}

func (held) kinds() []findingKind {
	return []findingKind{{
		name: Held,
		outcome: func(f *Finding) Outcome {
			if f.Outcome == event.HoldDenied || f.Outcome == event.HoldGone {
				return OutcomeFailed
			}
			return "" // the guest's opens tell how it went
		},
		cause: endOfHold,
	}}
}

var (
	denied = newCause(causeKind{
		name: CauseDenied,
		look: (*record).waitedInVain,
		cures: func(c *Cause) []string {
			if len(c.Cures) > 0 {
				return nil
			}
			return []string{CureLongerHold}
		},
	})
	killedWhileHeld = newCause(causeKind{
		name: CauseKilled,
		look: (*record).waitedInVain,
		cures: func(c *Cause) []string {
			if len(c.Cures) > 0 {
				return nil
			}
			return []string{CureLauncher}
		},
	})
	deniedInside = newCause(causeKind{name: CauseDeniedInside, cures: just(CureGiveBack)})
)

// endOfHold explains a start by its hold only where the guest's program never ran.
// What became of one that was let go in the end, its opens tell.
func endOfHold(_ *record, f *Finding) *causeKind {
	switch {
	case f.Outcome == event.HoldDenied && f.Reason == string(event.HoldIdentity):
		return anotherDevice
	case f.Outcome == event.HoldDenied && f.For == event.HoldFilesystem:
		return deniedInside
	case f.Outcome == event.HoldDenied:
		return denied
	case f.Outcome == event.HoldGone:
		return killedWhileHeld
	}
	return nil
}

// waitedInVain has what helps against a disk that never came: to wait longer would
// not have helped.
func (r *record) waitedInVain(f *Finding, c *Cause) {
	if f.Ready == nil {
		r.ask(f, c)
		c.Cures = c.neverRemedies()
	}
}

// heldInVain is how long the start was held that a finding is about, where that
// did not help: it came to nothing, or was let go before its disks were ready.
func heldInVain(f *Finding, g *guestLife) event.Duration {
	switch {
	case f.Kind == Held:
		return f.Held
	case g == nil || len(g.out.Holds) == 0 || g.waited():
		return 0
	}
	h := &g.out.Holds[len(g.out.Holds)-1]
	if h.Released == nil {
		return 0
	}
	return h.Released.At.Sub(h.At)
}

func (r *record) held(g *Guest, h *Hold) *Finding {
	f := &Finding{
		Kind: Held, GuestID: g.ID, Disk: h.Disk, At: h.At, Reason: string(h.Reason), Outcome: h.Outcome, Evidence: []uint64{h.Event},
	}
	if h.Deadline > h.At {
		f.Deadline = h.Deadline.Sub(h.At)
	}
	if h.Released != nil {
		f.Held = h.Released.At.Sub(h.At)
		f.Evidence = append(f.Evidence, h.Released.Event)
	}
	f.InVain = h.InVain()
	if h.For != event.HoldDisks {
		f.For = h.For
	}
	if f.InVain && h.Disk != "" && h.For == event.HoldDisks {
		r.stood(f, h.Disk, stamp{from: h.From, at: h.At})
		f.Withheld = r.withheld(readiness, h.From, max(h.At, r.last-1))
	}
	return f
}

// stood fills in how it stood with a disk at s, when nobody opened it: its state,
// and when and why so late it was ready.
func (r *record) stood(f *Finding, disk string, s stamp) {
	rt := r.route(r.h.names.add(clean(disk)))
	f.State = stateAbsent
	if l := rt.lifeAt(s); l != nil {
		f.Mapping, f.MappingName = l.mapping.ID, l.nameAt(s, r.h.names)
		f.State, _ = l.stateAt(s)
		f.Evidence = append(f.Evidence, l.start.id)
	}
	if way := rt.at(s, nil, true); way != nil {
		f.Mapping, f.MappingName = way.life.mapping.ID, way.life.nameAt(way.ready, r.h.names)
		f.Ready = way.ready.pointer()
		f.Late = r.account(way.life, way.ready)
		f.Evidence = append(f.Evidence, way.ready.id)
	}
	f.after(rt.earlier(s, rt.at(s, nil, true)))
}
