package timeline

import (
	"cmp"
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
	byID      map[uint64]*blockFact // ends, by event
	known     map[uint64]wait       // by event: every volume on a disk waited for that
}

// wait is how long at most an event was kept waiting, and behind how many of
// other devices.
type wait struct {
	held   event.Duration
	behind int
}

func (b *Builder) udevQueue() *udevQueue {
	q := &udevQueue{announced: map[uint64]event.Time{}, byID: map[uint64]*blockFact{}, known: map[uint64]wait{}}
	for f := range b.blocks.all {
		if f.done {
			q.ends = append(q.ends, f)
			q.byID[f.id] = f
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
	w, ok := q.known[id]
	if !ok {
		w = q.measure(id)
		q.known[id] = w
	}
	return w
}

func (q *udevQueue) measure(id uint64) wait {
	mine := q.byID[id]
	if mine == nil {
		return wait{}
	}
	since, known := q.announced[mine.seq]
	if !known {
		return wait{}
	}
	var w wait
	first := sort.Search(len(q.ends), func(i int) bool { return q.ends[i].at > since })
	for _, f := range q.ends[first:] {
		if f.at > mine.at {
			break
		}
		if f.seq >= mine.seq {
			continue // came later, and overtook
		}
		w.held = f.at.Sub(since)
		if f.dev != mine.dev {
			w.behind++
		}
	}
	if w.behind == 0 {
		return wait{}
	}
	return w
}
