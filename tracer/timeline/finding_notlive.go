package timeline

// NotLive says that the node was there, but no table behind it was active. The open
// succeeds with size 0, or fails with ENXIO; qemu then runs on nothing. The
// same holds for a mapping that stays suspended: its I/O hangs.
const NotLive = "not-live"

type notLive struct{}

func (notLive) find(r *record, report func(*Finding)) {
	for u := range r.usesOfDisks {
		if u.life == nil || u.life.kind == KindMount || !(u.use.Errno == 0 || u.nodeWithoutTable()) {
			continue
		}
		if sure, possible := u.withoutTable(r); possible {
			f := r.finding(NotLive, true, u)
			f.Withheld = u.doubt(sure, r.between(u))
			report(f)
		}
	}
}

func (notLive) kinds() []findingKind {
	return []findingKind{{name: NotLive, outcome: failed, cause: howItStood}}
}

// doubt returns why the verdict is not certain: a reason in the record, or in
// what the open itself tells.
func (u *firstUse) doubt(sure bool, record string) string {
	switch {
	case record != "":
		return record
	case !sure:
		return "the open and the activation cannot be told apart in time, and the size is not known"
	case u.use.Margin.Positive():
		return "the device had no size although the record says that it was live"
	}
	return ""
}

// withoutTable goes by the size, which is proof, and only where it is unknown
// by the times.
func (u *firstUse) withoutTable(r *record) (sure, possible bool) {
	switch {
	case u.use.Errno != 0:
		return true, true
	case u.hangs(r):
		return true, true
	case u.use.Size == 0:
		return true, true
	case u.use.Size > 0:
		return false, false
	}
	switch u.state {
	case "created", "loaded":
		return u.certain, true
	case "live", "suspended":
		return false, false
	}
	// The device was opened, so it existed: the state before the change that
	// falls into the open does not count as long as it is none.
	return false, !u.certain && !u.life.out.Backfilled && u.life.out.Created != nil
}

// hangs reports whether the mapping was suspended and did not go on soon.
func (u *firstUse) hangs(r *record) bool {
	if u.state != "suspended" || !u.certain {
		return false
	}
	for _, s := range u.life.suspensions {
		if s.start.at > u.use.From {
			break
		}
		end := r.last
		if s.end != nil {
			end = s.end.at
		}
		if end >= u.use.At && end.Sub(s.start.from) > r.opts.Settle {
			return true
		}
	}
	return false
}
