package udev

import "testing"

func TestPairs(t *testing.T) {
	var p pairs
	p.put(5, 100)
	p.put(6, 200)
	if p.get(5) != 100 || p.get(6) != 200 || p.get(7) != 0 || p.get(0) != 0 {
		t.Error("a uevent's time is not found again")
	}
	p.put(5+pairsKept, 300)
	if p.get(5) != 0 {
		t.Error("another uevent's time is given for one that was forgotten")
	}
}
