package tracefs

import (
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
)

// The clock's anchors tie two clocks that run at different speeds.
func TestClockAnchors(t *testing.T) {
	c := newClock("global")
	if !c.due(0) {
		t.Error("no first anchor")
	}
	const second = 1_000_000_000
	c.tie(5*second, 100*second-1000, 100*second+1000)
	if got := c.time(5*second + 7); got != 100*second+7 {
		t.Errorf("got %d", got)
	}
	// A second later boottime has gained 20 µs.
	c.tie(6*second, 101*second+20_000-500, 101*second+20_000+500)
	if got, want := c.time(5*second+second/2), event.Time(100*second+second/2+10_000); got.Sub(want).Abs() > 1000 {
		t.Errorf("in between: %d, want about %d", got, want)
	}
	if e := c.error(101 * second); e < 20_000 || e > 25_000 {
		t.Errorf("error %v", e)
	}
	if e := c.error(103 * second); e < 35_000 || e > 45_000 {
		t.Errorf("error %v where the next anchor is late", e)
	}
	if exact := newClock("boot"); exact.due(0) || exact.time(42) != 42 || exact.error(0) != 0 {
		t.Error("the boot clock is boottime")
	}
}

// TestClockOnABusyHost: readings that are interrupted, each a little longer,
// do not make the anchors worse step by step.
func TestClockOnABusyHost(t *testing.T) {
	const second, tries = 1_000_000_000, 40
	c := newClock("global")
	c.tie(0+1, 0, 2000)
	for i := event.Time(1); i < 60*tries; i++ {
		at := i * second / tries
		if !c.due(at) {
			continue
		}
		half := event.Time(3 * c.now.err)
		if i%tries == tries/2 { // one goes well each second
			half = 1000
		}
		c.tie(uint64(at), at-half, at+half)
		if e := c.error(at); e > 100_000 {
			t.Fatalf("after %d s: uncertain by %d ns", at/second, e)
		}
	}
}

// A trace clock stands still until a timer tick that is late: a reading just then is
// off by all of that, and is not believed. What the clock says goes forward.
func TestClockStandsStill(t *testing.T) {
	const second, stall = 1_000_000_000, 75_000_000
	c := newClock("global")
	c.tie(second, second-1000, second+1000)
	c.tie(2*second, 2*second-1000, 2*second+1000)
	c.tie(3*second, 3*second+stall-1000, 3*second+stall+1000)
	if got, e := c.tell(3*second+1), c.error(3*second); got.Sub(3*second).Abs() > 1000 || e < stall || !c.due(3*second+stall) {
		t.Errorf("after %d it tells %d, uncertain by %v; another reading is due: %v", 3*second, got, e, c.due(3*second+stall))
	}
	c.tie(3*second+2*stall, 3*second+2*stall-1000, 3*second+2*stall+1000)
	if e := c.error(3*second + 2*stall); e > 100_000 || c.due(3*second+2*stall+1) && c.doubt > 0 {
		t.Errorf("it goes on, uncertain by %v", e)
	}
	// The clocks do jump, and back: the second reading says so, and no record goes back.
	last := c.tell(4 * second)
	for i := uint64(5); i < 10; i++ {
		jump := event.Time(i % 2 * stall)
		for range 2 {
			c.tie(i*second, event.Time(i)*second+jump-1000, event.Time(i)*second+jump+1000)
		}
		for at := i * second; at < (i+1)*second; at += second / 4 {
			got := c.tell(at)
			if got < last {
				t.Fatalf("a record at %d is told as %d, the one before as %d", at, got, last)
			}
			if earlier := c.tell(at - 1); earlier > got {
				t.Fatalf("another processor's, 1 ns before the one told as %d, as %d", got, earlier)
			}
			last = got
		}
	}
}

// A reading that is interrupted between its open and one of the two looks at
// boottime, as on a busy host, is no better for being a little off the last one.
func TestClockInterrupted(t *testing.T) {
	const second, interruption, off = 1_000_000_000, 100_000_000, 300
	for name, tt := range map[string]struct{ off, before, after event.Time }{
		"before the open": {off, interruption, 100},
		"after the open":  {-off, 100, interruption},
	} {
		c := newClock("global")
		c.tie(second, second+tt.off-1000, second+tt.off+1000)
		c.tie(2*second, 2*second-tt.before, 2*second+tt.after)
		if e := c.error(2 * second); e > 100_000 {
			t.Errorf("%s: uncertain by %v", name, e)
		}
		// Where the clocks do differ, it says what it can.
		for range 2 {
			c.tie(3*second, 3*second+1_000_000-1000, 3*second+1_000_000+1000)
		}
		if got := c.time(3 * second); got.Sub(3*second+1_000_000).Abs() > 1000 {
			t.Errorf("%s: at %d later", name, got)
		}
	}
}
