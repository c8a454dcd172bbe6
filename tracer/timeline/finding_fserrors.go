package timeline

import (
	"strings"

	"github.com/bootrace/bootrace/tracer/inspect"
)

// FSErrors says that a file system says of itself that it has errors. A kernel mounts
// an ext4 that does; of XFS it is what makes the kernel refuse to.
const FSErrors = "fs-errors"

// CauseFSErrors means that a file system says that it has errors.
const CauseFSErrors = "fs-errors"

type fsErrors struct{}

func (fsErrors) find(r *record, report func(*Finding)) {
	for w := range r.insides {
		if f := w.trouble(FSErrors); f != nil {
			f.Inside.Spare = !strings.HasSuffix(f.Inside.Layer, string(inspect.KindXFS))
			report(f)
		}
	}
}

func (fsErrors) kinds() []findingKind {
	return []findingKind{{name: FSErrors, outcome: failedUnlessSpare, cause: always(ownErrors), order: 2}}
}

var ownErrors = newCause(causeKind{name: CauseFSErrors, inside: true, cures: just(CureGuestCheck)})
