package timeline

import (
	"slices"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
)

// HoldAdvice is what a hold did for a guest that came too early, or would do.
type HoldAdvice struct {
	// Mode is the one in force when the guest started: trace or enforce.
	Mode string `json:"mode"`
	// Program is the guest's, and Covered is set where a pattern of
	// enforce.binaries names it, or libvirt's hook holds the start.
	Program string `json:"program,omitempty"`
	Covered bool   `json:"covered"`
	// Deadline is how long a hold lasts at the most, Wait how long it took from the
	// start until all disks were ready, or at least the one in question where another
	// never was; 0: they were ready already, or that is not known.
	Deadline event.Duration `json:"deadline_ns"`
	Wait     event.Duration `json:"wait_ns,omitempty"`
	// Ended is how a hold ended that there was, empty where there was none.
	Ended event.HoldOutcome `json:"ended,omitempty"`
	// Bound is set where the kernel's way of holding bounds the deadline, and not
	// the configuration.
	Bound bool `json:"bound,omitempty"`
	// Untried is set where nobody has found out for how long the kernel lets a start be
	// held: trace mode on an old kernel, whose bound may be far below the deadline.
	Untried bool `json:"untried,omitempty"`
}

// holdAdvice says of the guest of a finding what a hold would come to, nil where
// the record does not tell the policy.
func (r *record) holdAdvice(f *Finding) *HoldAdvice {
	g, p := r.start(f.GuestID)
	if g == nil {
		return nil
	}
	from := g.Exec.At
	if n := len(g.Holds); n > 0 {
		from = g.Holds[n-1].At
	}
	policy := r.policies.at(from)
	if policy == nil {
		return nil
	}
	how := r.rulingOf(policy, g)
	a := &HoldAdvice{
		Mode: policy.Mode, Program: g.Binary, Covered: how.covered || g.Domain != nil || len(g.Holds) > 0, Deadline: how.Deadline,
		Bound: policy.Longest > 0 && how.Deadline == policy.Longest, Untried: how.untried,
	}
	switch {
	case p.ready != nil:
		a.Wait = p.wait()
	case f.Ready != nil:
		a.Wait = max(f.Ready.At.Sub(from), 0)
	}
	if n := len(g.Holds); n > 0 {
		h := &g.Holds[n-1]
		a.Ended = h.Outcome
		if f.Ready != nil {
			a.Wait = max(a.Wait, f.Ready.At.Sub(h.At))
		}
		if h.Deadline > h.At {
			a.Deadline = h.Deadline.Sub(h.At)
		}
	}
	return a
}

// start returns a guest that was seen to start, and what a hold of it would have
// waited for; nil where there is none of that id.
func (r *record) start(id string) (*Guest, *plan) {
	if r.starts == nil {
		r.starts = map[string]func() (*Guest, *plan){}
		for _, g := range r.guests {
			if !g.out.Backfilled {
				r.starts[g.out.ID] = sync.OnceValues(func() (*Guest, *plan) { return g.out, r.planFor(g) })
			}
		}
		for _, u := range r.unstarted {
			at := stamp{from: u.out.Exec.From, at: u.out.Exec.At}
			r.starts[u.out.ID] = sync.OnceValues(func() (*Guest, *plan) { return u.out, r.planOf(u.out, at) })
		}
	}
	if found := r.starts[id]; found != nil {
		return found()
	}
	return nil, nil
}

// spareTime is what a deadline must have to spare above the wait that was
// measured: the next boot is not this one.
const spareTime = time.Second

// holdRemedies are what would have a hold last until the disks are ready. There is
// none where the start was held, and ended by hand or because the launcher was
// killed with it.
func (c *Cause) holdRemedies() []string {
	a := c.Hold
	enough := a == nil || a.Wait+spareTime <= a.Deadline
	switch {
	case a == nil:
		return []string{CureHold}
	case !a.Covered:
		return []string{CureHoldProgram}
	case a.Ended == event.HoldGone:
		return []string{CureLauncher}
	case !enough && a.Bound:
		return []string{CureWait}
	case !enough:
		return []string{CureLongerHold}
	case a.Mode == event.ModeTrace:
		return []string{CureHold}
	}
	return nil // it was held, or looked at, and that did not help
}

// unopened adds to the verdicts of guests that failed the disks that they did not
// get so far as to open: with the first one in time, they would fail at these.
func (r *record) unopened(verdicts map[string]*Verdict) {
	for _, g := range r.guests {
		v := verdicts[g.out.ID]
		if v == nil || !slices.ContainsFunc(v.Causes, func(c *Cause) bool { return c.Outcome == OutcomeFailed }) || g.out.Exit == nil || g.out.Backfilled {
			continue
		}
		p := r.planFor(g)
		for i := range p.waits {
			w := &p.waits[i]
			if w.use != nil || len(w.disk.Uses) > 0 {
				continue
			}
			f := &Finding{
				Kind: NeverReady, Guest: v.Guest, GuestID: v.GuestID, Disk: w.disk.Path, BackingOf: w.disk.BackingOf,
				At: g.out.Exec.At, Evidence: []uint64{g.out.Exec.Event},
				Withheld: r.withheld(readiness, g.out.Exec.From, max(g.out.Exec.At, r.last-1)),
			}
			if w.way != nil {
				f.Kind = Missing
			}
			r.stood(f, w.disk.Path, g.fact.stamp)
			if c := r.explain(f); c != nil {
				c.Findings, c.Unopened = []string{WouldHold}, true
				v.add(c)
			}
		}
	}
}
