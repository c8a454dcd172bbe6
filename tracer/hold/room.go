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
	"github.com/bootrace/bootrace/tracer/guest"
)

// One user's starts must cost nobody else's. Whoever may execute a guarded program
// can have as many starts held as he likes, and have the memory that their arguments
// lie in never answer (a page of a FUSE mount). So what one user can have of this
// process is a share, and root, as which a host's own launchers run, has a reserve
// that nobody else can take.

// load is what starts take: their number, for each takes a descriptor, and how much
// memory, about, in bytes.
type load struct {
	starts int
	memory int64
}

func (l *load) add(o load, times int) {
	l.starts += times * o.starts
	l.memory += int64(times) * o.memory
}

// fits reports whether l and more are no more than these parts of all.
func (l *load) fits(more, all load, num, den int) bool {
	return (l.starts+more.starts)*den <= all.starts*num && (l.memory+more.memory)*int64(den) <= all.memory*int64(num)
}

const (
	// heldMemory is what all starts together may take of this process's memory,
	// which is some 20 MB without them: a start of four disks takes 23 KB.
	heldMemory = 64 << 20
	// What a start takes that waits: two goroutines, their stacks, and what else
	// does not depend on its disks; and for each path that it waits for: its entry in
	// the verdict, and its key in the table of who waits for which device. A path's own
	// text is in several of them, once with words around it. (Measured.)
	memoryOfStart = 16 << 10
	memoryOfPath  = 1536
	copiesOfPath  = 4
)

// burden is what a start that waits for these disks takes beside memoryOfStart.
func burden(disks []guest.Image) load {
	l := load{}
	for i := range disks {
		d := guest.Disk{Image: disks[i]}
		for image := range d.Images() {
			l.memory += memoryOfPath + copiesOfPath*int64(len(image.Path))
		}
	}
	return l
}

// room is what starts that are looked at or held take, by user.
type room struct {
	mu          sync.Mutex
	of          map[uint32]load
	all, others load // of all users, and of those other than root
}

// take makes room for more of a user's, if there is any: all of capacity for root;
// three quarters of it for all other users together, one quarter for each.
func (r *room) take(uid uint32, more, capacity load) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := r.of[uid]
	switch {
	case !r.all.fits(more, capacity, 1, 1):
		return false
	case uid != 0 && (!r.others.fits(more, capacity, 3, 4) || !own.fits(more, capacity, 1, 4)):
		return false
	}
	r.change(uid, more, 1)
	return true
}

func (r *room) give(uid uint32, back load) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.change(uid, back, -1)
}

// change adds to a user's load, or takes from it. The lock is held.
func (r *room) change(uid uint32, l load, times int) {
	r.all.add(l, times)
	if uid != 0 {
		r.others.add(l, times)
	}
	own := r.of[uid]
	if own.add(l, times); own == (load{}) {
		delete(r.of, uid)
		return
	}
	r.of[uid] = own
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
	long         [2]chan struct{} // root's, and that of the others: see understand

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
	return &readers{
		root: make(chan struct{}, readersOfRoot), others: make(chan struct{}, readersOfAll), of: map[uint32]*places{},
		long: [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)},
	}
}

// longArgs is what counts as long of a command line, in bytes: real ones have 2 to
// 10 KB. To understand one takes many times its length of memory for a moment.
const longArgs = 64 << 10

// understand calls f, which is about arguments of a user. Long ones have their turns,
// so that not all of them take memory at the same time.
func (r *readers) understand(ctx context.Context, uid uint32, args []string, f func()) error {
	size := 0
	for _, arg := range args {
		size += len(arg) + 1
	}
	if size > longArgs {
		turn := r.long[min(uid, 1)]
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
			return fmt.Errorf("they are %d bytes, and other long ones come first: %w", size, ctx.Err())
		}
	}
	f()
	return nil
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

// missed are the starts that went on without being held, by why: each reason is
// recorded at once, and then with growing pauses, for whoever causes them without end
// must fill neither the record nor the journal with that.
type missed struct {
	mu  sync.Mutex
	why map[string]*miss
}

type miss struct {
	from, to event.Time
	count    uint64         // not recorded yet
	next     event.Time     // it is not recorded before
	pause    event.Duration // the last
}

// Why starts went on without being held.
const (
	missedRoom   = "more starts at a time than can be held: some were not looked at"
	missedUnread = "the arguments of starts could not be read: these were not held"
)

// maxReasons bounds the reasons that are kept: one for each user. Those beyond count as
// of several users.
const maxReasons = 1024

// Pauses between two records of one reason; missedPeriod is how often it is looked.
const (
	missedPeriod    = 2 * time.Second
	mostMissedPause = 10 * time.Minute
)

// addOf counts a start of a user.
func (m *missed) addOf(why string, uid uint32, at event.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := fmt.Sprintf("%s (user %d)", why, uid)
	if m.why[own] == nil && len(m.why) >= maxReasons {
		own = why + " (several users)"
	}
	m.count(own, at)
}

// add counts starts of which it is not known whose they are.
func (m *missed) add(why string, at event.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.why[why] == nil && len(m.why) >= maxReasons {
		why = "starts were not looked at"
	}
	m.count(why, at)
}

func (m *missed) count(why string, at event.Time) {
	if m.why == nil {
		m.why = map[string]*miss{}
	}
	one := m.why[why]
	if one == nil {
		one = &miss{}
		m.why[why] = one
	}
	if one.count == 0 {
		one.from = at
	}
	one.from, one.to, one.count = min(one.from, at), max(one.to, event.Now()), one.count+1
}

// record tells those that are due at now, each reason once for all starts of a time; all
// that are not told, if last is set.
func (m *missed) record(record func(event.Event), log *slog.Logger, now event.Time, last bool) {
	type tell struct {
		why string
		miss
	}
	var due []tell
	m.mu.Lock()
	for _, why := range slices.Sorted(maps.Keys(m.why)) {
		one := m.why[why]
		switch {
		case one.count == 0 && now.Sub(one.next) > one.pause:
			delete(m.why, why)
		case one.count > 0 && (last || now >= one.next):
			due = append(due, tell{why, *one})
			one.count = 0
			one.pause = min(max(2*one.pause, missedPeriod), mostMissedPause)
			one.next = now.Add(one.pause)
		}
	}
	m.mu.Unlock()
	for _, one := range due {
		log.Warn("starts went on without being held", "why", one.why, "count", one.count)
		record(event.Event{At: one.to, From: one.from, Kind: event.Loss, Src: Source,
			Loss: &event.LossInfo{Source: Source, What: "hold", Count: one.count, Why: one.why}})
	}
}
