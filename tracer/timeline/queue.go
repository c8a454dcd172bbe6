package timeline

import (
	"cmp"
	"math/bits"
	"slices"
	"sort"

	"github.com/bootrace/bootrace/tracer/event"
)

// blockFact is an event of any block device: the kernel's announcement, or
// udev's end of handling it. Both carry the kernel's sequence number.
type blockFact struct {
	stamp
	seq  uint64
	dev  event.Dev
	done bool // udev has finished with it
}

// udevQueue is udev's work in the order in which it was finished.
//
// udev does not tell when it begins with an event. It takes them in the order
// of their sequence numbers, several at a time, and events of one device after
// each other. So an event can have waited as long as events with lower numbers
// were still being finished, and has not waited afterwards: the time until the
// last of them is the most that the queue can have cost.
type udevQueue struct {
	ends      []*blockFact          // by time
	announced map[uint64]event.Time // by sequence number
	waits     map[uint64]wait       // by event; nil until somebody asks
}

// wait is how long at most an event was kept waiting, and behind how many of
// other devices.
type wait struct {
	held   event.Duration
	behind int
}

func (b *Builder) udevQueue() *udevQueue {
	q := &udevQueue{announced: map[uint64]event.Time{}}
	for f := range b.blocks.all {
		if f.done {
			q.ends = append(q.ends, f)
		} else {
			q.announced[f.seq] = f.at
		}
	}
	slices.SortFunc(q.ends, func(a, b *blockFact) int {
		return cmp.Or(a.compare(&b.stamp), cmp.Compare(a.seq, b.seq))
	})
	return q
}

// wait returns the wait of the event that udev finished with id.
func (q *udevQueue) wait(id uint64) wait {
	if q.waits == nil {
		q.waits = q.measure()
	}
	return q.waits[id]
}

// measure works out the waits of all events. Where udev has a thousand devices at
// once, each event waits behind hundreds, so the events are not compared with
// each other. They are taken in the order of their sequence numbers: what was
// counted before has a lower number, and trees count what ended within a time.
func (q *udevQueue) measure() map[uint64]wait {
	waits := make(map[uint64]wait, len(q.ends))
	places := q.places()
	all, same := make(counter, len(q.ends)+1), make(counter, len(q.ends)+1)
	bySeq := make([]int, len(q.ends))
	for i := range bySeq {
		bySeq[i] = i
	}
	slices.SortStableFunc(bySeq, func(a, b int) int { return cmp.Compare(q.ends[a].seq, q.ends[b].seq) })
	for counted, n := 0, 0; n < len(bySeq); n++ {
		mine := q.ends[bySeq[n]]
		for ; q.ends[bySeq[counted]].seq < mine.seq; counted++ {
			all.add(bySeq[counted])
			same.add(places.of[bySeq[counted]])
		}
		since, known := q.announced[mine.seq]
		if !known {
			continue
		}
		first, after := q.after(since), q.after(mine.at)
		if first >= after {
			continue
		}
		earlier := all.below(after)
		others := earlier - all.below(first)
		from, to := places.within(mine.dev, first, after)
		others -= same.below(to) - same.below(from)
		if others > 0 {
			waits[mine.id] = wait{held: q.ends[all.place(earlier)].at.Sub(since), behind: others}
		}
	}
	return waits
}

// after returns the place of the first event that ended after t.
func (q *udevQueue) after(t event.Time) int {
	return sort.Search(len(q.ends), func(i int) bool { return q.ends[i].at > t })
}

// devicePlaces are the places of ends in an order by device, then time.
type devicePlaces struct {
	of    []int               // by place in time
	ends  map[event.Dev][]int // the places in time of one device's
	begin map[event.Dev]int   // where those of one device begin
}

func (q *udevQueue) places() *devicePlaces {
	p := &devicePlaces{of: make([]int, len(q.ends)), ends: map[event.Dev][]int{}, begin: map[event.Dev]int{}}
	for i, f := range q.ends {
		p.ends[f.dev] = append(p.ends[f.dev], i)
	}
	n := 0
	for dev, list := range p.ends {
		p.begin[dev] = n
		for _, i := range list {
			p.of[i] = n
			n++
		}
	}
	return p
}

// within returns the places of a device's ends that are in [first, after) in time.
func (p *devicePlaces) within(dev event.Dev, first, after int) (from, to int) {
	list := p.ends[dev]
	from, _ = slices.BinarySearch(list, first)
	to, _ = slices.BinarySearch(list, after)
	return p.begin[dev] + from, p.begin[dev] + to
}

// counter counts what was added at places below any other one: a binary indexed
// tree, whose index i holds the count of the i&-i places before i.
type counter []int32

func (c counter) add(place int) {
	for i := place + 1; i < len(c); i += i & -i {
		c[i]++
	}
}

func (c counter) below(place int) int {
	n := 0
	for i := place; i > 0; i -= i & -i {
		n += int(c[i])
	}
	return n
}

// place returns where the nth is that was added, counted from 1 in the order of
// places.
func (c counter) place(n int) int {
	i := 0
	for step := 1 << bits.Len(uint(len(c))); step > 0; step >>= 1 {
		if i+step < len(c) && int(c[i+step]) < n {
			i += step
			n -= int(c[i])
		}
	}
	return i
}
