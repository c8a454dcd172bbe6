package timeline

import "golang.org/x/sys/unix"

// LinkLate says that the mapping was live when the guest's open failed; only the link
// to it was missing, which udev made later.
const LinkLate = "link-late"

type linkLate struct{}

func (linkLate) find(r *record, report func(*Finding)) {
	for u := range r.usesOfDisks {
		if !u.absent() || !u.late() || !u.onlyLinkMissing() {
			continue
		}
		f := r.finding(LinkLate, true, u)
		f.Withheld = r.between(u)
		report(f)
	}
}

func (linkLate) kinds() []findingKind {
	return []findingKind{{name: LinkLate, outcome: failed, cause: howItStood}}
}

// onlyLinkMissing reports whether the mapping was certainly live, suspended or
// not, when the path was not found.
func (u *firstUse) onlyLinkMissing() bool {
	return u.use.Errno == int(unix.ENOENT) && u.certain && (u.state == "live" || u.state == "suspended") && u.life.kind != KindMount
}
