package tracefs

import (
	"math"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
)

// clock ties the clock of a trace to boottime. Kernels before 4.10 have no
// trace clock that is boottime: there an own open, of which boottime is read
// before and after, shows what the two clocks have in common. That is done
// again and again, because they drift apart.
type clock struct {
	exact  bool // the trace's clock is boottime
	before anchor
	now    anchor
	// doubt is how far the last reading was off, and taken for wrong.
	doubt event.Duration
	// The latest record whose time was told, and that time.
	latest uint64
	told   event.Time
}

// anchor is an instant on both clocks.
type anchor struct {
	trace uint64     // ns of the trace's clock
	boot  event.Time // half way between the two readings
	err   event.Duration
}

func newClock(c ftrace.Clock) *clock { return &clock{exact: c == ftrace.BootClock} }

// anchorPath is opened for an anchor: nobody reports opens of it.
const anchorPath = "/dev/null"

// anchorEvery bounds the drift between two anchors: clocks differ by less than
// 500 parts in a million, and mostly by less than ten.
const anchorEvery = event.Duration(1e9)

// steadiness is how much the clocks mostly drift apart at the most: by one part
// in so many.
const steadiness = 20_000

// clockSource is what the kernel reads its time from; empty where it can't be told.
func clockSource() string {
	text, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// tickBound reports whether trace clocks are kept within a timer tick of the last:
// x86 with a TSC that is marked unstable has one of these for its clock
// (mark_tsc_unstable, sched_clock_local; 3.10 to 7.x).
func tickBound(source string) bool {
	return slices.Contains([]string{"hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"}, source)
}

// tied says that there is an anchor.
func (c *clock) tied() bool { return c.now.trace != 0 }

// due says that it is time for another anchor.
func (c *clock) due(now event.Time) bool {
	return !c.exact && (!c.tied() || c.doubt > 0 || now.Sub(c.now.boot) >= anchorEvery)
}

// open makes the hit of an anchor and returns what boottime was around it.
func (c *clock) open() (before, after event.Time, err error) {
	before = event.Now()
	fd, err := unix.Open(anchorPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	after = event.Now()
	if err == nil {
		err = unix.Close(fd)
	}
	return before, after, err
}

// tie takes a hit's time as an anchor, unless a tighter one is about as good, or
// it contradicts the last one and is the first to do so: a kernel that doesn't trust
// its TSC keeps the trace clock within a timer tick of the last (sched_clock_local),
// and so it stands still where a tick is late.
func (c *clock) tie(trace uint64, before, after event.Time) {
	a := anchor{trace, before + (after-before)/2, (after.Sub(before) + 1) / 2}
	if c.tied() {
		passed := a.boot.Sub(c.now.boot)
		drift := c.time(trace).Sub(a.boot).Abs()
		last := c.now.err + passed/steadiness // how far off the last one can be by now
		contradicts := drift > a.err+last
		switch {
		case contradicts && c.doubt == 0:
			c.doubt = drift // the next reading decides
			return
		case !contradicts && a.err > last && passed < 10*anchorEvery:
			// A reading that was interrupted in between says less than the last anchor,
			// and the next reading comes soon.
			c.doubt = 0
			return
		}
		c.doubt = 0
		c.before = c.now
	}
	c.now = a
}

// tell is when a record was made that has been read now. Records keep their order,
// whatever a new anchor says.
func (c *clock) tell(trace uint64) event.Time {
	at := c.time(trace)
	if !c.exact && !c.tied() {
		return at
	}
	if trace < c.latest { // of another processor
		return min(at, c.told)
	}
	c.latest, c.told = trace, max(at, c.told)
	return c.told
}

// time is when a record was made, by the anchors that there are.
func (c *clock) time(trace uint64) event.Time {
	if c.exact {
		return event.Time(trace)
	}
	at := c.now.boot.Add(event.Duration(trace - c.now.trace))
	if c.before.trace == 0 || c.now.trace == c.before.trace {
		return at
	}
	// What the clocks gained on each other between the two anchors.
	gain := float64(c.now.boot-c.before.boot) - float64(c.now.trace-c.before.trace)
	share := float64(int64(trace-c.now.trace)) / float64(c.now.trace-c.before.trace)
	return at.Add(event.Duration(math.Round(gain * math.Max(-1, math.Min(1, share)))))
}

// error bounds how far time is off for records until now.
func (c *clock) error(now event.Time) event.Duration {
	if c.exact {
		return 0
	}
	passed := now.Sub(c.now.boot)
	e := c.now.err + passed/steadiness
	if c.before.trace != 0 {
		between := c.now.boot.Sub(c.before.boot)
		gain := between - event.Duration(c.now.trace-c.before.trace)
		e = max(c.now.err, c.before.err) + event.Duration(float64(gain.Abs())*max(1, float64(passed)/float64(between)))
	}
	return e + c.doubt
}
