package udev

import "github.com/bootrace/bootrace/tracer/event"

// pairsKept is how many uevents are remembered until their udev events come.
// It bounds memory (256 KiB), not correctness: what was forgotten gets a wider
// window. A host with 10^4 volumes has about 3 uevents for each.
const pairsKept = 1 << 14

// pairs remembers when the kernel announced what udev has not finished with:
// a ring indexed by sequence number.
type pairs struct {
	slots [pairsKept]struct {
		seq         uint64
		from, since event.Time
	}
}

func (p *pairs) put(seq uint64, from, since event.Time) {
	slot := &p.slots[seq%pairsKept]
	slot.seq, slot.from, slot.since = seq, from, since
}

// get returns 0 where the uevent was not seen or is forgotten.
func (p *pairs) get(seq uint64) (from, since event.Time) {
	if slot := &p.slots[seq%pairsKept]; seq != 0 && slot.seq == seq {
		return slot.from, slot.since
	}
	return 0, 0
}
