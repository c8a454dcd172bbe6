package timeline

import "golang.org/x/sys/unix"

// LinkMissing says that the guest's open failed because its path was not there,
// although the mapping was live and, as far as the record tells, the path led to it:
// somebody removed the link, or udev never made it again.
const LinkMissing = "link-missing"

type linkMissing struct{}

func (linkMissing) find(r *record, report func(*Finding)) {
	for u := range r.all {
		if u.use.Errno != int(unix.ENOENT) || u.way == nil || u.use.Margin.Negative() || u.disk.opened() {
			continue
		}
		f := r.finding(LinkMissing, false, u)
		f.Margin, f.Late = nil, nil // it was ready, and that helped nobody
		f.Withheld = r.between(u)
		report(f)
	}
}
