package timeline

import (
	"slices"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
)

// Outcome is how it went for one cause, one start, one guest or a whole boot.
type Outcome string

// The outcomes. What is not known is never fine.
const (
	// OutcomeFailed: the guest did not get a disk, came before one, got the
	// wrong one, was denied or killed while it was held, never started, or ended
	// with an error.
	OutcomeFailed Outcome = "failed"
	// OutcomeUnknown: no failure is known, and the record is not enough to say
	// that there was none.
	OutcomeUnknown Outcome = "unknown"
	// OutcomeAtRisk: it worked, by luck.
	OutcomeAtRisk Outcome = "at-risk"
	// OutcomeFine: every disk was opened with success and was ready before, and
	// the record covers the time.
	OutcomeFine Outcome = "fine"
)

// Outcomes lists all of them, the worst first.
func Outcomes() []Outcome {
	return []Outcome{OutcomeFailed, OutcomeUnknown, OutcomeAtRisk, OutcomeFine}
}

// Worse returns the worse of two outcomes. A failure outweighs a doubt, and a
// doubt outweighs all else.
func (o Outcome) Worse(p Outcome) Outcome {
	all := Outcomes()
	if slices.Index(all, p) < slices.Index(all, o) {
		return p
	}
	return o
}

// Summary is what a boot comes to. Each headline, exit status, metric and span
// takes it from here.
type Summary struct {
	// Outcome is that of the whole boot: of its worst guest, or unknown where
	// the record may not have seen every guest.
	Outcome Outcome `json:"outcome"`
	// Unknown says why the record may not have seen every guest, empty if it has.
	Unknown []string `json:"why_unknown,omitempty"`
	// Counts are guests, each counted once however often it was started.
	Counts Counts `json:"counts"`
	// Guests are all guests of the boot, by the start that decided.
	Guests []GuestSummary `json:"guests"`
}

// Counts are numbers of guests by outcome.
type Counts struct {
	Failed  int `json:"failed"`
	AtRisk  int `json:"at_risk"`
	Fine    int `json:"fine"`
	Unknown int `json:"unknown"`
}

// Of returns the number of guests with that outcome.
func (c Counts) Of(o Outcome) int {
	switch o {
	case OutcomeFailed:
		return c.Failed
	case OutcomeAtRisk:
		return c.AtRisk
	case OutcomeFine:
		return c.Fine
	}
	return c.Unknown
}

func (c *Counts) add(o Outcome) {
	switch o {
	case OutcomeFailed:
		c.Failed++
	case OutcomeAtRisk:
		c.AtRisk++
	case OutcomeFine:
		c.Fine++
	default:
		c.Unknown++
	}
}

// Runs says whether a guest runs at the end of the record.
type Runs string

// The answers. Whether it runs is not known where its exit may have been missed, or
// where its start is still held, or was let go, when the record ends.
const (
	RunsYes     Runs = "yes"
	RunsNo      Runs = "no"
	RunsUnknown Runs = "unknown"
)

// GuestSummary is one guest over all its starts in a boot. Starts belong to one
// guest if they have the same identity, or else the same name.
type GuestSummary struct {
	// Guest and Identity are as in a Verdict. Both are empty where somebody
	// looked for a volume and no guest ever ran on it: Disk is the volume then.
	Guest    string `json:"guest,omitempty"`
	Identity string `json:"identity,omitempty"`
	Disk     string `json:"disk,omitempty"`
	// Outcome is that of the worst start.
	Outcome Outcome `json:"outcome"`
	// Starts is how many starts there were, Bad how many of them had Outcome,
	// and First and Last when the first and the last of those were.
	Starts int        `json:"starts"`
	Bad    int        `json:"bad"`
	First  event.Time `json:"first_ns"`
	Last   event.Time `json:"last_ns"`
	// Runs says whether it runs at the end of the record, Since from when on.
	Runs  Runs        `json:"runs"`
	Since *event.Time `json:"since_ns,omitempty"`
	// Verdict is the place in Timeline.Verdicts of the first start with Outcome,
	// Verdicts are those of all starts.
	Verdict  int   `json:"verdict"`
	Verdicts []int `json:"verdicts"`
}

// summarize counts guests by their verdicts, in order of their first start.
func (r *record) summarize(t *Timeline) Summary {
	s := Summary{Outcome: OutcomeFine, Guests: []GuestSummary{}}
	place := map[string]int{}
	for i, v := range t.Verdicts {
		key := v.key()
		n, known := place[key]
		if !known {
			n = len(s.Guests)
			place[key] = n
			s.Guests = append(s.Guests, GuestSummary{Guest: v.Guest, Identity: v.Identity, Outcome: v.Outcome, Verdict: i, First: v.At, Runs: RunsNo})
			if v.Guest == "" {
				s.Guests[n].Disk = v.disk()
			}
		}
		s.Guests[n].start(i, v)
	}
	starts := map[string]*guestLife{}
	for _, g := range r.guests {
		starts[g.out.ID] = g
	}
	held := map[string]*unstarted{}
	for _, u := range r.unstarted {
		held[u.out.ID] = u
	}
	for i := range s.Guests {
		g := &s.Guests[i]
		for _, n := range g.Verdicts {
			id := t.Verdicts[n].GuestID
			if life := starts[id]; life != nil {
				if runs := r.runs(life); runs != RunsNo {
					g.Runs, g.Since = runs, &life.out.Exec.At
				}
			}
			if u := held[id]; u != nil && u.open() && g.Runs == RunsNo {
				g.Runs = RunsUnknown
			}
		}
		s.Counts.add(g.Outcome)
		s.Outcome = s.Outcome.Worse(g.Outcome)
	}
	if s.Unknown = r.unseenStarts(t); len(s.Unknown) > 0 {
		s.Outcome = s.Outcome.Worse(OutcomeUnknown)
	}
	return s
}

// start counts a start of g.
func (g *GuestSummary) start(place int, v *Verdict) {
	g.Starts++
	g.Verdicts = append(g.Verdicts, place)
	switch worst := g.Outcome.Worse(v.Outcome); {
	case worst != g.Outcome:
		g.Outcome, g.Verdict, g.First, g.Last, g.Bad = worst, place, v.At, v.At, 1
	case v.Outcome == worst:
		g.Bad++
		g.First, g.Last = min(g.First, v.At), max(g.Last, v.At)
	}
}

// lateStart is the time since the boot after which tracing counts as begun by
// hand, on a host whose guests may have come and gone before. The service itself
// is ordered before everything that starts guests.
const lateStart = event.Time(5 * time.Minute)

// unseenStarts says why a guest can have been started, and have failed, without
// the record telling; nil if that can't be.
func (r *record) unseenStarts(t *Timeline) []string {
	var whys []string
	for i := range r.gaps {
		g := &r.gaps[i]
		if !g.concerns(whatExec, whatOpen) || r.early(t, g) || g.PID != 0 { // that guest was seen
			continue
		}
		whys = union(whys, []string{g.reason()})
	}
	return whys
}

// early reports whether a gap is only the beginning of a boot, in which no guest
// can have been started.
func (r *record) early(t *Timeline, g *Gap) bool {
	looked := len(r.snapshots) > 0 && !slices.ContainsFunc(t.Losses, func(l Loss) bool { return l.Source == sourceSnapshot })
	ran := slices.ContainsFunc(r.guests, func(g *guestLife) bool { return g.out.Backfilled })
	return g.From == 0 && g.To < lateStart && looked && !ran
}

// runs says whether g runs at the end of the record: not known where its exit
// may have been missed since it was last seen.
func (r *record) runs(g *guestLife) Runs {
	switch {
	case g.out.Exit != nil:
		return RunsNo
	case r.missedExit(g) != "":
		return RunsUnknown
	}
	return RunsYes
}

// open reports whether what became of a start that was held is not recorded: it
// still waits, or was let go, and its exec is not in the record.
func (u *unstarted) open() bool {
	n := len(u.out.Holds)
	return n > 0 && !(u.out.Holds[n-1].Outcome == event.HoldDenied || u.out.Holds[n-1].Outcome == event.HoldGone)
}

// missedExit says why g can have ended without the record telling, empty if it
// can't. That the record has no proper end is no reason.
func (r *record) missedExit(g *guestLife) string {
	if g.out.Exit != nil {
		return ""
	}
	return r.withheldOf(g.owns, []string{whatExit}, max(g.out.Exec.At, g.seen), max(g.out.Exec.At, g.seen, r.last-1))
}
