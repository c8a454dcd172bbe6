package bootlog

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
)

// The log has a bound, and what one user, guest or program writes into it must not
// be what others lack. So each may have a part of what is left: something is then
// left for whoever comes next, and one that takes too much loses only its own. What
// only the host can cause (device-mapper, udev, losses, marks) may have all that is
// left, and a part of the log is kept for that, for guests that root runs, and for
// their holds.
const (
	// hostPart: one in so many bytes of MaxSize is for the host alone.
	hostPart = 4
	// Of what is left, one in so many bytes is for one guest, for all guests of one
	// user other than root, and for all programs of a user that are no guests.
	guestPart, userPart, otherPart = 4, 1, 8

	// maxOwners bounds the memory. Those beyond share one part.
	maxOwners = 16384
	// maxGuests is how many guests of one user have parts of their own at a time;
	// those beyond share the user's.
	maxGuests = 1024
)

// Pauses between two events that tell of one loss: whoever floods the log must not do
// it with these.
const (
	firstPause     = time.Second
	mostPause      = time.Hour
	mostFlushPause = time.Minute
)

// owner is a guest (pid is set), all guests of a user, or his other programs.
type owner struct {
	uid   uint32 // event.UserOf
	pid   int
	guest bool
}

// room is what is left in a log, in bytes.
type room struct{ host, others int64 }

// budget is what owners have taken of a log.
type budget struct {
	// guests are the processes of guests, each with the first of its guest.
	guests map[int]process
	used   map[owner]int64
	pids   map[uint32]int // owners with a pid, by user
	host   int64          // what is no owner's, or root's
	losses map[lossKey]*ownLoss
	// next is when one of the losses is to be told, at the earliest; flushed when
	// all were, and flushPause how long they are not again.
	next, flushed event.Time
	flushPause    event.Duration
}

type process struct {
	pid int
	uid uint32
}

func newBudget() *budget {
	return &budget{guests: map[int]process{}, used: map[owner]int64{}, pids: map[uint32]int{}, losses: map[lossKey]*ownLoss{}}
}

// room returns what is left of a log that may have max bytes and has size.
func (b *budget) room(maxSize, size int64) room {
	left := maxSize - reserve - size
	return room{host: left, others: left - max(maxSize/hostPart-b.host, 0)}
}

// ownersOf returns whose parts e takes from, none where only the host can have caused
// it. uid is the user.
func (b *budget) ownersOf(e *event.Event) (owners []owner, uid uint32) {
	if e.Kind == event.Mount && e.Mount != nil && e.Mount.UID != 0 {
		uid = event.UserOf(e.Mount.UID)
		return []owner{{uid: uid}}, uid
	}
	if e.Proc == nil {
		return nil, 0
	}
	pid := e.Proc.PID
	known, isGuest := b.guests[pid]
	uid = event.UserOf(e.Proc.UID)
	if isGuest {
		pid = known.pid
		if uid == 0 { // some events name the process alone
			uid = known.uid
		}
	}
	switch e.Kind {
	case event.Exec, event.Fork, event.Exit, event.Hold, event.Release, event.Image, event.Memory, event.Way, event.Inside:
	case event.Open:
		if !isGuest {
			return []owner{{uid: uid}}, uid
		}
	case event.Link:
		if uid == 0 { // udev's
			return nil, 0
		}
		return []owner{{uid: uid}}, uid
	default:
		return nil, 0
	}
	one := owner{uid, pid, true}
	if _, counted := b.used[one]; counted || uid == 0 || b.pids[uid] < maxGuests {
		owners = append(owners, one)
	}
	if uid != 0 {
		owners = append(owners, owner{uid: uid, guest: true})
	}
	return owners, uid
}

// part is what one owner may have of what is left.
func (r room) part(o owner) int64 {
	left := r.others
	if o.uid == 0 {
		left = r.host
	}
	switch {
	case o.pid != 0:
		return left / guestPart
	case o.guest:
		return left / userPart
	}
	return left / otherPart
}

// over returns the owner that may not have size bytes more of what is left.
func (b *budget) over(owners []owner, size int64, left room) (over owner, is bool) {
	for _, o := range owners {
		if b.used[b.known(o)]+size > left.part(o) {
			return o, true
		}
	}
	return owner{}, false
}

// known returns o, or what those share that are too many to count each.
func (b *budget) known(o owner) owner {
	if _, counted := b.used[o]; !counted && len(b.used) >= maxOwners {
		return owner{uid: min(o.uid, 1), guest: o.guest}
	}
	return o
}

// take counts an event of size bytes.
func (b *budget) take(owners []owner, uid uint32, size int64) {
	if len(owners) == 0 || uid == 0 {
		b.host += size
	}
	for _, o := range owners {
		o = b.known(o)
		if _, counted := b.used[o]; !counted && o.pid != 0 {
			b.pids[o.uid]++
		}
		b.used[o] += size
	}
}

// begins takes note of a process that is a guest from e on.
func (b *budget) begins(e *event.Event) {
	if e.Proc == nil {
		return
	}
	p := process{e.Proc.PID, event.UserOf(e.Proc.UID)}
	switch e.Kind {
	case event.Exec:
	case event.Backfill:
		if e.Exec == nil {
			return
		}
	case event.Fork: // a child takes from its guest's part
		if parent, ok := b.guests[e.Proc.PPID]; ok {
			p.pid = parent.pid
		}
	default:
		return
	}
	if _, known := b.guests[e.Proc.PID]; known || len(b.guests) < maxOwners {
		b.guests[e.Proc.PID] = p
	}
}

// ends forgets a process that e ends. What it took remains its user's.
func (b *budget) ends(e *event.Event) {
	if e.Proc == nil {
		return
	}
	switch e.Kind {
	case event.Exit:
	case event.Release: // of a start that came to nothing
		if e.Hold == nil || e.Hold.Outcome == event.HoldAllowed {
			return
		}
	default:
		return
	}
	uid := event.UserOf(e.Proc.UID)
	if p, ok := b.guests[e.Proc.PID]; ok {
		uid = p.uid
	}
	delete(b.guests, e.Proc.PID)
	one := owner{uid, e.Proc.PID, true}
	if _, counted := b.used[one]; counted {
		delete(b.used, one)
		if b.pids[uid]--; b.pids[uid] == 0 {
			delete(b.pids, uid)
		}
	}
}

// Marks of the service at its end: what was lost before has been told by then.
const (
	markStop       = "stop"
	markRelinquish = "relinquish"
)

// read counts the events of a log's text. What is no event there takes from the
// host's part. Where the log's writer did not come to its end, what was lost since it
// was last told is not known, which is to be told.
func (b *budget) read(text io.Reader) error {
	d := new(event.Decoder)
	r := bufio.NewReaderSize(text, 1<<20)
	var p past
	var line []byte
	for {
		piece, err := r.ReadSlice('\n')
		if line = append(line, piece...); errors.Is(err, bufio.ErrBufferFull) && len(line) <= maxLine {
			continue
		}
		var e event.Event
		if d.Decode(line, &e) != nil {
			e = event.Event{}
		}
		b.begins(&e)
		owners, uid := b.ownersOf(&e)
		b.take(owners, uid, int64(len(line)))
		b.ends(&e)
		b.recall(&e, &p)
		line = line[:0]
		switch {
		case err == io.EOF:
			b.doubt(&p)
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// adopt replaces what was taken by what was read of the whole log; what guests there
// are, and what was lost, b knows better.
func (b *budget) adopt(whole *budget) {
	b.used, b.pids, b.host = whole.used, whole.pids, whole.host
}

// past is what was read of a log, in numbers of events.
type past struct {
	n, ended, other int // all; the last that a writer ended with; the last but losses of owners
	end             bool
	at              event.Time
}

// recall takes note of a loss that was told.
func (b *budget) recall(e *event.Event, p *past) {
	p.n++
	p.at = max(p.at, e.At)
	if e.Mark != nil {
		if p.end = e.Mark.Name == markStop || e.Mark.Name == markRelinquish; p.end {
			p.ended = p.n
		}
	}
	if e.Loss == nil || e.Src != Source || e.Loss.What == lostAny {
		p.other = p.n
		return
	}
	key := lossKey{e.Loss.UID, e.Loss.PID, e.Loss.What}
	l := b.losses[key]
	if l == nil {
		if len(b.losses) >= maxOwners {
			return
		}
		l = &ownLoss{first: e.Earliest()}
		b.losses[key] = l
	}
	l.all += e.Loss.Count
	l.pause = min(max(2*l.pause, firstPause), mostPause)
	if l.from, l.told = e.At, p.n; p.end {
		l.told = p.ended
	}
}

// doubt notes the losses of which more may have been counted than was told.
func (b *budget) doubt(p *past) {
	for _, l := range b.losses {
		l.unknown, l.to = l.told > p.ended && l.told < p.other, p.at
	}
}

// lossKey is whose loss it is, of which guest alone (0: of all his), and of what.
type lossKey struct {
	uid  uint32
	pid  int
	what string
}

// ownLoss is told at once, and then with growing pauses.
type ownLoss struct {
	all      uint64
	count    uint64 // not told yet
	unknown  bool   // there may be more, of an earlier writer that did not come to tell it
	told     int    // where it was last told, in what that one wrote
	from, to event.Time
	first    event.Time
	tell     event.Time // not before
	pause    event.Duration
}

// What is lost is told by the event's kind, or as:
const (
	lostLook  = "look"  // an open by a program that is no known guest
	lostGuest = "guest" // anything else that is known of a guest
	lostAny   = "any"
)

// lost counts an event that its owner had no room for.
func (b *budget) lost(e *event.Event, o owner) *ownLoss {
	key := lossKey{o.uid, o.pid, string(e.Kind)}
	switch e.Kind {
	case event.Open:
		if !o.guest {
			key.what = lostLook
		}
	case event.Hold, event.Release:
		key.what = string(event.Hold)
	case event.Image, event.Memory, event.Inside:
		key.what = lostGuest
	}
	if e.Kind == event.Exec {
		key.pid = 0 // nothing in the record tells of this guest
	}
	if _, known := b.losses[key]; !known && len(b.losses) >= maxOwners {
		key = lossKey{what: lostAny}
	}
	l := b.losses[key]
	if l == nil {
		l = &ownLoss{first: e.Earliest()}
		b.losses[key] = l
	}
	l.all++
	if l.count++; l.count == 1 && !l.unknown {
		l.from, l.to = e.Earliest(), e.At
	}
	b.next = min(b.next, l.tell)
	l.from, l.to = min(l.from, e.Earliest()), max(l.to, e.At)
	return l
}

// due returns the losses that are to be told at now; all that are not told, if last
// is set.
func (b *budget) due(now event.Time, last bool) []event.Event {
	if !last && now < b.next {
		return nil
	}
	var events []event.Event
	b.next = math.MaxInt64
	for key, l := range b.losses {
		if l.count == 0 && !l.unknown {
			continue
		}
		if !last && now < l.tell {
			b.next = min(b.next, l.tell)
			continue
		}
		events = append(events, event.Event{
			At: l.to, From: l.from, Kind: event.Loss, Src: Source,
			Loss: &event.LossInfo{Source: Source, What: key.what, Count: l.count, Why: key.why(), UID: key.uid, PID: key.pid},
		})
		l.count, l.unknown = 0, false
		l.pause = min(max(2*l.pause, firstPause), mostPause)
		l.tell = max(now, l.to).Add(l.pause)
	}
	slices.SortFunc(events, func(a, b event.Event) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Loss.UID, b.Loss.UID), cmp.Compare(a.Loss.PID, b.Loss.PID), cmp.Compare(a.Loss.What, b.Loss.What))
	})
	return events
}

// flush is due for somebody who reads what is recorded so far, with pauses of its own:
// whoever may read must not fill the log with it, either.
func (b *budget) flush(now event.Time) []event.Event {
	if now < b.flushed.Add(b.flushPause) {
		return nil
	}
	events := b.due(now, true)
	b.flushed, b.flushPause = now, min(max(2*b.flushPause, firstPause), mostFlushPause)
	if len(events) == 0 {
		b.flushPause = 0
	}
	return events
}

// why says what was used up, and the remedy.
func (k lossKey) why() string {
	whose, part := fmt.Sprintf("user %d", k.uid), "one user"
	switch {
	case k.pid != 0:
		whose, part = fmt.Sprintf("the guest of process %d", k.pid), "one guest"
	case k.what == lostLook:
		part = "one user's programs that are no guests"
	}
	return fmt.Sprintf("%s had used up what %s may have of a boot's log; raise max-log-size if all of this is wanted", whose, part)
}

// mostTold bounds OwnLosses.
const mostTold = 64

// ownLosses lists them, the most first.
func (b *budget) ownLosses() []event.LossInfo {
	var list []event.LossInfo
	for key, l := range b.losses {
		list = append(list, event.LossInfo{Source: Source, What: key.what, Count: l.all, Why: key.why(), UID: key.uid, PID: key.pid})
	}
	slices.SortFunc(list, func(a, b event.LossInfo) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.UID, b.UID), cmp.Compare(a.PID, b.PID), cmp.Compare(a.What, b.What))
	})
	return list[:min(len(list), mostTold)]
}
