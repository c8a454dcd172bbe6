package udev

import (
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
)

func TestPairs(t *testing.T) {
	var p pairs
	p.put(5, 100, 90)
	p.put(6, 200, 150)
	for _, want := range []struct {
		seq         uint64
		from, since event.Time
	}{{5, 100, 90}, {6, 200, 150}, {7, 0, 0}, {0, 0, 0}} {
		if from, since := p.get(want.seq); from != want.from || since != want.since {
			t.Errorf("uevent %d: got %d, %d, want %d, %d", want.seq, from, since, want.from, want.since)
		}
	}
	p.put(5+pairsKept, 300, 300)
	if from, _ := p.get(5); from != 0 {
		t.Error("another uevent's time is given for one that was forgotten")
	}
}
