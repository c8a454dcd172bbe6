package hold

import (
	"log/slog"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
)

// The journal has a line where a start is held, and where that is over. Whoever starts
// thousands must not push everybody else's lines out of it: journald drops what comes
// beyond 10,000 lines of one service in 30 s, whoever they are about. So users other
// than root have some lines at once, and some more a second, each of them and all
// together. The record of the boot has all of it.

// allowance is how many lines there may be at once, and how many a second later on.
type allowance struct{ burst, perSecond float64 }

var (
	linesOfUser = allowance{1000, 1}
	linesOfAll  = allowance{4000, 20} // of users other than root
)

const (
	// maxJournals bounds the memory. Users beyond share one allowance.
	maxJournals = 4096
	// leftOutPeriod is how often it is told what of one user was left out.
	leftOutPeriod = time.Minute
)

// journal decides which lines about starts are written.
type journal struct {
	log *slog.Logger

	mu  sync.Mutex
	all lines
	of  map[uint32]*lines
}

// lines are those of one user, or of all.
type lines struct {
	used    float64 // of the allowance
	at      event.Time
	leftOut int
	told    event.Time
}

// settle gives back what time has given.
func (l *lines) settle(now event.Time, a allowance) {
	l.used = max(0, l.used-a.perSecond*now.Sub(l.at).Seconds())
	l.at = now
}

// to returns where a line about a start of a user goes: to the journal, or nowhere.
func (j *journal) to(uid uint32, now event.Time) *slog.Logger {
	uid = event.UserOf(uid)
	if uid == 0 {
		return j.log
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	own := j.of[uid]
	if own == nil && len(j.of) >= maxJournals {
		own = j.of[1]
	}
	if own == nil {
		if j.of == nil {
			j.of = map[uint32]*lines{}
		}
		own = &lines{at: now, told: now}
		j.of[uid] = own
	}
	own.settle(now, linesOfUser)
	j.all.settle(now, linesOfAll)
	if own.used+1 > linesOfUser.burst || j.all.used+1 > linesOfAll.burst {
		own.leftOut++
		return slog.New(slog.DiscardHandler)
	}
	own.used++
	j.all.used++
	return j.log
}

// tell says what was left out, once a minute for each user, and forgets those of whom
// there is nothing to say.
func (j *journal) tell(now event.Time) {
	type left struct {
		uid   uint32
		lines int
	}
	var all []left
	j.mu.Lock()
	for uid, l := range j.of {
		l.settle(now, linesOfUser)
		switch {
		case l.leftOut == 0 && l.used == 0:
			delete(j.of, uid)
		case l.leftOut > 0 && now.Sub(l.told) >= leftOutPeriod:
			all = append(all, left{uid, l.leftOut})
			l.leftOut, l.told = 0, now
		}
	}
	j.mu.Unlock()
	for _, l := range all {
		j.log.Warn("lines about starts of one user were left out: the record of the boot has them (bootrace events)", "user", l.uid, "lines", l.lines)
	}
}
