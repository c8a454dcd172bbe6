package text

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/bootrace/bootrace/exporters/words"
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
	result words.Result
	shape  shape // nil: a line of text only
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
	teller   *words.Teller
}

// chooseLanes returns the lanes to show: guests with their disks' mappings
// under them, those with findings first, then mappings that no guest uses.
func chooseLanes(tl *timeline.Timeline, p *printer) []lane {
	c := &chooser{
		tl: tl, all: p.opts.All, signs: p.signs, teller: p.teller,
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
		return cmp.Compare(words.Worst(c.findings[a.ID]), words.Worst(c.findings[b.ID]))
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

// group returns a guest's lane and one for each of its disks that leads to a
// mapping, or should have.
func (c *chooser) group(g *timeline.Guest) []lane {
	l := lane{label: guestName(g), shape: guestShape{g}, result: c.teller.Guest(g, c.findings[g.ID])}
	l.short = l.label
	if fs := c.findings[g.ID]; len(fs) > 0 {
		worst := words.Worst(fs)
		l.sign, l.style = classSigns[worst], worst.Style()
	}
	lanes := []lane{l}
	for i := range g.Disks {
		d := &g.Disks[i]
		m := c.mappings[d.Mapping]
		if m == nil && !failed(d) && !c.all {
			continue // a file: it has no life to show
		}
		lanes = append(lanes, c.diskLane(d, m))
	}
	return lanes
}

func failed(d *timeline.Disk) bool {
	return slices.ContainsFunc(d.Uses, func(u timeline.Use) bool { return u.Errno != 0 })
}

func (c *chooser) diskLane(d *timeline.Disk, m *timeline.Mapping) lane {
	l := lane{label: d.Path, short: shorten(d.Path), nested: true}
	sh := mappingShape{m: m, path: d.Path, uses: d.Uses}
	l.shape = sh
	l.result = c.teller.Ready(sh.ready())
	if m == nil && !failed(d) {
		l.result = words.Result{Long: "no mapping", Style: dim}
	}
	if words.Dirty(d) {
		l.result.Long += ", log dirty"
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
			l.result = c.teller.Ready(ready)
		}
		lanes = append(lanes, l)
	}
	return appendMore(lanes, more, "that no guest uses", c.signs)
}
