package timeline

import "github.com/bootrace/bootrace/tracer/inspect"

// Hibernated says that the guest's memory is on the disk: it was suspended to disk,
// and goes on from there. What changes its disks meanwhile damages them.
const Hibernated = "hibernated"

// CauseHibernated means that the guest's memory is on the disk.
const CauseHibernated = "hibernated"

type hibernated struct{}

func (hibernated) find(r *record, report func(*Finding)) {
	for w := range r.insides {
		if l := w.layers(inspect.StateHibernated); len(l) > 0 {
			report(w.finding(Hibernated, &Trouble{Layer: l[0].Title(), What: l[0].Why}))
		}
	}
}

func (hibernated) kinds() []findingKind {
	return []findingKind{{name: Hibernated, outcome: atRisk, cause: always(asleep), order: 2}}
}

var asleep = newCause(causeKind{name: CauseHibernated, inside: true, cures: just(CureLeaveAlone)})
