package text

// glyph is one thing that a cell of a lane can show.
type glyph uint8

const (
	blank glyph = iota
	grid
	lapse // a break of the axis
	early // between the open and ready
	linePending
	lineLive
	lineSuspended
	lineReady
	lineRun
	lineHeld
	markCreated
	markLoaded
	markLive
	markLinked
	markReady
	markRemoved
	markFound
	markExec
	markOpened
	markFailed
	markExit
	markCrash
	ruleWhole
	ruleGap
	ruleTick
	signWarn
	signUnsure
	signNote
	numGlyphs
)

// glyphs gives each its looks. Where two fall into one cell, the higher rank
// is shown: what is further along, and what went wrong before what went well.
// The circle of a mapping fills as it gets ready.
var glyphs = [numGlyphs]struct {
	char, ascii rune
	style       style
	rank        int
	legend      string
}{
	blank:         {' ', ' ', plain, 0, ""},
	grid:          {'·', '.', dim, 1, ""},
	lapse:         {'╱', '/', dim, 8, "time left out"},
	early:         {'┈', '~', bad, 3, "too early"},
	linePending:   {'┄', ':', step, 4, ""},
	lineLive:      {'─', '-', step, 4, ""},
	lineSuspended: {'╌', '%', warn, 4, "suspended"},
	lineReady:     {'━', '=', good, 4, ""},
	lineRun:       {'═', '#', info, 4, "running"},
	lineHeld:      {'▒', 'H', warn, 5, "held"},
	markCreated:   {'○', 'c', step, 11, "created"},
	markLoaded:    {'◔', 't', step, 12, "table loaded"},
	markLive:      {'◑', 'l', step, 13, "live"},
	markLinked:    {'◕', 'n', step, 14, "linked"},
	markReady:     {'●', 'R', good, 17, "ready"},
	markRemoved:   {'⊗', 'd', warn, 18, "removed"},
	markFound:     {'«', '<', dim, 10, "there before tracing began"},
	markExec:      {'▸', '>', info, 10, "exec"},
	markOpened:    {'✓', 'v', good, 9, "opened"},
	markFailed:    {'✗', 'X', bad, 16, "open failed"},
	markExit:      {'╡', ']', info, 11, "exit"},
	markCrash:     {'╡', ']', bad, 11, "exit with an error"},
	ruleWhole:     {'─', '-', dim, 4, ""},
	ruleGap:       {'┄', '?', warn, 5, "record not complete"},
	ruleTick:      {'┴', '+', dim, 6, ""},
	signWarn:      {'!', '!', warn, 0, ""},
	signUnsure:    {'?', '?', warn, 0, ""},
	signNote:      {'•', '*', dim, 0, ""},
}

// legend is the order in which the glyphs that were used are explained.
var legend = []glyph{
	markCreated, markLoaded, markLive, markLinked, markReady, lineSuspended, markRemoved,
	markExec, markOpened, markFailed, early, lineHeld, lineRun, markExit, markCrash,
	markFound, lapse, ruleGap,
}

// canvas is the part of a line that lies on the time axis.
type canvas struct {
	cells []glyph
	tint  []style // plain: the glyph's own
}

func newCanvas(width int) *canvas {
	return &canvas{make([]glyph, width), make([]style, width)}
}

func (c *canvas) clear() {
	clear(c.cells)
	clear(c.tint)
}

func (c *canvas) put(col int, g glyph) {
	if glyphs[g].rank >= glyphs[c.cells[col]].rank {
		c.cells[col] = g
	}
}

// fill puts g into the cells from to to, both included.
func (c *canvas) fill(from, to int, g glyph) {
	for col := from; col <= to; col++ {
		c.put(col, g)
	}
}

// spans returns the canvas as text, one span for each run of a style, and
// notes which glyphs it used.
func (c *canvas) spans(s *signs, used *[numGlyphs]bool, spans []span) []span {
	run := make([]rune, 0, len(c.cells))
	current := plain
	for i, g := range c.cells {
		used[g] = true
		st := glyphs[g].style
		if c.tint[i] != plain && g != lapse && g != grid {
			st = c.tint[i]
		}
		if st != current && g != blank {
			spans = append(spans, styled(string(run), current))
			run, current = run[:0], st
		}
		run = append(run, s.glyph(g))
	}
	return append(spans, styled(string(run), current))
}
