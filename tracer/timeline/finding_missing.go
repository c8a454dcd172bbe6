package timeline

import "golang.org/x/sys/unix"

// Missing says that the guest's open failed because the path or the device was not
// there yet; it became ready later in this boot.
const Missing = "missing"

type missing struct{}

func (missing) find(r *record, report func(*Finding)) {
	for u := range r.uses {
		if !u.absent() || !u.late() || u.onlyLinkMissing() || u.nodeWithoutTable() {
			continue
		}
		f := r.finding(Missing, true, u)
		f.Withheld = r.between(u)
		report(f)
	}
}

// nodeWithoutTable tells the open of a node that was there before its table
// was live (ENXIO from 6.1 on) from one of nothing.
func (u *first) nodeWithoutTable() bool {
	return u.use.Errno == int(unix.ENXIO) && u.certain && (u.state == "created" || u.state == "loaded")
}
