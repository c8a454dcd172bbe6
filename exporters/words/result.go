package words

import (
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Result is what stands at the end of a lane, in full and for where room is
// scarce.
type Result struct {
	Long, Short string
	Style       Style
}

// Worst is the class of the worst of findings, Note where there are none.
func Worst(findings []*timeline.Finding) Class {
	worst := Note
	for _, f := range findings {
		worst = min(worst, ClassOf(f))
	}
	return worst
}

// Guest is the margin of the worst of g's findings, else g's tightest.
func (t *Teller) Guest(g *timeline.Guest, findings []*timeline.Finding) Result {
	var worst *timeline.Finding
	for _, f := range findings {
		if worst == nil || ClassOf(f) < ClassOf(worst) {
			worst = f
		}
	}
	switch {
	case worst != nil && worst.Withheld != "":
		return Result{"no verdict", "no verdict", Unsure.Style()}
	case worst != nil && ClassOf(worst) == Note && len(g.Holds) > 0:
		return t.held(g)
	case worst != nil && worst.Margin != nil:
		return t.Margin(worst.Margin, ClassOf(worst).Style())
	case worst != nil:
		kind := t.Name(worst.Kind, NameCols)
		return Result{kind, kind, ClassOf(worst).Style()}
	}
	switch tightest := tightest(g); {
	case tightest != nil:
		return t.Margin(tightest, Good)
	case g.Backfilled:
		return Result{"ran before tracing", "ran before", Dim}
	}
	return Result{}
}

func tightest(g *timeline.Guest) *timeline.Margin {
	var least *timeline.Margin
	for i := range g.Disks {
		for _, u := range g.Disks[i].Uses {
			if u.Margin != nil && (least == nil || u.NS < least.NS) {
				least = u.Margin
			}
		}
	}
	return least
}

// held is how long a guest's start was held.
func (t *Teller) held(g *timeline.Guest) Result {
	var total event.Duration
	for i := range g.Holds {
		h := &g.Holds[i]
		if h.Released == nil {
			return Result{"still held", "held", Warn}
		}
		total += max(h.Released.At.Sub(h.At), 0)
	}
	d := t.Signs.Duration(total)
	return Result{"held " + d, d, Warn}
}

// Margin is m, in the style st where it is clear: its middle, without the half
// width that a sentence has.
func (t *Teller) Margin(m *timeline.Margin, st Style) Result {
	middle := t.Signs.Duration(Middle(m).Abs())
	switch side := SideOf(m); {
	case side == Early:
		return Result{middle + " too early", "-" + middle, st}
	case side == Spare && m.AtLeast:
		least := t.Signs.AtLeast + t.Signs.Duration(m.NS)
		return Result{least + " to spare", least, st}
	case side == Spare:
		return Result{middle + " to spare", "+" + middle, st}
	case side == Either:
		return Result{"-" + t.Signs.Duration(-m.NS) + " to +" + t.Signs.Duration(m.NS+m.Width), "not clear", Warn}
	}
	return Result{"margin not known", "not known", Dim}
}

// Ready says when a disk was ready, in the middle of its window; nil means never.
func (t *Teller) Ready(ready *timeline.Instant) Result {
	switch {
	case ready == nil:
		return Result{"never ready", "never", Bad}
	case ready.OrBefore:
		return Result{"ready before " + t.At(ready.At), "before", Dim}
	}
	at := t.At(MiddleOf(ready))
	return Result{"ready " + at, at, Dim}
}
