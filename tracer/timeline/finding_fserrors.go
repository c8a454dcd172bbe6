package timeline

import (
	"strings"

	"github.com/bootrace/bootrace/tracer/inspect"
)

// FSErrors says that a file system says of itself that it has errors. A kernel mounts
// an ext4 that does; of XFS it is what makes the kernel refuse to.
const FSErrors = "fs-errors"

type fsErrors struct{}

func (fsErrors) find(r *record, report func(*Finding)) {
	for w := range r.insides {
		if f := w.trouble(FSErrors); f != nil {
			f.Inside.Spare = !strings.HasSuffix(f.Inside.Layer, string(inspect.KindXFS))
			report(f)
		}
	}
}
