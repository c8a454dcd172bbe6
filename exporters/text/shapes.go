package text

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// mappingShape is a mapping's life; with a path, as a guest's disk: the stages
// are those of that path, and the guest's opens are marked.
type mappingShape struct {
	m    *timeline.Mapping // nil: the path never led to one
	path string
	uses []timeline.Use
}

// stage is a change of a mapping: what marks it, and how the line goes on.
type stage struct {
	at   event.Time
	mark glyph
	line glyph // blank: it ends; numGlyphs: as before the suspend
}

// resumed stands for "as before the suspend".
const resumed = numGlyphs

func (s mappingShape) instants(add func(event.Time)) {
	if s.m != nil {
		for _, l := range s.m.Lives {
			for _, st := range s.stages(l) {
				add(st.at)
			}
		}
	}
	for i := range s.uses {
		add(s.uses[i].At)
	}
}

func (s mappingShape) draw(c *canvas, a *axis) {
	if s.m != nil {
		for _, l := range s.m.Lives {
			drawStages(c, a, s.stages(l))
		}
	}
	for i := range s.uses {
		drawOpen(c, a, &s.uses[i])
		drawEarly(c, a, &s.uses[i])
	}
}

// ready returns when the mapping was first ready by the path, or by any of its
// paths where there is none; nil if never.
func (s mappingShape) ready() *timeline.Instant {
	if s.m == nil {
		return nil
	}
	var first *timeline.Instant
	for _, l := range s.m.Lives {
		for i := range l.Paths {
			p := &l.Paths[i]
			if p.Ready != nil && (s.path == "" || p.Path == s.path) && (first == nil || p.Ready.At < first.At) {
				first = p.Ready
			}
		}
	}
	return first
}

// stages returns the stages of a life, ordered by time.
func (s mappingShape) stages(l *timeline.Life) []stage {
	list := make([]stage, 0, 8)
	if l.Created != nil {
		list = append(list, stage{l.Created.At, markCreated, linePending})
	}
	if l.Live != nil && !l.Live.OrBefore {
		list = append(list, stage{l.Live.At, markLive, lineLive})
	}
	if l.Removed != nil {
		list = append(list, stage{l.Removed.At, markRemoved, blank})
	}
	for i := range l.Steps {
		if st, ok := stageOf(&l.Steps[i]); ok {
			list = append(list, st)
		}
	}
	list = s.pathStages(l, list)
	slices.SortStableFunc(list, func(a, b stage) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(glyphs[a.mark].rank, glyphs[b.mark].rank))
	})
	return list
}

// stageOf returns the stage that a step is, of those that Life does not name
// itself.
func stageOf(st *timeline.Step) (stage, bool) {
	switch st.Kind {
	case timeline.StepFound:
		line := linePending
		switch st.State {
		case "live":
			line = lineLive
		case "suspended":
			line = lineSuspended
		}
		return stage{st.At, markFound, line}, true
	case timeline.StepLoaded:
		return stage{st.At, markLoaded, resumed}, true
	case timeline.StepSuspend:
		return stage{st.At, blank, lineSuspended}, true
	case timeline.StepResumed:
		return stage{st.At, blank, resumed}, true
	}
	return stage{}, false
}

// pathStages adds when the path was linked and ready: without a path of
// interest, the first link and the first time that any path was ready.
func (s mappingShape) pathStages(l *timeline.Life, list []stage) []stage {
	var linked, ready *timeline.Instant
	for i := range l.Paths {
		p := &l.Paths[i]
		if s.path != "" && p.Path != s.path {
			continue
		}
		if p.Link && (linked == nil || p.Made.At < linked.At) {
			linked = &p.Made
		}
		if p.Ready != nil && (ready == nil || p.Ready.At < ready.At) {
			ready = p.Ready
		}
	}
	if linked != nil && !linked.OrBefore {
		list = append(list, stage{linked.At, markLinked, resumed})
	}
	if ready != nil {
		mark := markReady
		if ready.OrBefore {
			mark = blank // when is not known
		}
		list = append(list, stage{ready.At, mark, lineReady})
	}
	return list
}

func drawStages(c *canvas, a *axis, list []stage) {
	line, before := blank, linePending
	for i, st := range list {
		switch {
		case st.line == lineSuspended:
			if line != lineSuspended {
				before = line
			}
			line = lineSuspended
		case st.line == resumed && st.mark == blank: // a resume
			line = before
		case st.line == resumed:
			// a mark on a line that goes on
		case line == lineReady && st.line == lineLive:
			// The node of a device that goes live again stays ready.
		default:
			line = st.line
		}
		until := a.end()
		if i+1 < len(list) {
			until = list[i+1].at
		}
		if from, to, ok := a.between(st.at, until); ok && line != blank {
			c.fill(from, to, line)
		}
		if col, ok := a.col(st.at); ok && st.mark != blank {
			c.put(col, st.mark)
		}
	}
}

func drawOpen(c *canvas, a *axis, u *timeline.Use) {
	if col, ok := a.col(u.At); ok {
		if u.Errno != 0 {
			c.put(col, markFailed)
		} else {
			c.put(col, markOpened)
		}
	}
}

// drawEarly marks the time that a guest came too early, on top of whatever
// the mapping was doing then.
func drawEarly(c *canvas, a *axis, u *timeline.Use) {
	if u.Margin == nil || u.NS >= 0 || u.Ready == nil {
		return
	}
	from, to, ok := a.between(u.At, u.Ready.At)
	if !ok {
		return
	}
	for col := from; col <= to; col++ {
		if c.put(col, early); c.cells[col] != markReady {
			c.tint[col] = bad
		}
	}
}

// guestShape is a guest: held, started, its opens, ended.
type guestShape struct{ g *timeline.Guest }

func (s guestShape) instants(add func(event.Time)) {
	g := s.g
	add(g.Exec.At)
	for i := range g.Disks {
		for j := range g.Disks[i].Uses {
			add(g.Disks[i].Uses[j].At)
		}
	}
	for i := range g.Holds {
		add(g.Holds[i].At)
		if g.Holds[i].Released != nil {
			add(g.Holds[i].Released.At)
		}
	}
	if g.Exit != nil {
		add(g.Exit.At)
	}
}

func (s guestShape) draw(c *canvas, a *axis) {
	g := s.g
	until := a.end()
	if g.Exit != nil {
		until = g.Exit.At
	}
	if from, to, ok := a.between(g.Exec.At, until); ok && !g.Unstarted {
		c.fill(from, to, lineRun)
	}
	for i := range g.Holds {
		drawHold(c, a, &g.Holds[i])
	}
	if col, ok := a.col(g.Exec.At); ok && (!g.Unstarted || len(g.Holds) == 0) {
		c.put(col, guestStart(g))
	}
	for i := range g.Disks {
		for j := range g.Disks[i].Uses {
			drawOpen(c, a, &g.Disks[i].Uses[j])
		}
	}
	if g.Exit != nil {
		drawExit(c, a, g.Exit)
	}
}

func guestStart(g *timeline.Guest) glyph {
	switch {
	case g.Backfilled:
		return markFound
	case g.Unstarted:
		return markCrash
	}
	return markExec
}

func drawHold(c *canvas, a *axis, h *timeline.Hold) {
	until := a.end()
	if h.Released != nil {
		until = h.Released.At
	}
	if from, to, ok := a.between(h.At, until); ok {
		c.fill(from, to, lineHeld)
	}
}

func drawExit(c *canvas, a *axis, e *timeline.Exit) {
	col, ok := a.col(e.At)
	if !ok {
		return
	}
	if e.Status != 0 || e.Signal != 0 {
		c.put(col, markCrash)
	} else {
		c.put(col, markExit)
	}
}

// guestName is what people call the guest.
func guestName(g *timeline.Guest) string {
	for _, s := range []string{g.Name, g.Identity, g.UUID} {
		if s != "" {
			return s
		}
	}
	return "pid " + strconv.Itoa(g.PID)
}

// shorten drops what every path of a disk begins with.
func shorten(path string) string { return strings.TrimPrefix(path, "/dev/") }
