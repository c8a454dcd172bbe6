package text

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// lane is one line of the picture.
type lane struct {
	sign   glyph // of the verdict, blank if none
	style  style // of the sign and the result
	label  string
	short  string // the label without /dev/, for where room is scarce
	nested bool
	result result
	shape  shape // nil: a line of text only
}

// result is what stands at the end of a lane, in full and for narrow windows.
type result struct {
	long, short string
	style       style
}

// shape is what a lane shows on the axis.
type shape interface {
	// instants names every instant that draw would like to show.
	instants(add func(event.Time))
	draw(c *canvas, a *axis)
}

// Without All, no more lanes than can be taken in.
const (
	maxWorst = 40 // guests with findings
	maxFine  = 8  // guests without, and mappings that no guest uses
)

// chooser picks the lanes of a timeline.
type chooser struct {
	tl       *timeline.Timeline
	all      bool
	mappings map[string]*timeline.Mapping
	used     map[string]bool // by mapping id: it is under a guest
	findings map[string][]*timeline.Finding
	signs    *signs
}

// chooseLanes returns the lanes to show: guests with their disks' mappings
// under them, those with findings first, then mappings that no guest uses.
func chooseLanes(tl *timeline.Timeline, all bool, s *signs) []lane {
	c := &chooser{
		tl: tl, all: all, signs: s,
		mappings: make(map[string]*timeline.Mapping, len(tl.Mappings)),
		used:     make(map[string]bool),
		findings: make(map[string][]*timeline.Finding),
	}
	for _, m := range tl.Mappings {
		c.mappings[m.ID] = m
	}
	for _, f := range tl.Findings {
		id := f.GuestID
		c.findings[id] = append(c.findings[id], f)
	}
	return append(c.guests(), c.others()...)
}

func (c *chooser) guests() []lane {
	var worst, fine []*timeline.Guest
	for _, g := range c.tl.Guests {
		for i := range g.Disks {
			c.used[g.Disks[i].Mapping] = true
		}
		if len(c.findings[g.ID]) > 0 {
			worst = append(worst, g)
		} else {
			fine = append(fine, g)
		}
	}
	slices.SortStableFunc(worst, func(a, b *timeline.Guest) int {
		return cmp.Compare(c.class(a), c.class(b))
	})
	worst, moreWorst := head(worst, maxWorst, c.all)
	fine, moreFine := head(fine, maxFine, c.all)
	var lanes []lane
	for _, g := range worst {
		lanes = append(lanes, c.group(g)...)
	}
	lanes = appendMore(lanes, moreWorst, "guests with findings", c.signs)
	for _, g := range fine {
		lanes = append(lanes, c.group(g)...)
	}
	return appendMore(lanes, moreFine, "guests without findings", c.signs)
}

// head returns the first of list, all of them if only a few would be left out.
func head[T any](list []T, limit int, all bool) ([]T, int) {
	if all || len(list) <= limit+limit/2 {
		return list, 0
	}
	return list[:limit], len(list) - limit
}

func appendMore(lanes []lane, n int, what string, s *signs) []lane {
	if n == 0 {
		return lanes
	}
	return append(lanes, lane{label: fmt.Sprintf("%s and %d more %s (--all)", s.ellipsis, n, what)})
}

// class is that of the guest's worst finding.
func (c *chooser) class(g *timeline.Guest) class {
	worst := note
	for _, f := range c.findings[g.ID] {
		worst = min(worst, classOf(f))
	}
	return worst
}

// group returns a guest's lane and one for each of its disks that leads to a
// mapping, or should have.
func (c *chooser) group(g *timeline.Guest) []lane {
	l := lane{label: guestName(g), shape: guestShape{g}, result: c.guestResult(g)}
	l.short = l.label
	if fs := c.findings[g.ID]; len(fs) > 0 {
		l.sign, l.style = classes[c.class(g)].sign, classes[c.class(g)].style
	}
	lanes := []lane{l}
	for i := range g.Disks {
		d := &g.Disks[i]
		m := c.mappings[d.Mapping]
		if m == nil && !failed(d) && !c.all {
			continue // a file: it has no life to show
		}
		lanes = append(lanes, diskLane(d, m))
	}
	return lanes
}

func failed(d *timeline.Disk) bool {
	return slices.ContainsFunc(d.Uses, func(u timeline.Use) bool { return u.Errno != 0 })
}

// guestResult is the margin of the guest's worst finding, else its tightest.
func (c *chooser) guestResult(g *timeline.Guest) result {
	var worst *timeline.Finding
	for _, f := range c.findings[g.ID] {
		if worst == nil || classOf(f) < classOf(worst) {
			worst = f
		}
	}
	switch {
	case worst != nil && worst.Withheld != "":
		return result{"no verdict", "no verdict", classes[unsure].style}
	case worst != nil && classOf(worst) == note && len(g.Holds) > 0:
		return heldResult(g, c.signs)
	case worst != nil && worst.Margin != nil:
		return marginResult(worst.Margin, classes[classOf(worst)].style, c.signs)
	case worst != nil:
		return result{worst.Kind, worst.Kind, classes[classOf(worst)].style}
	}
	var tightest *timeline.Margin
	for i := range g.Disks {
		for _, u := range g.Disks[i].Uses {
			if u.Margin != nil && (tightest == nil || u.NS < tightest.NS) {
				tightest = u.Margin
			}
		}
	}
	switch {
	case tightest != nil:
		return marginResult(tightest, good, c.signs)
	case g.Backfilled:
		return result{"ran before tracing", "ran before", dim}
	}
	return result{}
}

// heldResult is how long a guest's start was held.
func heldResult(g *timeline.Guest, s *signs) result {
	var total event.Duration
	for i := range g.Holds {
		if h := &g.Holds[i]; h.Released != nil {
			total += max(h.Released.At.Sub(h.At), 0)
		} else {
			return result{"still held", "held", warn}
		}
	}
	d := duration(total, s)
	return result{"held " + d, d, warn}
}

func marginResult(m *timeline.Margin, st style, s *signs) result {
	middle := duration((m.NS + m.Width/2).Abs(), s)
	switch side := sideOf(m); {
	case side == "early":
		return result{middle + " too early", "-" + middle, st}
	case side == "spare" && m.AtLeast:
		least := s.atLeast + duration(m.NS, s)
		return result{least + " to spare", least, st}
	case side == "spare":
		return result{middle + " to spare", "+" + middle, st}
	case side == either:
		return result{"-" + duration(-m.NS, s) + " to +" + duration(m.NS+m.Width, s), "not clear", warn}
	}
	return result{"margin not known", "not known", dim}
}

func diskLane(d *timeline.Disk, m *timeline.Mapping) lane {
	l := lane{label: d.Path, short: shorten(d.Path), nested: true}
	sh := mappingShape{m: m, path: d.Path, uses: d.Uses}
	l.shape = sh
	switch ready := sh.ready(); {
	case ready == nil:
		l.result = result{"never ready", "never", bad}
	case ready.OrBefore:
		l.result = result{"ready before " + seconds(ready.At), "before", dim}
	default:
		l.result = result{"ready " + seconds(ready.At), seconds(ready.At), dim}
	}
	if m == nil && !failed(d) {
		l.result = result{"no mapping", "", dim}
	}
	return l
}

// others are the mappings that no guest uses; LVM's private layers only where
// everything is wanted.
func (c *chooser) others() []lane {
	var list []*timeline.Mapping
	for _, m := range c.tl.Mappings {
		if !c.used[m.ID] && (m.Layer == "" || c.all) {
			list = append(list, m)
		}
	}
	list, more := head(list, maxFine, c.all)
	if len(list) == 0 {
		return nil
	}
	lanes := []lane{{label: "used by no guest"}}
	for _, m := range list {
		sh := mappingShape{m: m}
		l := lane{label: m.Name, short: m.Name, nested: true, shape: sh}
		if ready := sh.ready(); ready != nil && !ready.OrBefore {
			l.result = result{"ready " + seconds(ready.At), seconds(ready.At), dim}
		}
		lanes = append(lanes, l)
	}
	return appendMore(lanes, more, "that no guest uses", c.signs)
}
