package timeline

// PartMissing says that from some byte of a file system on its headers are not there,
// although the bytes are: another device has the place of its second part.
const PartMissing = "part-missing"

type partMissing struct{}

func (partMissing) find(r *record, report func(*Finding)) {
	for w := range r.insides {
		if f := w.trouble(PartMissing); f != nil {
			report(f)
		}
	}
}
