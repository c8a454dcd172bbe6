package timeline

// Removed says that the mapping had been ready and was removed again before the guest
// opened it, and did not come back.
const Removed = "removed"

type removed struct{}

func (removed) find(r *record, report func(*Finding)) {
	for u := range r.uses {
		if !u.absent() || u.noFile() || u.way != nil || !u.route.before(u.stamp()) || u.onlyLinkGone() || r.renamedAs(u) != nil {
			continue
		}
		f := r.finding(Removed, false, u)
		f.Withheld = r.rest(u)
		report(f)
	}
}

func (removed) kinds() []findingKind {
	return []findingKind{{name: Removed, outcome: failed, cause: always(deactivated)}}
}
