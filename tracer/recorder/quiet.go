package recorder

import (
	"sync"

	"github.com/bootrace/bootrace/tracer/event"
)

// An agent that polls for a device, or a program that spins on it, must not
// fill the log: of equal failed opens by one process, burst are kept in each
// period, and the next one that is kept says how many were left out.
const (
	burst  = 10
	period = event.Time(10e9) // nanoseconds
	// tracked bounds the memory: beyond it the oldest half is forgotten, and
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
}

// quiet decides which failed opens are repetitions.
type quiet struct {
	mu   sync.Mutex
	runs map[failure]*run
}

// keep reports whether e goes into the log, and fills in its Repeats.
func (q *quiet) keep(e *event.Event) bool {
	if e.Kind != event.Open || e.Open.Errno == 0 {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	key := failure{e.Proc.PID, e.Open.Errno, e.Open.Path}
	r := q.runs[key]
	if r == nil {
		q.makeRoom(e.At)
		q.runs[key] = &run{since: e.At, kept: 1}
		return true
	}
	if e.At-r.since >= period {
		r.since, r.kept = e.At, 0
	}
	if r.kept >= burst {
		r.skipped++
		return false
	}
	r.kept++
	e.Open.Repeats, r.skipped = r.skipped, 0
	return true
}

func (q *quiet) makeRoom(now event.Time) {
	if q.runs == nil {
		q.runs = map[failure]*run{}
	}
	if len(q.runs) < tracked {
		return
	}
	for key, r := range q.runs {
		if now-r.since >= period {
			delete(q.runs, key)
		}
	}
	if len(q.runs) >= tracked {
		clear(q.runs)
	}
}
