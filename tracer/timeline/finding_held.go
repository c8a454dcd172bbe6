package timeline

import "github.com/bootrace/bootrace/tracer/event"

// Held says that enforce mode held a guest's start: for how long, on what, and
// how that ended. Of those that ended in vain, waiting for disks, State, Ready and
// Late say how it stood with the disk.
const Held = "held"

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
