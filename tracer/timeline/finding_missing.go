package timeline

import (
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
)

// Missing says that the guest's open failed because the path or the device was not
// there yet; it became ready later in this boot.
const Missing = "missing"

type missing struct{}

func (missing) find(r *record, report func(*Finding)) {
	for u := range r.usesOfDisks {
		if !u.absent() || !u.late() || u.onlyLinkMissing() || u.nodeWithoutTable() {
			continue
		}
		f := r.finding(Missing, true, u)
		f.Withheld = r.between(u)
		report(f)
	}
}

func (missing) kinds() []findingKind {
	return []findingKind{{name: Missing, outcome: failed, cause: howItStood}}
}

// nodeWithoutTable reports whether the node was there, and its table was not live: such an
// open fails with ENXIO from Linux 6.1 on, where a path to nothing gives ENOENT. That of a
// DRBD device fails with EROFS, or EMEDIUMTYPE for reading, until it is primary.
func (u *firstUse) nodeWithoutTable() bool {
	if !u.certain || u.state != stateCreated && u.state != string(devmap.Loaded) {
		return false
	}
	switch unix.Errno(u.use.Errno) {
	case unix.ENXIO:
		return true
	case unix.EROFS, unix.EMEDIUMTYPE:
		return u.life.kind == blockdev.DRBD
	}
	return false
}
