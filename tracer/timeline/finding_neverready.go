package timeline

// NeverReady says that the guest's open failed because the path or the device was not
// there, and it never became ready in this boot, as far as it is recorded.
const NeverReady = "never-ready"

type neverReady struct{}

func (neverReady) find(r *record, report func(*Finding)) {
	for u := range r.uses {
		if !u.absent() || u.way != nil || u.nodeWithoutTable() || u.route.before(u.stamp()) {
			continue
		}
		if u.life == nil && (!u.route.plausible || u.route.elsewhere) {
			continue // no mapping's path, or that of another device
		}
		f := r.finding(NeverReady, true, u)
		f.Withheld = r.rest(u)
		report(f)
	}
}
