package timeline

import "golang.org/x/sys/unix"

// LinkMissing says that the guest's open failed because its path was not there,
// although the mapping was live and, as far as the record tells, the path led to it:
// somebody removed the link, or udev never made it again.
const LinkMissing = "link-missing"

// CauseLinkMissing means that the mapping was live, and the path to it was not there.
const CauseLinkMissing = "link-missing"

type linkMissing struct{}

func (linkMissing) find(r *record, report func(*Finding)) {
	for u := range r.uses {
		if u.noFile() {
			continue // nothing leads to a file but its folder
		}
		gone := u.onlyLinkGone() && r.renamedAs(u) == nil
		if !gone && (u.use.Errno != int(unix.ENOENT) || u.way == nil || u.use.Margin.Negative() || u.disk.opened()) {
			continue
		}
		f := r.finding(LinkMissing, false, u)
		f.Margin, f.Late = nil, nil // it was ready, and that helped nobody
		if f.Withheld = r.between(u); gone {
			f.Withheld = r.rest(u)
		}
		report(f)
	}
}

func (linkMissing) kinds() []findingKind {
	return []findingKind{{name: LinkMissing, outcome: failed, cause: always(linkGone)}}
}

var linkGone = newCause(causeKind{name: CauseLinkMissing, cures: just(CureLinks)})

// onlyLinkGone reports whether a path had led to a device that was ready, and
// leads nowhere since, although the device itself was there at the open.
func (u *firstUse) onlyLinkGone() bool {
	return u.use.Errno == int(unix.ENOENT) && u.way == nil && u.route.before(u.stamp()) && u.certain && u.state == stateLive
}
