package timeline

// FSErrors says that a file system says of itself that it has errors.
const FSErrors = "fs-errors"

type fsErrors struct{}

func (fsErrors) find(r *record, report func(*Finding)) {
	for w := range r.insides {
		if f := w.trouble(FSErrors); f != nil {
			report(f)
		}
	}
}
