package timeline

import "golang.org/x/sys/unix"

// OpenError says that the guest's open failed for another reason than that
// nothing was there, and that it never got the disk open: EACCES, EBUSY, EIO.
const OpenError = "open-error"

type openError struct{}

func (openError) find(r *record, report func(*Finding)) {
	for u := range r.all {
		if u.use.Errno == 0 || u.absent() || u.nodeWithoutTable() || u.noMedium() || u.disk.opened() {
			continue
		}
		f := r.finding(OpenError, false, u)
		f.Late, f.Margin = nil, nil // it was there, and in time or not does not matter
		report(f)
	}
}

// noMedium reports whether there is a drive and nothing in it.
func (u *first) noMedium() bool {
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
