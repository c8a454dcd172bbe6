package timeline

// Damaged says that a header in the disk failed a check.
const Damaged = "damaged"

type damaged struct{}

func (damaged) find(r *record, report func(*Finding)) {
	for w := range r.insides {
		if f := w.trouble(Damaged); f != nil {
			report(f)
		}
	}
}
