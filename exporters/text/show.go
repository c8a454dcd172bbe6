package text

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Show writes the boot as a picture: what is known about it, a lane for each
// guest and each mapping on one time axis, a legend of what it used, and the
// findings in short.
func Show(w io.Writer, tl *timeline.Timeline, opts Options) error {
	p := newPrinter(w, opts)
	p.header(tl)
	p.line()
	lanes := chooseLanes(tl, p)
	if len(lanes) == 0 {
		p.line(styled("No guest and no mapping appeared in this boot.", dim))
		return p.flush()
	}
	newPicture(p, tl, lanes).write()
	p.brief(tl.Findings)
	if inside := p.teller.Insides(tl); len(inside.Words) > 0 {
		p.line()
		p.write(inside, 2)
	}
	return p.flush()
}

// header writes which boot this is, when it was, and what came out.
func (p *printer) header(tl *timeline.Timeline) {
	p.list(strong,
		p.name(tl.Host.Name, words.NameCols),
		"boot "+p.name(words.ShortID(tl.BootID), words.NameCols),
		p.name(tl.Kernel, words.NameCols),
		p.name(tl.Host.OS, words.NameCols))
	whole := ""
	if tl.Complete {
		whole = "record complete"
	}
	p.list(plain,
		p.booted(tl.Clock),
		words.Long(tl.Last.Sub(tl.First))+" recorded",
		humanize.Comma(int64(tl.Events))+" events",
		whole)
	if !tl.Complete {
		p.write(p.teller.Coverage(tl), 2)
	}
	headline := p.teller.Outcome(tl)
	headline.Join(":", plain)
	headline.Append(p.teller.Tally(tl))
	p.write(headline, 2)
}

// list writes what is not empty, with dots between.
func (p *printer) list(first style, items ...string) {
	var t paragraph
	st := first
	for _, s := range items {
		if s == "" {
			continue
		}
		if len(t.Words) > 0 {
			t.Join(p.signs.dot[:len(p.signs.dot)-1], dim)
		}
		if columns(s) < p.width-4 {
			t.Add(s, st)
		} else {
			t.Say(s, st)
		}
		st = plain
	}
	p.write(t, 2)
}

// booted says when the boot was. A clock that nobody had set by then can be
// wrong by any amount, whatever the reading's own error.
func (p *printer) booted(c *event.ClockInfo) string {
	if c == nil {
		return "wall time not known"
	}
	s := "booted " + wall(time.Unix(0, c.WallOffset).In(p.opts.location()))
	if !c.Trusted {
		s += " by an unsynchronized clock, read to " + p.teller.Signs.PlusMinus + p.teller.Signs.Duration(event.Duration(max(c.Uncertainty, 0)))
	}
	return s
}

func wall(t time.Time) string { return t.Format("2006-01-02 15:04:05 MST") }

// picture is lanes on an axis.
type picture struct {
	p        *printer
	tl       *timeline.Timeline
	lanes    []lane
	axis     *axis
	ticks    []tick
	canvas   *canvas
	labels   int // columns of the lanes' names
	results  int // columns of what stands at their ends
	wide     bool
	used     [numGlyphs]bool
	segments []span // reused
}

// airy is the number of lanes up to which groups stand apart.
const airy = 36

// signCols is the sign of a lane and a blank.
const signCols = 2

func newPicture(p *printer, tl *timeline.Timeline, lanes []lane) *picture {
	pic := &picture{p: p, tl: tl, lanes: lanes, wide: p.width >= 76}
	pic.measure()
	width := p.width - signCols - pic.labels - 1
	if pic.results > 0 {
		width -= pic.results + 1
	}
	var instants []event.Time
	for i := range lanes {
		if lanes[i].shape != nil {
			lanes[i].shape.instants(func(t event.Time) { instants = append(instants, bound(t)) })
		}
	}
	pic.axis = newAxis(instants, width, bound(p.opts.From), bound(p.opts.To), &p.opts)
	pic.ticks = pic.axis.ticks()
	pic.canvas = newCanvas(width)
	return pic
}

// bound keeps the times of a damaged log within what can be added up.
func bound(t event.Time) event.Time { return min(max(t, 0), 1<<60) }

// measure chooses how many columns the names and the results get.
func (pic *picture) measure() {
	most := min(pic.p.width*3/10, 40)
	for i := range pic.lanes {
		l := &pic.lanes[i]
		if l.shape == nil {
			continue
		}
		l.label, l.short = pic.p.name(l.label, words.PathCols), pic.p.name(l.short, words.PathCols)
		indent := 0
		if l.nested {
			indent = 2
		}
		w := columns(l.label) + indent
		if w > most {
			w = columns(l.short) + indent
		}
		pic.labels = max(pic.labels, min(w, most))
		if pic.p.width >= 36 {
			pic.results = max(pic.results, columns(pic.result(l)))
		}
	}
}

func (pic *picture) result(l *lane) string {
	if pic.wide {
		return l.result.Long
	}
	return l.result.Short
}

func (pic *picture) write() {
	pic.writeAxis()
	group := false
	for i := range pic.lanes {
		l := &pic.lanes[i]
		if group && !l.nested && len(pic.lanes) < airy {
			pic.rule(false)
		}
		group = true
		if l.shape == nil {
			pic.p.line(styled("  "+l.label, dim))
			continue
		}
		pic.writeLane(l)
	}
	pic.p.line()
	pic.writeLegend()
}

// writeAxis writes the labels and the rule beneath.
func (pic *picture) writeAxis() {
	left := pad("", signCols+pic.labels+1)
	title := "since boot"
	if pic.p.opts.Wall != 0 {
		title = "time of day"
	}
	if len(title) <= pic.labels {
		left = pad("  "+title, signCols+pic.labels+1)
	}
	pic.p.line(styled(left, dim), styled(pic.axis.labels(pic.ticks), plain))
	pic.rule(true)
}

// rule writes a line without a lane: the axis itself, or its grid alone.
func (pic *picture) rule(solid bool) {
	c, a := pic.canvas, pic.axis
	pic.background()
	if solid {
		c.fill(0, a.width-1, ruleWhole)
		for _, g := range pic.tl.Incomplete {
			if from, to, ok := a.between(bound(g.From), bound(g.To)); ok {
				c.fill(from, to, ruleGap)
			}
		}
		for _, t := range pic.ticks {
			c.put(t.col, ruleTick)
		}
	}
	pic.lineWith(styled(pad("", signCols+pic.labels+1), plain), words.Result{})
}

// background clears the canvas and draws what stands behind every lane.
func (pic *picture) background() {
	pic.canvas.clear()
	for _, t := range pic.ticks {
		pic.canvas.put(t.col, grid)
	}
	for _, s := range pic.axis.segments[1:] {
		pic.canvas.fill(s.col-lapseCols, s.col-1, lapse)
	}
}

func (pic *picture) writeLane(l *lane) {
	pic.background()
	l.shape.draw(pic.canvas, pic.axis)
	label, indent, st := l.label, "", strong
	if l.nested {
		indent, st = "  ", plain
	}
	if columns(label)+len(indent) > pic.labels {
		label = cut(l.short, pic.labels-len(indent), pic.p.signs.ellipsis)
	}
	pic.segments = append(pic.segments[:0],
		styled(string(pic.p.signs.glyph(l.sign))+" ", l.style),
		styled(pad(indent+label, pic.labels+1), st))
	pic.finish(l.result)
}

func (pic *picture) lineWith(left span, r words.Result) {
	pic.segments = append(pic.segments[:0], left)
	pic.finish(r)
}

// finish writes the line that segments begins: canvas, then result.
func (pic *picture) finish(r words.Result) {
	pic.segments = pic.canvas.spans(pic.p.signs, &pic.used, pic.segments)
	s := r.Short
	if pic.wide {
		s = r.Long
	}
	if pic.results > 0 && s != "" {
		pic.segments = append(pic.segments, styled(" "+padLeft(s, pic.results), r.Style))
	}
	pic.p.line(pic.segments...)
}

// writeLegend explains the glyphs that were used.
func (pic *picture) writeLegend() {
	var t paragraph
	for _, g := range legend {
		if pic.used[g] {
			t.Add(string(pic.p.signs.glyph(g)), glyphs[g].style)
			t.Join(" "+glyphs[g].legend+"  ", dim)
		}
	}
	pic.p.write(t, 0)
}

// brief writes a line for each finding.
func (p *printer) brief(findings []*timeline.Finding) {
	const most = 10
	certain, withheld := words.Sort(findings)
	list := slices.Concat(certain, withheld)
	if len(list) == 0 {
		return
	}
	p.line()
	for i, f := range list {
		if i == most && len(list) > most+1 {
			p.line(styled(fmt.Sprintf("%s and %d more: bootrace races", p.signs.ellipsis, len(list)-most), dim))
			return
		}
		p.briefly(f)
	}
}

func (p *printer) briefly(f *timeline.Finding) {
	t := p.opening(f)
	t.Append(p.teller.Brief(f))
	p.write(t, 2)
}
