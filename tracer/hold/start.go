package hold

// One start, from its first instant to the answer and what is told of it.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/proc"
	"github.com/bootrace/bootrace/tracer/readiness"
	"github.com/bootrace/bootrace/tracer/view"
)

// hold is one exec that waits for an answer, from its first instant on.
type hold struct {
	exec     Exec
	since    event.Time
	answered atomic.Bool
	death    atomic.Uint64 // its number in deaths, 0: not told
	// allow is the decision of the clock; free is set where it was answered
	// before the disks were ready; noExec where the program was only opened.
	allow, free, noExec atomic.Bool
	clock               *time.Timer
	uid                 uint32        // whose start it is: event.UserOf
	done                chan struct{} // closed when it is answered

	mu       sync.Mutex
	takes    load // of the user's room
	over     bool // and no more of it
	recorded bool // as a hold
	task     *Task
	guest    guest.Guest
	policy   config.Policy
	deadline event.Time
	reason   event.HoldReason
	blockers []readiness.Blocker
	doubts   []Doubt
}

func (h *Holder) begin(e Exec) {
	d := &hold{exec: e, since: e.At, done: make(chan struct{})}
	if d.since == 0 {
		d.since = event.Now()
	}
	d.allow.Store(true)
	d.clock = time.AfterFunc(h.patience, func() { h.finish(d, d.allow.Load(), event.ReleaseDeadline) })
	h.counts.seen.Add(1)
	d.uid = userOf(e.TID)
	roomy := h.makeRoom(d, load{starts: 1, memory: memoryOfStart})
	h.mu.Lock()
	h.running[d] = struct{}{}
	h.mu.Unlock()
	if !roomy {
		h.noRoom(d)
		return
	}
	h.workers.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				h.finish(d, true, "internal error")
				h.opts.Log.Error("a start is not held", "panic", p, "stack", string(debug.Stack()))
			}
		}()
		h.decide(d)
	})
}

// makeRoom makes room for what a start takes, if its user may have more.
func (h *Holder) makeRoom(d *hold, more load) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over || !h.room.take(d.uid, more, load{h.gate.Capacity(), heldMemory}) {
		return d.over // what was answered takes none
	}
	d.takes.add(more, 1)
	return true
}

// leaveRoom gives back what a start took.
func (h *Holder) leaveRoom(d *hold) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	h.room.give(d.uid, d.takes)
}

// noRoom lets a start go on for which there is no room.
func (h *Holder) noRoom(d *hold) {
	if ended(d.exec.TID) {
		h.pass(d)
		return
	}
	h.counts.unseen.Add(1)
	h.missed.addOf(missedRoom, d.uid, d.since)
	h.pass(d)
}

// decide answers an exec, sooner or later, and at once where there is nothing
// to wait for.
func (h *Holder) decide(d *hold) {
	ctx, cancel := context.WithTimeout(context.Background(), h.patience)
	defer cancel()
	task, g, err := h.arguments(ctx, d)
	d.mu.Lock()
	d.task = task
	d.mu.Unlock()
	if errors.Is(err, ErrNoExec) && d.exec.Open {
		d.noExec.Store(true)
		h.pass(d)
		return
	}
	if err != nil && ended(d.exec.TID) {
		h.pass(d)
		return
	}
	if err != nil {
		h.counts.unread.Add(1)
		h.pass(d)
		h.missed.addOf(missedUnread, d.uid, d.since)
		h.opts.Log.Debug("a start is not held: its arguments can't be read", "task", d.exec.TID, "user", d.uid, "error", err)
		return
	}
	policy := h.policy(&g)
	disks := readiness.Disks(&g)
	if g.Unknown != "" {
		h.journal.to(d.uid, event.Now()).Warn("a guest may have disks that are not waited for", "guest", name(&g), "why", g.Unknown)
	}
	if !g.IsGuest || len(disks) == 0 || policy.Deadline == 0 || h.wasLetGo(task, &g) {
		h.pass(d)
		return
	}
	if policy.Identity == config.IdentityWarn && policy.Filesystem == config.FilesystemWarn && h.hasWaited(&g, task) {
		h.pass(d)
		h.journal.to(d.uid, event.Now()).Info("a start is not held a second time", "guest", name(&g))
		return
	}
	if !h.makeRoom(d, burden(disks)) {
		h.noRoom(d)
		return
	}
	d.set(task, g, policy)
	d.clock.Reset(max(time.Until(time.Now().Add(policy.Deadline-event.Now().Sub(d.since))), 0))
	watch, err := h.opts.Watch(readiness.Request{Disks: disks, Memory: h.last(&g), Dir: task.Cwd, PID: task.PID, Owner: d.uid})
	if err != nil {
		h.pass(d)
		h.journal.to(d.uid, event.Now()).Warn("a start is not held: its disks can't be looked at", "guest", name(&g), "error", err)
		return
	}
	defer watch.Close()
	h.await(d, watch)
}

func (h *Holder) last(g *guest.Guest) []event.MemoryDisk {
	if h.opts.Last == nil {
		return nil
	}
	return h.opts.Last(g)
}

// arguments reads and understands what a start is about, within ctx.
func (h *Holder) arguments(ctx context.Context, d *hold) (*Task, guest.Guest, error) {
	type understood struct {
		task  *Task
		guest guest.Guest
		err   error
	}
	answer := make(chan understood, 1)
	err := h.readers.read(ctx, d.uid, func() {
		var u understood
		defer func() {
			if p := recover(); p != nil {
				u.err = fmt.Errorf("internal error: %v", p)
			}
			answer <- u
		}()
		if u.task, u.err = h.method.arguments.Of(ctx, d.exec.TID); u.err == nil {
			u.err = h.readers.understand(ctx, d.uid, u.task.Args, func() {
				u.guest = parse(u.task) // it may read a file of the starting user's
			})
		}
	})
	if err != nil {
		return nil, guest.Guest{}, err
	}
	u := <-answer
	return u.task, u.guest, u.err
}

// policy is what holds for a guest, as far as this kernel allows.
func (h *Holder) policy(g *guest.Guest) config.Policy {
	p := h.cfg.Load().For(g.Name, g.UUID)
	if h.method.Longest > 0 {
		p.Deadline = min(p.Deadline, h.method.Longest)
	}
	return p
}

// pass lets an exec go on that is no hold.
func (h *Holder) pass(d *hold) { h.finish(d, true, "") }

// parse reads the arguments, and the files that they name and that tell of disks.
func parse(t *Task) guest.Guest {
	p := guest.Parser{Program: t.Filename, Watched: true, ReadFile: func(path string) ([]byte, error) { return readConfig(t, path) }}
	return p.Parse(t.Args)
}

// readConfig reads a file as the task would, in its mount namespace and with its
// rights.
func readConfig(t *Task, path string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		if t.Cwd == "" {
			return nil, errors.New("its path is relative, and the working directory is gone")
		}
		path = t.Cwd + "/" + path // not cleaned: a link may come before a ".."
	}
	status, err := proc.ReadStatus(proc.Dir("/", t.TID))
	if err != nil {
		return nil, err
	}
	v, err := view.Of(t.PID)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return v.ReadFile(path, view.User{UID: status.FSUID, GID: status.FSGID, Groups: status.Groups}, guest.MaxFile)
}

// set notes whose hold it is, from when on its deadline counts.
func (d *hold) set(t *Task, g guest.Guest, p config.Policy) {
	d.allow.Store(p.OnTimeout == config.Allow)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.task, d.guest, d.policy = t, g, p
	d.deadline = d.since.Add(p.Deadline)
}

// compareAgain is how often a guest that is held for its identity is looked at
// again: nothing announces that somebody has put its disks right.
const compareAgain = 2 * time.Second

// await waits until the disks are ready, and are those that they should be.
func (h *Holder) await(d *hold, watch Watch) {
	activation := h.newActivation(d)
	defer activation.stop()
	for {
		var again <-chan time.Time
		rung := h.bell.wait()
		if v := watch.Verdict(); v.Ready {
			if h.identify(d, &v) {
				return
			}
			again = time.After(compareAgain)
		} else if rung = nil; v.At != 0 { // a change of theirs is told
			h.waitsFor(d, &v)
			activation.want(v.Blockers)
		}
		select {
		case <-watch.Changed():
		case <-again:
		case <-rung:
			select {
			case <-time.After(settle):
			case <-d.done:
				return
			}
		case <-d.done:
			return
		case <-activation.due():
			activation.begin()
		}
	}
}

// activation has brought up what a hold waits for, once that is due, and what
// only then turns out to be beneath it.
type activation struct {
	h     *Holder
	d     *hold
	timer *time.Timer // nil: never
	begun bool
}

func (h *Holder) newActivation(d *hold) *activation {
	a := &activation{h: h, d: d}
	if p := d.policy.Activate; p.On && h.opts.Activate != nil {
		a.timer = time.NewTimer(p.After)
	}
	return a
}

func (a *activation) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}

func (a *activation) due() <-chan time.Time {
	if a.timer == nil {
		return nil
	}
	return a.timer.C
}

// begin makes the next want count; await's loop brings it.
func (a *activation) begin() { a.begun = true }

// want activates what is waited for, as long as the hold lasts.
func (a *activation) want(blockers []readiness.Blocker) {
	if !a.begun {
		return
	}
	a.h.workers.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			select {
			case <-a.d.done:
				cancel()
			case <-ctx.Done():
			}
		}()
		a.h.opts.Activate(ctx, blockers)
	})
}

// waitsFor notes what d waits for, and makes it a hold.
func (h *Holder) waitsFor(d *hold, v *readiness.Verdict) {
	d.mu.Lock()
	d.blockers, d.doubts = v.Blockers, nil
	d.mu.Unlock()
	d.allow.Store(d.policy.OnTimeout == config.Allow)
	if h.becomes(d, event.HoldDisks) {
		h.journal.to(d.uid, event.Now()).Info("a start is held", "guest", name(&d.guest), "for", sample(Words(v.Blockers)), "at_most", d.policy.Deadline)
	}
}

// identify decides about a guest whose disks are all ready. It returns false
// while the guest is to be held all the same.
func (h *Holder) identify(d *hold, v *readiness.Verdict) bool {
	var doubts []Doubt
	if h.opts.Compare != nil {
		var err error
		if doubts, err = h.opts.Compare(&d.guest, v.Members); err != nil && d.policy.Identity != config.IdentityWarn {
			h.unknown(d, err)
			return false
		}
	}
	d.mu.Lock()
	if !d.cutOff() || d.policy.Identity != config.IdentityWarn { // else it is held for worse
		d.blockers, d.doubts = nil, doubts
	}
	d.mu.Unlock()
	if len(doubts) == 0 {
		return h.inside(d, v)
	}
	var texts []string
	for i := range doubts {
		texts = append(texts, shorten(doubts[i].Text))
	}
	texts = sample(texts, 0)
	switch d.policy.Identity {
	case config.IdentityDeny:
		h.becomes(d, event.HoldIdentity)
		h.finish(d, false, event.HoldIdentity)
		h.journal.to(d.uid, event.Now()).Error("a start is denied: its disks are not those it last ran on", "guest", name(&d.guest), "disks", texts)
		return true
	case config.IdentityHold:
		d.allow.Store(false)
		if h.becomes(d, event.HoldIdentity) {
			h.journal.to(d.uid, event.Now()).Error("a start is held: its disks are not those it last ran on; `bootrace release` starts it all the same",
				"guest", name(&d.guest), "disks", texts, "denied_in", d.deadline.Sub(event.Now()).Round(time.Second))
		}
		return false
	default:
		if !h.inside(d, v) {
			return false
		}
		h.journal.to(d.uid, event.Now()).Warn("a guest starts on disks that are not those it last ran on", "guest", name(&d.guest), "disks", texts)
		return true
	}
}

// unknown holds a guest until it can be told whether its disks are those that it
// last ran on.
func (h *Holder) unknown(d *hold, err error) {
	d.mu.Lock()
	d.blockers = []readiness.Blocker{{Path: d.guest.Disks[0].Path, Detail: err.Error()}}
	d.mu.Unlock()
	if h.becomes(d, event.HoldIdentity) {
		h.journal.to(d.uid, event.Now()).Info("a start is held", "guest", name(&d.guest), "for", err)
	}
}

// becomes makes d a hold for this reason, and records it. It reports whether
// that is news.
func (h *Holder) becomes(d *hold, reason event.HoldReason) bool {
	d.mu.Lock()
	first, news := !d.recorded, !d.recorded || d.reason != reason
	d.recorded, d.reason = true, reason
	d.mu.Unlock()
	if first {
		h.counts.held.Add(1)
		if h.method.Longest == 0 { // else a killed task goes on waiting, and its status shows it
			h.deaths.follow(d)
		}
	}
	if news {
		h.opts.Record(d.event(event.Hold, d.since, event.HoldInfo{Reason: reason}))
	}
	return news
}

// finish answers an exec, once: the answer first, and everything that takes a
// lock or tells somebody afterwards.
func (h *Holder) finish(d *hold, allow bool, why event.HoldReason) {
	if !d.answered.CompareAndSwap(false, true) {
		return
	}
	d.free.Store(allow && why != event.ReleaseReady && why != event.ReleaseKilled)
	err := h.gate.Answer(d.exec, allow)
	at := event.Now()
	close(d.done)
	d.clock.Stop()
	h.account(d, allow, why, at)
	h.mu.Lock()
	delete(h.running, d)
	h.mu.Unlock()
	h.leaveRoom(d)
	h.deaths.forget(d)
	if err != nil && !errors.Is(err, os.ErrClosed) {
		h.opts.Log.Error("a start was not answered", "error", err)
	}
}

// pass counts a start that went on at once, after took.
func (c *counts) pass(took time.Duration) {
	c.passed.Add(1)
	for {
		slowest := c.slowest.Load()
		if int64(took) <= slowest || c.slowest.CompareAndSwap(slowest, int64(took)) {
			return
		}
	}
}

// account remembers and records what became of a start.
func (h *Holder) account(d *hold, allow bool, why event.HoldReason, at event.Time) {
	d.mu.Lock()
	recorded, task := d.recorded, d.task
	d.mu.Unlock()
	switch {
	case d.noExec.Load():
		h.counts.seen.Add(^uint64(0)) // it was no start
		return
	case !recorded && allow:
		h.counts.pass(at.Sub(d.since))
		return
	case why == event.ReleaseKilled:
		h.counts.gone.Add(1)
	case allow:
		h.counts.allowed.Add(1)
	default:
		h.counts.denied.Add(1)
		h.refuse(d, why, at)
	}
	if d.free.Load() {
		h.noteLetGo(task, &d.guest)
	}
	outcome := event.HoldDenied
	switch {
	case why == event.ReleaseKilled:
		outcome = event.HoldGone
	case allow:
		outcome = event.HoldAllowed
	}
	h.opts.Record(d.event(event.Release, at, event.HoldInfo{Reason: why, Outcome: outcome}))
	h.journal.to(d.uid, event.Now()).Info("a held start is over", "guest", name(&d.guest), "outcome", outcome, "why", why, "held", at.Sub(d.since).Round(time.Millisecond))
}

// event describes d; info has what is particular.
func (d *hold) event(kind event.Kind, at event.Time, info event.HoldInfo) event.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	info.Guest, info.Identity, info.Deadline = name(&d.guest), d.guest.Identity.String(), d.deadline
	info.Blockers, info.More, info.Disk = d.words()
	t := d.task
	return event.Event{At: at, Kind: kind, Src: Source, Hold: &info,
		Proc: &event.Proc{PID: t.PID, TID: other(t.TID, t.PID), PPID: t.PPID, UID: t.UID, Comm: t.Comm}}
}

func other(tid, pid int) int {
	if tid == pid {
		return 0
	}
	return tid
}

// words are what d waits for, as far as it is told, how many more there are, and
// the disk that comes first.
func (d *hold) words() (list []string, more int, disk string) {
	list, more = Words(d.blockers)
	for i := range d.blockers {
		disk = cmp.Or(disk, d.blockers[i].Path)
	}
	for i := range d.doubts {
		disk = cmp.Or(disk, d.doubts[i].Disk)
		if len(list) < maxWords {
			list = append(list, shorten(d.doubts[i].Text))
		} else {
			more++
		}
	}
	return list, more, disk
}

// One start can wait for thousands of disks, with paths of 4 KiB. What it may write
// to the log and to the journal, and have `bootrace status` print, is bounded: so
// many things that it waits for, of so many bytes each.
const (
	maxWords = 16
	maxText  = 512
)

// Words returns what a start waits for in words, the first of it, and how many more
// there are.
func Words(blockers []readiness.Blocker) (list []string, more int) {
	for i := range blockers[:min(len(blockers), maxWords)] {
		list = append(list, shorten(blockers[i].String()))
	}
	return list, len(blockers) - len(list)
}

// shorten cuts a text in its middle, where a path says least.
func shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	const half = (maxText - len("…")) / 2
	return strings.ToValidUTF8(text[:half], "") + "…" + strings.ToValidUTF8(text[len(text)-half:], "")
}

// sample is some of what is said of many things, for the journal.
func sample(list []string, more int) []string {
	const most = 4
	if n := len(list); n > most {
		list, more = slices.Clone(list[:most]), more+n-most
	}
	if more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return list
}

func name(g *guest.Guest) string { return cmp.Or(g.Name, g.Identity.Value, "without a name") }
