package timeline

import (
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/blockdev"
)

// OpenError says that the guest's open failed for another reason than that
// nothing was there, and that it never got the disk open: EACCES, EBUSY, EIO.
const OpenError = "open-error"

// CauseInUse means that somebody else had it.
const CauseInUse = "in-use"

// CausePermission means that the guest was not allowed to open the device, and
// CauseFilePermission, the file.
const (
	CausePermission     = "permission"
	CauseFilePermission = "file-permission"
)

// CauseOpenError means that the open failed for another reason.
const CauseOpenError = "open-error"

type openError struct{}

func (openError) find(r *record, report func(*Finding)) {
	for u := range r.uses {
		if u.use.Errno == 0 || u.absent() || u.nodeWithoutTable() || u.noMedium() || u.disk.opened() {
			continue
		}
		f := r.finding(OpenError, false, u)
		f.Late, f.Margin = nil, nil // it was there, and in time or not does not matter
		report(f)
	}
}

func (openError) kinds() []findingKind {
	return []findingKind{{name: OpenError, outcome: failed, cause: refusedOpen}}
}

var (
	inUse         = newCause(causeKind{name: CauseInUse, cures: just(CureRelease)})
	notAllowed    = newCause(causeKind{name: CausePermission, cures: just(CurePermission)})
	fileForbidden = newCause(causeKind{name: CauseFilePermission, cures: just(CureFileRights)})
	otherError    = newCause(causeKind{name: CauseOpenError, cures: (*Cause).errorRemedies})
)

// errorRemedies: a DRBD device that is not primary here gives these errors (drbd_open,
// drivers/block/drbd/drbd_main.c).
func (c *Cause) errorRemedies() []string {
	if c.DeviceKind == blockdev.DRBD && (c.Error == "EROFS" || c.Error == "EMEDIUMTYPE") {
		return []string{CurePromote, CureErrorLog}
	}
	return []string{CureErrorLog}
}

// refusedOpen goes by the error.
func refusedOpen(_ *record, f *Finding) *causeKind {
	switch unix.Errno(f.Errno) {
	case unix.EACCES, unix.EPERM:
		if !inDev(f.Disk) && (f.Mapping == "" || f.DeviceKind == KindMount) {
			return fileForbidden
		}
		return notAllowed
	case unix.EBUSY, unix.EAGAIN, unix.ETXTBSY:
		return inUse
	}
	return otherError
}

// noMedium reports whether there is a drive and nothing in it.
func (u *firstUse) noMedium() bool {
	return u.use.Errno == int(unix.ENOMEDIUM) && removable(u.disk)
}

// opened reports whether the guest ever got the disk open. qemu tries to write
// first, and takes what it may only read after that.
func (d *Disk) opened() bool {
	for i := range d.Uses {
		if d.Uses[i].Errno == 0 {
			return true
		}
	}
	return false
}
