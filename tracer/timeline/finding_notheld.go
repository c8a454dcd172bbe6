package timeline

// NotHeld says that starts of guests went on in enforce mode without being looked
// at: more came at a time than can be held, or their arguments could not be read
// in time. Count is how many; 0: not known. Whose they were is not known.
const NotHeld = "not-held"

// whatHold is what a loss of the hold's is about.
const whatHold = "hold"

type notHeld struct{}

func (notHeld) find(r *record, report func(*Finding)) {
	for i := range r.losses {
		l := &r.losses[i]
		if l.What == whatHold && l.UID == 0 && l.PID == 0 {
			report(&Finding{Kind: NotHeld, At: l.At, Count: int(min(l.Count, 1<<30)), Reason: l.Why, Evidence: proof([]uint64{l.Event})})
		}
	}
}

func (notHeld) kinds() []findingKind {
	return []findingKind{{name: NotHeld, outcome: noOutcome, cause: none}}
}
