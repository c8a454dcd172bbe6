package udev

// window is how far a sequence number may come late.
const window = 64

// sequence watches the kernel's sequence numbers and counts those that never
// came. The zero value is ready.
type sequence struct {
	started bool
	highest uint64
	// seen has bit i set if highest-i has come; bits beyond the first number
	// count as seen.
	seen   uint64
	unseen uint64
}

// note takes a number that came.
func (s *sequence) note(seq uint64) {
	switch {
	case seq == 0: // a message without a number
	case !s.started:
		s.started, s.highest, s.seen = true, seq, ^uint64(0)
	case seq > s.highest:
		s.advance(seq - s.highest)
		s.highest = seq
	case s.highest-seq < window:
		s.seen |= 1 << (s.highest - seq)
	}
}

// advance moves the window up by n; what leaves it without having been seen is
// given up.
func (s *sequence) advance(n uint64) {
	if n > window {
		s.unseen += n - window // these are above the window altogether
	}
	for range min(n, window) {
		if s.seen&(1<<(window-1)) == 0 {
			s.unseen++
		}
		s.seen <<= 1
	}
	s.seen |= 1
}
