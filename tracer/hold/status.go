package hold

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/readiness"
)

// Status is what a Holder does now. Its JSON form is part of `bootrace status
// --format json`, which exporters/json/schema.json describes.
type Status struct {
	// Programs are the files whose starts are looked at; Unused are patterns
	// that match none.
	Programs []string `json:"programs"`
	Unused   []string `json:"unused_patterns,omitempty"`
	// Holds are the starts that are being kept back, the oldest first.
	Holds []Held `json:"holds"`
	// Refused are the starts that were denied in this run of the service, the
	// latest of each guest, newest last.
	Refused []Refusal `json:"refused,omitempty"`
	Counts  Counts    `json:"counts"`
}

// Held is one hold.
type Held struct {
	Guest    string     `json:"guest"`
	Identity string     `json:"identity,omitempty"`
	PID      int        `json:"pid"`
	Since    event.Time `json:"since_ns"`
	// Age is how long it has been held, Left how long it will be at the most.
	Age  event.Duration `json:"age_ns"`
	Left event.Duration `json:"left_ns"`
	// OnTimeout is allow or deny.
	OnTimeout string           `json:"on_timeout"`
	Reason    event.HoldReason `json:"reason"` // disks, identity or filesystem
	// Blockers and Doubts are the first of them, More is how many there are
	// beside these.
	Blockers []readiness.Blocker `json:"blockers,omitempty"`
	Doubts   []Doubt             `json:"doubts,omitempty"`
	More     int                 `json:"more,omitempty"`
	// Hook is set where libvirt's hook keeps the start back; PID is the hook's.
	Hook bool `json:"hook,omitempty"`
	// Remedy says what to do, where waiting won't help.
	Remedy string `json:"remedy,omitempty"`
}

// Refusal is a start that was denied.
type Refusal struct {
	Guest    string           `json:"guest"`
	Identity string           `json:"identity,omitempty"`
	PID      int              `json:"pid"`
	At       event.Time       `json:"t_ns"`
	Why      event.HoldReason `json:"why"` // deadline, identity or filesystem
	// Details are what it waited for, or what was wrong with its disks.
	Details []string `json:"details"`
	More    int      `json:"more,omitempty"` // further details
	// Remedy says what to do.
	Remedy string `json:"remedy"`
}

// Counts are the starts since the service began to hold. Seen is all of the
// guarded programs; they were passed at once, or held and then allowed, denied,
// or gone.
type Counts struct {
	Seen    uint64 `json:"seen"`
	Passed  uint64 `json:"passed"`
	Held    uint64 `json:"held"`
	Allowed uint64 `json:"allowed"`
	Denied  uint64 `json:"denied"`
	Gone    uint64 `json:"gone"`
	// SlowestPass is how long a start took at the most that was passed at once.
	SlowestPass event.Duration `json:"slowest_pass_ns"`
	// Unread are those passed because their arguments could not be read,
	// Overflows how often the kernel had more than it queues, and passed some
	// by itself.
	Unread    uint64 `json:"unread"`
	Overflows uint64 `json:"overflows"`
	// Unseen are those passed because there were too many of one user, or of all,
	// at a time; Hanging is how many threads wait for arguments that never come.
	Unseen  uint64 `json:"unseen"`
	Hanging int    `json:"hanging"`
	// Holding is how many are held now; Status.Holds lists the oldest of them.
	Holding uint64 `json:"holding"`
}

// maxListed bounds Status.Holds.
const maxListed = 1000

// Status returns what is held now.
func (h *Holder) Status() Status {
	st := Status{Holds: []Held{}}
	st.Programs, st.Unused = h.programs.list()
	now := event.Now()
	holding := uint64(0)
	for _, d := range h.list() {
		held, ok := d.status(now)
		if ok {
			holding++
		}
		if ok && len(st.Holds) < maxListed {
			st.Holds = append(st.Holds, held)
		}
	}
	h.mu.Lock()
	st.Refused = slices.Clone(h.refused)
	h.mu.Unlock()
	c := &h.counts
	st.Counts = Counts{
		Seen: c.seen.Load(), Passed: c.passed.Load(), Held: c.held.Load(), Allowed: c.allowed.Load(),
		Denied: c.denied.Load(), Gone: c.gone.Load(), Unread: c.unread.Load(), Overflows: c.overflowed.Load(),
		Unseen: c.unseen.Load(), Hanging: h.readers.hanging(),
		Holding: holding, SlowestPass: event.Duration(c.slowest.Load()),
	}
	return st
}

func (d *hold) status(now event.Time) (Held, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.recorded {
		return Held{}, false
	}
	held := Held{
		Guest: name(&d.guest), Identity: d.guest.Identity.String(), PID: d.task.PID, Since: d.since,
		Age: now.Sub(d.since), Left: max(d.deadline.Sub(now), 0), OnTimeout: "allow",
		Reason: d.reason,
	}
	held.list(d.blockers, d.doubts)
	if !d.allow.Load() {
		held.OnTimeout = "deny"
	}
	switch d.reason {
	case event.HoldFilesystem:
		held.Remedy = "give the device back what is missing (activate or extend the volume, make its table again), and repair nothing before; `bootrace release` starts it as it is, which can make it worse"
	case event.HoldIdentity:
		held.Remedy = "bring the disk back that it ran on; where the change was meant, `bootrace release` starts it as it is"
	}
	return held, true
}

// SetBlockers keeps the first maxWords of blockers, shortened, and adds the rest to More.
func (h *Held) SetBlockers(blockers []readiness.Blocker) {
	more := h.More
	h.list(blockers, nil)
	h.More += more
}

// list sets what the start waits for, and what is wrong with its disks.
func (h *Held) list(blockers []readiness.Blocker, doubts []Doubt) {
	h.Blockers = slices.Clone(blockers[:min(len(blockers), maxWords)])
	for i := range h.Blockers {
		b := &h.Blockers[i]
		b.Path, b.Disk, b.Mapping, b.Detail = shorten(b.Path), shorten(b.Disk), shorten(b.Mapping), shorten(b.Detail)
	}
	h.Doubts = slices.Clone(doubts[:min(len(doubts), maxWords-len(h.Blockers))])
	for i := range h.Doubts {
		d := &h.Doubts[i]
		d.Disk, d.Text = shorten(d.Disk), shorten(d.Text)
	}
	h.More = len(blockers) + len(doubts) - len(h.Blockers) - len(h.Doubts)
}

// Of many holds less is told of each: of more than manyHolds only fewWords of what
// each waits for.
const (
	manyHolds = 64
	fewWords  = 4
)

// Bound has s say no more than a status can, whatever is held.
func (s *Status) Bound() {
	if len(s.Holds) > maxListed {
		s.Holds = s.Holds[:maxListed]
	}
	if len(s.Holds) <= manyHolds {
		return
	}
	for i := range s.Holds {
		h := &s.Holds[i]
		blockers := min(len(h.Blockers), fewWords)
		doubts := min(len(h.Doubts), fewWords-blockers)
		h.More += len(h.Blockers) - blockers + len(h.Doubts) - doubts
		h.Blockers, h.Doubts = h.Blockers[:blockers], h.Doubts[:doubts]
	}
}

// maxRefused is how many refusals are kept.
const maxRefused = 100

// refuse remembers that a start was denied.
func (h *Holder) refuse(d *hold, why event.HoldReason, at event.Time) {
	d.mu.Lock()
	r := Refusal{Guest: name(&d.guest), Identity: d.guest.Identity.String(), PID: d.task.PID, At: at, Why: why}
	r.Details, r.More, _ = d.words()
	r.Remedy = remedy(d.reason)
	d.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = slices.DeleteFunc(h.refused, func(o Refusal) bool { return o.Guest == r.Guest && o.Identity == r.Identity })
	h.refused = append(h.refused, r)
	if n := len(h.refused) - maxRefused; n > 0 {
		h.refused = slices.Delete(h.refused, 0, n)
	}
}

func remedy(reason event.HoldReason) string {
	if reason == event.HoldIdentity {
		return "bring the disk back that it ran on, and start it again; where the change was meant, start it with identity: warn for it in enforce.guests, or release it by hand while it is held"
	}
	if reason == event.HoldFilesystem {
		return "give the device back what is missing (activate or extend the volume, make its table again), and start it again; repair nothing before"
	}
	return "make its disks ready, and start it again; a longer deadline, or on-timeout: allow, in enforce.guests"
}

// Release lets the held guests go on that are called so: by name, identity,
// UUID, or process id. It returns their names.
func (h *Holder) Release(who string) ([]string, error) {
	var released []string
	for _, d := range h.list() {
		if d.called(who) && !d.answered.Load() {
			h.finish(d, true, event.ReleaseByHand)
			released = append(released, name(&d.guest))
		}
	}
	if released == nil {
		return nil, fmt.Errorf("no guest called %q is held: `bootrace status` lists those that are", who)
	}
	return released, nil
}

func (d *hold) called(who string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.recorded {
		return false
	}
	id := d.guest.Identity
	return slices.Contains([]string{d.guest.Name, id.String(), id.Value, strconv.Itoa(d.task.PID)}, who) ||
		d.guest.UUID != "" && strings.EqualFold(d.guest.UUID, who)
}
