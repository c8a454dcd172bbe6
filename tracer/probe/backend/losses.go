package backend

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
)

// Loss says which events were lost: of one user, or of anybody.
type Loss struct {
	What string // as in event.LossInfo.What
	UID  uint32 // who had used up the share of one user; 0: anybody
}

// CompareLosses is the order in which losses are told.
func CompareLosses(a, b Loss) int {
	return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.UID, b.UID))
}

// Event is the event of n events that a source lost between from and at; n 0: nobody
// knows how many. why says to an operator how it came to that.
func (l Loss) Event(source string, from, at event.Time, n uint64, why string) event.Event {
	return event.Event{At: at, From: from, Kind: event.Loss, Src: source,
		Loss: &event.LossInfo{Source: source, What: l.What, Count: n, Why: why, UID: l.UID}}
}

// Losses makes events of counters. Kernels count what they lose and never say when, so
// a backend polls: each event tells of a loss between two polls. What one user has
// lost is told with growing pauses, unless it is the last time: each report is an
// event of its own, and whoever floods the record must not do it with these.
type Losses struct {
	Source string
	Why    string // of losses that are nobody's in particular
	// Interval is the first pause between two reports of one user's losses.
	Interval time.Duration
	// Polled is when the counters were last read: what is counted since was lost since.
	Polled event.Time
	// Since, where not nil, says of losses of a kind when the first of them began, at
	// most at polled. It is asked once for each report.
	Since func(what string, polled event.Time) event.Time

	told map[Loss]*lossReport
}

// lossReport is what was reported of a loss.
type lossReport struct {
	count uint64
	until event.Time     // nothing is reported before
	pause event.Duration // the last
	seen  event.Time     // it was no more than count then
}

// maxPause is the longest pause between two reports of what one user has lost.
const maxPause = time.Minute

// Poll returns the events of what has been lost since the last poll. counts are all
// losses since the start, as they were read at now or a little later.
func (l *Losses) Poll(now event.Time, counts map[Loss]uint64, last bool) (events []event.Event) {
	if l.told == nil {
		l.told = map[Loss]*lossReport{}
	}
	for _, loss := range slices.SortedFunc(maps.Keys(counts), CompareLosses) {
		told := l.told[loss]
		if told == nil {
			told = &lossReport{seen: l.Polled}
			l.told[loss] = told
		}
		n := counts[loss] - told.count
		switch {
		case n == 0:
			told.seen = now
			if now >= told.until {
				told.pause = 0
			}
		case loss.UID != 0 && now < told.until && !last:
		default:
			from, why := told.seen, l.Why
			if loss.UID != 0 {
				why = fmt.Sprintf("user %d had used up the share of one user", loss.UID)
				told.pause = min(max(2*told.pause, l.Interval), maxPause)
				told.until = now.Add(told.pause)
			} else if l.Since != nil {
				from = l.Since(loss.What, from)
			}
			events = append(events, loss.Event(l.Source, from, event.Now(), n, why))
			told.count, told.seen = counts[loss], now
		}
	}
	l.Polled = now
	return events
}
