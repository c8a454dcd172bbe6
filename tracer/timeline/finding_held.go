package timeline

import "cmp"

// Held says that enforce mode held a guest's start: for how long, on what, and
// how that ended.
const Held = "held"

type held struct{}

func (held) find(r *record, report func(*Finding)) {
	for _, g := range r.guests {
		for i := range g.out.Holds {
			h := &g.out.Holds[i]
			f := heldFinding(h)
			f.Guest, f.GuestID, f.Exit = g.called(), g.out.ID, g.out.Exit
			f.Evidence = append(f.Evidence, g.out.Exec.Event)
			for _, u := range g.firsts {
				if u.disk.Path == h.Disk && u.way != nil {
					f.Mapping, f.MappingName = u.life.mapping.ID, u.life.nameAt(u.stamp(), u.guest.names)
					f.Ready = u.use.Ready
				}
			}
			f.Evidence = proof(f.Evidence)
			report(f)
		}
	}
	for i := range r.lone {
		l := &r.lone[i]
		f := heldFinding(&l.Hold)
		f.Guest = cmp.Or(l.info.Guest, l.info.Identity)
		f.Evidence = proof(f.Evidence)
		report(f)
	}
}

func heldFinding(h *Hold) *Finding {
	f := &Finding{Kind: Held, Disk: h.Disk, At: h.At, Reason: h.Reason, Outcome: h.Outcome, Evidence: []uint64{h.Event}}
	if h.Released != nil {
		f.Held = h.Released.At.Sub(h.At)
		f.Evidence = append(f.Evidence, h.Released.Event)
	}
	return f
}
