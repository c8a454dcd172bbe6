package timeline

import "fmt"

// NearMiss says that the open succeeded on a live device, but the mapping had been
// ready for less than the threshold, or udev had not even finished with it: it
// worked by luck.
const NearMiss = "near-miss"

type nearMiss struct{}

func (nearMiss) find(r *record, report func(*Finding)) {
	for u := range r.all {
		m := u.use.Margin
		if u.use.Errno != 0 || m == nil || m.NS >= r.opts.NearMiss || u.life == nil || u.way != nil && u.way.guessed || m.NS >= 0 && u.guest.waited() {
			continue
		}
		if _, notLive := u.withoutTable(r); notLive && u.life.kind != KindMount {
			continue
		}
		f := r.finding(NearMiss, false, u)
		f.Withheld = r.luck(u)
		report(f)
	}
}

// waited reports whether the guest was held until its disks were ready: that it
// came soon after is no luck.
func (g *guestLife) waited() bool {
	n := len(g.out.Holds)
	return n > 0 && g.out.Holds[n-1].Reason == whyReady
}

// luck returns why it is not certain that the margin was so small.
func (r *record) luck(u *first) string {
	m := u.use.Margin
	switch {
	case m.AtLeast:
		return "the mapping was ready at or before the start of tracing"
	case m.NS+m.Width >= r.opts.NearMiss:
		return fmt.Sprintf("the margin is only known to be between %v and %v", m.NS, m.NS+m.Width)
	}
	return r.between(u)
}
