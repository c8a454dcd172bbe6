package text

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
)

// An axis maps instants to columns. Its scale is the same everywhere, but long
// spans in which nothing happened are left out: a boot is a burst at 12 s, a
// burst at 40 s and a guest that ends after an hour.
type axis struct {
	segments []segment // never empty
	width    int
	scale    float64 // nanoseconds a column
	step     event.Duration
	// label is an instant with as much precision as a step of that length needs, and
	// origin is where the clock that it tells was at the boot.
	label  func(t event.Time, step event.Duration) string
	origin event.Time
}

// segment is a stretch without a break.
type segment struct {
	from, to  event.Time
	first     event.Time // the first instant that it was made for
	col, cols int
}

const (
	lapseCols = 2 // columns of a break
	minCols   = 6 // of a segment, enough for most labels
	// minLapse keeps short waits in view: they are what a race looks like.
	minLapse = 10 * time.Second
)

// newAxis makes an axis of width columns over instants, which need not be
// sorted, or from from to to where these are set.
func newAxis(instants []event.Time, width int, from, to event.Time, opts *Options) *axis {
	slices.Sort(instants)
	instants = slices.Compact(instants)
	if len(instants) == 0 {
		instants = []event.Time{from}
	}
	a := &axis{width: width, label: tickLabel}
	if opts.Wall != 0 {
		a.label, a.origin = opts.timeOfDay, event.Time(opts.Wall%int64(24*time.Hour))
	}
	if from != 0 || to != 0 {
		a.segments = []segment{zoom(instants, from, to)}
	} else {
		a.segments = bursts(instants, min(width/14, 3))
	}
	a.layOut()
	a.step = a.tickStep()
	return a
}

func zoom(instants []event.Time, from, to event.Time) segment {
	if from == 0 {
		from = min(instants[0], to-1)
	}
	if to == 0 {
		to = max(instants[len(instants)-1], from+1)
	}
	return segment{from: from, to: max(to, from+1), first: from}
}

// bursts splits sorted instants at the longest gaps, at most limit of them, as
// long as leaving one out makes what remains clearly larger.
func bursts(instants []event.Time, limit int) []segment {
	type gap struct {
		at     int // index of the instant after it
		length event.Duration
	}
	var gaps []gap
	for i := 1; i < len(instants); i++ {
		if d := instants[i].Sub(instants[i-1]); d >= minLapse {
			gaps = append(gaps, gap{i, d})
		}
	}
	slices.SortFunc(gaps, func(a, b gap) int { return cmp.Compare(b.length, a.length) })
	active := instants[len(instants)-1].Sub(instants[0])
	var cuts []int
	for _, g := range gaps {
		if len(cuts) == limit || g.length < active/3 || g.length == active {
			break
		}
		cuts = append(cuts, g.at)
		active -= g.length
	}
	slices.Sort(cuts)
	cuts = append(cuts, len(instants))
	segments := make([]segment, 0, len(cuts))
	start := 0
	for _, end := range cuts {
		segments = append(segments, segment{from: instants[start], to: instants[end-1], first: instants[start]})
		start = end
	}
	return segments
}

// ends is a little more than the segments themselves, so that bars run on
// beyond the last instant.
const ends = 1.02

// layOut finds the scale at which all segments fill the width, where each has
// at least minCols, and gives each its columns.
func (a *axis) layOut() {
	small := make([]bool, len(a.segments))
	for {
		a.scale = a.scaleFor(small)
		i := a.smallest(small)
		if i < 0 {
			break
		}
		small[i] = true
	}
	col := 0
	for i := range a.segments {
		cols := a.width - col
		if i < len(a.segments)-1 {
			cols = min(a.cols(i, small), cols-a.after(i, small))
		}
		a.segments[i].spread(col, cols, a.scale)
		col += cols + lapseCols
	}
}

// scaleFor returns the scale where the segments in small have minCols each.
func (a *axis) scaleFor(small []bool) float64 {
	room := a.width - lapseCols*(len(a.segments)-1)
	var span float64
	for i, s := range a.segments {
		if small[i] {
			room -= minCols
		} else {
			room-- // for rounding up
			span += float64(s.to - s.from)
		}
	}
	if span == 0 { // one instant, or none
		return float64(time.Second) / float64(a.width)
	}
	return span * ends / float64(max(room, 1))
}

// smallest returns the index of a segment that would have less than minCols,
// -1 if there is none. The longest always has its share.
func (a *axis) smallest(small []bool) int {
	least, longest := -1, 0
	for i, s := range a.segments {
		if !small[i] && (least < 0 || s.to-s.from < a.segments[least].to-a.segments[least].from) {
			least = i
		}
		if s.to-s.from > a.segments[longest].to-a.segments[longest].from {
			longest = i
		}
	}
	if least == longest || a.segments[least].share(a.scale) >= minCols {
		return -1
	}
	return least
}

// cols returns how many columns segment i needs.
func (a *axis) cols(i int, small []bool) int {
	if small[i] {
		return minCols
	}
	return max(int(math.Ceil(a.segments[i].share(a.scale))), 1)
}

// after returns how many columns must be left for what follows segment i.
func (a *axis) after(i int, small []bool) int {
	n := 0
	for j := i + 1; j < len(a.segments); j++ {
		n += lapseCols + 1
		if small[j] {
			n += minCols - 1
		}
	}
	return n
}

// share is the number of columns that the segment fills at a scale.
func (s *segment) share(scale float64) float64 { return float64(s.to-s.from) * ends / scale }

// spread gives the segment its columns. Where that is more than it fills, a
// part of the rest goes before it.
func (s *segment) spread(col, cols int, scale float64) {
	rest := event.Time(float64(cols)*scale) - (s.to - s.from)
	if s.col, s.cols = col, cols; cols == minCols {
		s.from -= max(min(rest/4, s.from), 0)
	}
	s.to = max(s.to, s.from+event.Time(float64(cols)*scale))
}

// col returns the column of t, and whether the axis shows it.
func (a *axis) col(t event.Time) (int, bool) {
	last := 0
	for _, s := range a.segments {
		if t < s.from {
			return last, false
		}
		if t <= s.to {
			return min(s.col+int(float64(t-s.from)/a.scale), s.col+s.cols-1), true
		}
		last = s.col + s.cols - 1
	}
	return a.width - 1, false
}

// between returns the columns from from to to, both included, as far as the
// axis shows them.
func (a *axis) between(from, to event.Time) (int, int, bool) {
	if to < from || to < a.segments[0].from || from > a.segments[len(a.segments)-1].to {
		return 0, 0, false
	}
	left, shown := a.col(from)
	if !shown && from > a.segments[0].from {
		left++ // it began in what was left out
	}
	right, _ := a.col(to)
	return left, right, left <= right
}

// tickStep returns the shortest of 1, 2 and 5 times a power of ten at which
// labels keep apart.
func (a *axis) tickStep() event.Duration {
	last := a.segments[len(a.segments)-1].to
	for power := event.Duration(1); ; power *= 10 {
		for _, digit := range []event.Duration{1, 2, 5} {
			step := power * digit
			label := len(a.label(last, step))
			if float64(step) >= float64(label+3)*a.scale || power > 1e17 {
				return step
			}
		}
	}
}

// tick is a labelled column.
type tick struct {
	col   int
	label string
}

// ticks returns what to label: round instants, and in a segment that has none,
// its first event.
func (a *axis) ticks() []tick {
	var ticks []tick
	for _, s := range a.segments {
		before := len(ticks)
		step := event.Time(a.step)
		for t := (s.from+a.origin+step-1)/step*step - a.origin; t <= s.to; t += step {
			if col, ok := a.col(t); ok {
				ticks = append(ticks, tick{col, a.label(t, a.step)})
			}
		}
		if len(ticks) == before {
			col, _ := a.col(s.first)
			ticks = append(ticks, tick{col, a.label(s.first, a.step/10)})
		}
	}
	return ticks
}

// tickLabel is t in seconds with the decimals that step calls for.
func tickLabel(t event.Time, step event.Duration) string {
	return strconv.FormatFloat(t.Seconds(), 'f', decimalsOf(step), 64) + " s"
}

// decimalsOf is how many decimals of a second tell instants apart that lie step from
// each other.
func decimalsOf(step event.Duration) int {
	decimals := 0
	for unit := time.Second; unit > step && decimals < 9; unit /= 10 {
		decimals++
	}
	return decimals
}

// labels puts each label over its tick, as far as they keep apart.
func (a *axis) labels(ticks []tick) string {
	line := make([]byte, 0, a.width)
	for _, t := range ticks {
		at := min(max(t.col-len(t.label)/2, 0), a.width-len(t.label))
		if at < 0 || len(line) > 0 && at < len(line)+1 {
			continue
		}
		for len(line) < at {
			line = append(line, ' ')
		}
		line = append(line, t.label...)
	}
	return string(line)
}

// end is the last instant that the axis shows.
func (a *axis) end() event.Time { return a.segments[len(a.segments)-1].to }
