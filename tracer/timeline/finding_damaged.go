package timeline

// Damaged says that a header in the disk failed a check.
const Damaged = "damaged"

// CauseDamaged means that a header inside failed a check.
const CauseDamaged = "damaged"

type damaged struct{}

func (damaged) find(r *record, report func(*Finding)) {
	for w := range r.insides {
		if f := w.trouble(Damaged); f != nil {
			report(f)
		}
	}
}

func (damaged) kinds() []findingKind {
	return []findingKind{{name: Damaged, outcome: failedUnlessSpare, cause: always(damagedHeader), order: 1}}
}

var damagedHeader = newCause(causeKind{name: CauseDamaged, inside: true, cures: just(CureGuestRepair)})
