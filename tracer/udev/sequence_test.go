package udev

import "testing"

func TestSequence(t *testing.T) {
	upTo := func(from, to uint64) (list []uint64) {
		for ; from <= to; from++ {
			list = append(list, from)
		}
		return list
	}
	for name, tc := range map[string]struct {
		numbers []uint64
		unseen  uint64
	}{
		"none":              {nil, 0},
		"in order":          {upTo(500, 900), 0},
		"out of order":      {append([]uint64{10, 12, 13, 11, 15, 14}, upTo(16, 200)...), 0},
		"gap still open":    {[]uint64{10, 12}, 0},
		"gap":               {append([]uint64{10, 12}, upTo(13, 200)...), 1},
		"gap of a window":   {append([]uint64{10}, upTo(10+window, 300)...), window - 1},
		"large gap":         {append([]uint64{10}, upTo(1000, 1200)...), 989},
		"twice":             {append([]uint64{10, 11, 11, 10}, upTo(12, 100)...), 0},
		"too late":          {append(append([]uint64{10}, upTo(12, 200)...), 11), 1},
		"without a number":  {append([]uint64{0, 0}, upTo(7, 100)...), 0},
		"older than first":  {append([]uint64{100, 99, 98}, upTo(101, 200)...), 0},
		"two, one comes":    {append([]uint64{1, 4, 2}, upTo(5, 100)...), 1},
		"alternate numbers": {[]uint64{2, 4, 6, 8, 10, 12, 14, 16, 16 + 2*window}, 7 + window},
	} {
		var s sequence
		for _, n := range tc.numbers {
			s.note(n)
		}
		if s.unseen != tc.unseen {
			t.Errorf("%s: %d unseen, want %d", name, s.unseen, tc.unseen)
		}
	}
}

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
