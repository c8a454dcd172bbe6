package hold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
)

// One user's starts must cost nobody else's. Whoever may execute a guarded program
// can have as many starts held as he likes, and have the memory that their arguments
// lie in never answer (a page of a FUSE mount). So what one user can have of this
// process is a share, and root, as which a host's own launchers run, has a reserve
// that nobody else can take.

// room is how many starts are looked at or held at a time, by user.
type room struct {
	mu     sync.Mutex
	of     map[uint32]int
	others int // of users other than root
}

// take makes room for one start of a user, if there is any: all of capacity for
// root; three quarters of it for all other users together, one quarter for each.
func (r *room) take(uid uint32, capacity int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.of[0]+r.others >= capacity:
		return false
	case uid != 0 && (r.others >= capacity-capacity/4 || r.of[uid] >= max(capacity/4, 1)):
		return false
	}
	r.of[uid]++
	if uid != 0 {
		r.others++
	}
	return true
}

func (r *room) give(uid uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if uid != 0 {
		r.others--
	}
	if r.of[uid]--; r.of[uid] == 0 {
		delete(r.of, uid)
	}
}

// Reading the arguments of a start takes a thread for as long as its memory takes to
// answer, which can be for ever. Go ends a program that has 10,000 threads.
const (
	readersOfRoot = 32
	readersOfUser = 8
	readersOfAll  = 64 // users other than root
)

// readers are the threads that read arguments, by user. One that hangs keeps its
// place, and nobody waits for it.
type readers struct {
	root, others chan struct{}

	mu     sync.Mutex
	of     map[uint32]*places
	hanged int
}

// places are those of one user. It is forgotten when nobody has, or waits for, one.
type places struct {
	slots chan struct{}
	users int
}

func newReaders() *readers {
	return &readers{root: make(chan struct{}, readersOfRoot), others: make(chan struct{}, readersOfAll), of: map[uint32]*places{}}
}

var errNoReader = errors.New("all threads that may read arguments for this user hang, or are busy")

// read calls f on a thread of its own, once there is one for the user, and returns
// when it is done. Where ctx ends before, f goes on alone.
func (r *readers) read(ctx context.Context, uid uint32, f func()) error {
	own := r.enter(uid)
	all := r.others
	if uid == 0 {
		all = r.root
	}
	for n, slots := range []chan struct{}{own.slots, all} {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			if n > 0 {
				<-own.slots
			}
			r.leave(uid, own)
			return errNoReader
		}
	}
	done := make(chan struct{})
	go func() {
		defer func() {
			<-all
			<-own.slots
			r.leave(uid, own)
			close(done)
		}()
		f()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	r.hang(1)
	go func() {
		<-done
		r.hang(-1)
	}()
	return fmt.Errorf("the memory that they lie in does not answer: %w", ctx.Err())
}

func (r *readers) enter(uid uint32) *places {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := r.of[uid]
	if own == nil {
		n := readersOfUser
		if uid == 0 {
			n = readersOfRoot
		}
		own = &places{slots: make(chan struct{}, n)}
		r.of[uid] = own
	}
	own.users++
	return own
}

func (r *readers) leave(uid uint32, own *places) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(r.of, uid)
	}
}

func (r *readers) hang(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hanged += n
}

// hanging is how many threads do not come back.
func (r *readers) hanging() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hanged
}

// missed are the starts that went on without being held, by why, since they were
// last recorded.
type missed struct {
	mu  sync.Mutex
	why map[string]miss
}

type miss struct {
	from, to event.Time
	count    uint64
}

// Why starts went on without being held.
const (
	missedRoom   = "more starts at a time than can be held: some were not looked at"
	missedUnread = "the arguments of starts could not be read: these were not held"
)

// maxReasons bounds the reasons that wait to be recorded.
const maxReasons = 32

func (m *missed) add(why string, at event.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.why == nil {
		m.why = map[string]miss{}
	}
	one, ok := m.why[why]
	if !ok {
		if len(m.why) >= maxReasons {
			return
		}
		one.from = at
	}
	one.from, one.to, one.count = min(one.from, at), max(one.to, event.Now()), one.count+1
	m.why[why] = one
}

// record tells them, each reason once for all starts of a time.
func (m *missed) record(record func(event.Event), log *slog.Logger) {
	m.mu.Lock()
	why := m.why
	m.why = nil
	m.mu.Unlock()
	for _, text := range slices.Sorted(maps.Keys(why)) {
		one := why[text]
		log.Warn("starts went on without being held", "why", text, "count", one.count)
		record(event.Event{At: one.to, From: one.from, Kind: event.Loss, Src: Source,
			Loss: &event.LossInfo{Source: Source, What: "hold", Count: one.count, Why: text}})
	}
}

// missedPeriod is how often they are recorded.
const missedPeriod = 2 * time.Second
