package timeline

// Truncated says that something in the disk (an image, a partition, a physical volume,
// a file system) needs more bytes than there are, whoever took them away.
const Truncated = "truncated"

// CauseTruncated means that something inside needs more bytes than there are.
const CauseTruncated = "truncated"

type truncated struct{}

func (truncated) find(r *record, report func(*Finding)) {
	for w := range r.insides {
		f := w.trouble(Truncated)
		if f == nil {
			continue
		}
		t := f.Inside
		layer, spare := w.seen.ShortLayer()
		t.Spare = spare
		if w.before != nil {
			t.Since = w.before.ShortSince
		}
		if t.Whole, t.WholeOn = w.whole(layer); t.Since == "" && t.Whole == "" {
			t.Whole, t.WholeOn = w.wholeInside()
		}
		if (t.Since != "" || t.Whole != "") && w.recall != 0 {
			f.Evidence = proof(append(f.Evidence, w.recall))
		}
		report(f)
	}
}

func (truncated) kinds() []findingKind {
	return []findingKind{{name: Truncated, outcome: failedUnlessSpare, cause: always(cutOff), order: 1}}
}

var cutOff = newCause(causeKind{
	name: CauseTruncated, inside: true,
	look:  (*record).filesystemPolicy,
	cures: func(c *Cause) []string { return append([]string{CureGiveBack}, c.holdInside()...) },
})
