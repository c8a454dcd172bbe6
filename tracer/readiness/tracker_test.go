package readiness

import (
	"testing"
	"time"
)

// Disks that nothing happens to are looked at again in a few groups: not all at once, and
// not each on its own.
func TestPause(t *testing.T) {
	tracker := newTracker(Options{}, nil)
	for _, c := range []struct {
		silent  bool
		longest time.Duration
	}{{false, DefaultRecheck}, {true, silentRecheck}} {
		apart := c.longest / 8
		for range 1000 {
			before := time.Since(tracker.began)
			p := tracker.pause(c.silent)
			after := time.Since(tracker.began)
			if p > c.longest || p <= c.longest/2 {
				t.Fatalf("silent %v: a pause of %s, want at most %s", c.silent, p, c.longest)
			}
			if off := (before + p) % apart; off != 0 && off < apart-(after-before) {
				t.Fatalf("silent %v: it ends %s beside the others", c.silent, min(off, apart-off))
			}
		}
	}
}
