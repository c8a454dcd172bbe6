package timeline

// WouldHold says, of a boot in trace mode, that enforce mode would have held this
// start: a disk was not ready when the guest's program began.
const WouldHold = "would-hold"

type wouldHold struct{}

func (wouldHold) find(r *record, report func(*Finding)) {
	for _, g := range r.guests {
		if g.out.Backfilled || len(g.out.Holds) > 0 || !r.modes.traceAt(g.out.Exec.At) {
			continue
		}
		if u := r.waitedFor(g); u != nil {
			report(r.wouldHold(g, u))
		}
	}
}

// waitedFor returns the disk that would have kept g back longest: one that never
// came, else the one that came last. nil if all were ready.
func (r *record) waitedFor(g *guestLife) *first {
	var found *first
	for i := range g.firsts {
		u := &g.firsts[i]
		switch {
		case u.never():
			return u
		case u.way == nil || u.way.ready.from <= g.out.Exec.At:
		case found == nil || u.way.ready.at > found.way.ready.at:
			found = u
		}
	}
	return found
}

// never reports whether nothing was there, and nothing came.
func (u *first) never() bool {
	return u.absent() && u.way == nil && (u.life != nil || u.route.plausible && !u.route.elsewhere)
}

func (r *record) wouldHold(g *guestLife, u *first) *Finding {
	f := r.finding(WouldHold, false, u)
	f.At, f.Margin, f.Late = g.out.Exec.At, nil, nil
	f.Errno, f.Error = 0, ""
	if u.way == nil {
		f.Withheld = r.rest(u)
		return f
	}
	f.Held = u.way.ready.at.Sub(g.out.Exec.At)
	f.Withheld = r.between(u)
	return f
}
