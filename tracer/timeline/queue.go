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
}

func (b *Builder) udevQueue() *udevQueue {
	q := &udevQueue{announced: map[uint64]event.Time{}, byID: map[uint64]*blockFact{}}
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

// wait returns how long at most the event that udev finished with id was kept
// waiting, and behind how many events of other devices.
func (q *udevQueue) wait(id uint64) (held event.Duration, behind int) {
	mine := q.byID[id]
	if mine == nil {
		return 0, 0
	}
	since, known := q.announced[mine.seq]
	if !known {
		return 0, 0
	}
	first := sort.Search(len(q.ends), func(i int) bool { return q.ends[i].at > since })
	for _, f := range q.ends[first:] {
		if f.at > mine.at {
			break
		}
		if f.seq >= mine.seq {
			continue // came later, and overtook
		}
		held = f.at.Sub(since)
		if f.dev != mine.dev {
			behind++
		}
	}
	if behind == 0 {
		return 0, 0
	}
	return held, behind
}
