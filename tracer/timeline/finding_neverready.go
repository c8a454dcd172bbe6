package timeline

import (
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// NeverReady says that the guest's open failed because the path or the device was not
// there, and it never became ready in this boot, as far as it is recorded.
const NeverReady = "never-ready"

type neverReady struct{}

func (neverReady) find(r *record, report func(*Finding)) {
	opened := r.lastOpened()
	for u := range r.usesOfDisks {
		if !u.noFile() && (!u.absent() || u.way != nil || u.nodeWithoutTable() || u.route.before(u.stamp()) || r.renamedAs(u) != nil) {
			continue
		}
		if u.life == nil && (u.route.elsewhere || opened[clean(u.disk.Path)] > u.use.At || !u.matters()) {
			continue
		}
		f := r.finding(NeverReady, !u.noFile(), u)
		if f.Withheld = r.rest(u); u.noFile() {
			f.Ready, f.Margin, f.Late = nil, nil, nil // they are its file system's
		}
		if point := u.route.needs; point != "" && u.life == nil {
			f.DeviceKind, f.MappingName = KindMount, point
			f.Reason = "the file system that it lay on in an earlier boot was never mounted at " + point
		}
		report(f)
	}
}

func (neverReady) kinds() []findingKind {
	return []findingKind{{name: NeverReady, outcome: failed, cause: howItStood}}
}

// CauseNoFile means that the file was not on its file system, which was mounted.
const CauseNoFile = "no-file"

var noSuchFile = newCause(causeKind{name: CauseNoFile, cures: just(CureFindFile)})

// noFile reports whether a file was not on its file system, which was mounted, and did
// not come later.
func (u *firstUse) noFile() bool {
	return u.use.Errno == int(unix.ENOENT) && u.life != nil && u.life.kind == KindMount && u.certain && u.state == stateLive &&
		(u.way == nil || !u.use.Margin.Negative()) && !u.disk.opened()
}

// matters reports whether a path that nothing in the record leads to was a disk
// that the guest could not do without. Of a file, only the guest's end tells.
func (u *firstUse) matters() bool {
	e := u.guest.out.Exit
	return inDev(u.disk.Path) || e != nil && failedExit(&e.ExitInfo)
}

// lastOpened returns for each disk's path when a guest last opened it with
// success: something was there in the end.
func (r *record) lastOpened() map[string]event.Time {
	last := map[string]event.Time{}
	for _, g := range r.guests {
		for i := range g.out.Disks {
			d := &g.out.Disks[i]
			for j := range d.Uses {
				if u := &d.Uses[j]; u.Errno == 0 {
					last[clean(d.Path)] = max(last[clean(d.Path)], u.At)
				}
			}
		}
	}
	return last
}
