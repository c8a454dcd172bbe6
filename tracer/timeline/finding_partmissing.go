package timeline

// PartMissing says that from some byte of a file system on its headers are not there,
// although the bytes are: another device has the place of its second part.
const PartMissing = "part-missing"

// CausePartMissing means that a part of a file system's headers is not there.
const CausePartMissing = "part-missing"

type partMissing struct{}

func (partMissing) find(r *record, report func(*Finding)) {
	for w := range r.insides {
		if f := w.trouble(PartMissing); f != nil {
			report(f)
		}
	}
}

func (partMissing) kinds() []findingKind {
	return []findingKind{{name: PartMissing, outcome: failed, cause: always(partGone), order: 1}}
}

var partGone = newCause(causeKind{
	name: CausePartMissing, inside: true,
	look:  (*record).filesystemPolicy,
	cures: func(c *Cause) []string { return append([]string{CureFindPart}, c.holdInside()...) },
})
