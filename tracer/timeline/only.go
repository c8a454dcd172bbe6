package timeline

import "slices"

// Only returns what t says of one guest: its starts, findings and verdicts, and a
// summary of it alone. name is a guest's name, uuid, identity ("uuid:..."), or the
// id of one start (PID@EXEC_NS). What else the boot had, such as devices, stays;
// only the guests, findings and verdicts are copied. It is nil where no guest of
// this boot is called so.
func (t *Timeline) Only(name string) *Timeline {
	if name == "" {
		return nil
	}
	ids := map[string]bool{}
	for _, g := range t.Guests {
		if g.ID == name || g.Name == name || g.UUID == name || g.Identity == name || g.IdentityFrom+":"+g.Identity == name {
			ids[g.ID] = true
		}
	}
	of := func(guest, id string) bool { return ids[id] || guest == name }
	out := *t
	out.Guests = slices.DeleteFunc(slices.Clone(t.Guests), func(g *Guest) bool { return !ids[g.ID] })
	out.Findings = slices.DeleteFunc(slices.Clone(t.Findings), func(f *Finding) bool { return !of(f.Guest, f.GuestID) })
	out.Verdicts = []*Verdict{}
	place := map[int]int{}
	for i, v := range t.Verdicts {
		if of(v.Guest, v.GuestID) || v.Identity == name {
			place[i] = len(out.Verdicts)
			out.Verdicts = append(out.Verdicts, v)
		}
	}
	if len(out.Guests) == 0 && len(out.Findings) == 0 && len(out.Verdicts) == 0 {
		return nil
	}
	out.Summary = t.Summary.only(place)
	return &out
}

// OfKind returns t with the findings of one kind alone, and the verdicts and causes
// that they led to. The summary has the guests with such a cause, and what these
// causes come to: that a guest failed for another reason is not in it.
func (t *Timeline) OfKind(kind string) *Timeline {
	out := *t
	out.Findings = slices.DeleteFunc(slices.Clone(t.Findings), func(f *Finding) bool { return f.Kind != kind })
	out.Verdicts = []*Verdict{}
	place := map[int]int{}
	for i, v := range t.Verdicts {
		kept := *v
		kept.Causes = slices.DeleteFunc(slices.Clone(v.Causes), func(c *Cause) bool { return !slices.Contains(c.Findings, kind) })
		if len(kept.Causes) == 0 {
			continue
		}
		kept.Outcome = OutcomeFine
		for _, c := range kept.Causes {
			kept.Outcome = kept.Outcome.Worse(c.Outcome)
		}
		place[i] = len(out.Verdicts)
		out.Verdicts = append(out.Verdicts, &kept)
	}
	s := Summary{Outcome: OutcomeFine, Unknown: t.Summary.Unknown, Guests: []GuestSummary{}}
	for _, g := range t.Summary.Guests {
		all := g.Verdicts
		g.Verdicts, g.Outcome = nil, OutcomeFine
		for _, n := range all {
			at, ok := place[n]
			if !ok {
				continue
			}
			if o := out.Verdicts[at].Outcome; len(g.Verdicts) == 0 || g.Outcome.Worse(o) != g.Outcome {
				g.Verdict, g.Outcome = at, o
			}
			g.Verdicts = append(g.Verdicts, at)
		}
		if len(g.Verdicts) == 0 {
			continue
		}
		s.Guests = append(s.Guests, g)
		s.Counts.add(g.Outcome)
		s.Outcome = s.Outcome.Worse(g.Outcome)
	}
	if len(s.Unknown) > 0 {
		s.Outcome = s.Outcome.Worse(OutcomeUnknown)
	}
	out.Summary = s
	return &out
}

// only is the summary of the guests that have one of these verdicts; place has
// their new places by the old ones.
func (s *Summary) only(place map[int]int) Summary {
	out := Summary{Outcome: OutcomeFine, Unknown: s.Unknown, Guests: []GuestSummary{}}
	for _, g := range s.Guests {
		first, known := place[g.Verdict]
		if !known {
			continue
		}
		g.Verdict = first
		var verdicts []int
		for _, n := range g.Verdicts {
			if at, kept := place[n]; kept {
				verdicts = append(verdicts, at)
			}
		}
		g.Verdicts = verdicts
		out.Guests = append(out.Guests, g)
		out.Counts.add(g.Outcome)
		out.Outcome = out.Outcome.Worse(g.Outcome)
	}
	if len(out.Unknown) > 0 {
		out.Outcome = out.Outcome.Worse(OutcomeUnknown)
	}
	return out
}
