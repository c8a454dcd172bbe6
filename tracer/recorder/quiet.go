package recorder

import (
	"sync"

	"github.com/bootrace/bootrace/tracer/event"
)

// An agent that polls for a device, or a program that spins on it, must not
// fill the log: of equal failed opens by one process, burst are kept in each
// period, and the next one that is kept says how many were left out. The last
// one is always kept: when the process ends, as far as that is seen, else once
// it has not tried again for a period.
const (
	burst  = 10
	period = event.Time(10e9) // nanoseconds
	// tracked bounds the memory: beyond it the old are forgotten, or all, and
	// the worst that follows is that some more events are kept.
	tracked = 4096
)

type failure struct {
	pid, errno int
	path       string
}

type run struct {
	since   event.Time
	kept    int
	skipped int
	last    event.Event // of those that were skipped
}

// quiet decides which failed opens are repetitions.
type quiet struct {
	mu   sync.Mutex
	runs map[failure]*run
}

// pass calls keep with what goes into the log now: e, unless it is a
// repetition, and before it what had been held back of a process that it ends.
func (q *quiet) pass(e *event.Event, keep func(*event.Event)) {
	switch {
	case e.Kind == event.Exit:
		q.release(keep, func(f failure, _ *run) bool { return f.pid == e.Proc.PID })
	case e.Kind != event.Open || e.Open.Errno == 0:
	case !q.admit(e, keep):
		return
	}
	keep(e)
}

// admit reports whether a failed open goes into the log, and fills in its
// Repeats.
func (q *quiet) admit(e *event.Event, keep func(*event.Event)) bool {
	key := failure{e.Proc.PID, e.Open.Errno, e.Open.Path}
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.runs[key]
	if r == nil {
		q.makeRoom(e.At, keep)
		q.runs[key] = &run{since: e.At, kept: 1}
		return true
	}
	if e.At-r.since >= period {
		r.since, r.kept = e.At, 0
	}
	if r.kept >= burst {
		r.skipped++
		r.last = *e
		return false
	}
	r.kept++
	e.Open.Repeats, r.skipped = r.skipped, 0
	return true
}

// makeRoom is called with q.mu held, which it gives up meanwhile.
func (q *quiet) makeRoom(now event.Time, keep func(*event.Event)) {
	if len(q.runs) >= tracked {
		q.mu.Unlock()
		q.settle(now, keep)
		q.mu.Lock()
	}
	if len(q.runs) >= tracked {
		q.mu.Unlock()
		q.finish(keep)
		q.mu.Lock()
	}
	if q.runs == nil {
		q.runs = map[failure]*run{}
	}
}

// settle lets go of what has not come again for a period, at now.
func (q *quiet) settle(now event.Time, keep func(*event.Event)) {
	q.release(keep, func(_ failure, r *run) bool { return now-max(r.since, r.last.At) >= period })
}

// finish lets go of everything.
func (q *quiet) finish(keep func(*event.Event)) {
	q.release(keep, func(failure, *run) bool { return true })
}

// release forgets those that are over, and keeps the last of each that was left
// out.
func (q *quiet) release(keep func(*event.Event), over func(failure, *run) bool) {
	var last []event.Event
	q.mu.Lock()
	for key, r := range q.runs {
		if !over(key, r) {
			continue
		}
		delete(q.runs, key)
		if r.skipped > 0 {
			open := *r.last.Open
			open.Repeats = r.skipped - 1
			r.last.Open = &open
			last = append(last, r.last)
		}
	}
	q.mu.Unlock()
	for i := range last {
		keep(&last[i])
	}
}
