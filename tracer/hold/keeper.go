package hold

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/proc"
)

// Limits of what counts as progress.
const (
	// stuckAfter is how long an exec may wait for the reader, and a hold beyond
	// its deadline.
	stuckAfter = 8 * time.Second
	// sweptWithin is how old the last look at all holds may be.
	sweptWithin = 8 * time.Second
	// seldom is how many times the period of looking at all holds the gate is
	// asked for starts that wait, where nothing happens.
	seldom = 4
)

// sweep looks at all holds from time to time: for what should not have to be looked
// for, and for guests that were killed while they waited and of whom the kernel does
// not tell it. It returns an error where the reader is stuck.
func (h *Holder) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepPeriod)
	defer tick.Stop()
	r := reader{since: event.Now()}
	var g garbage
	for n := 0; ; n++ {
		now, held := event.Now(), h.list()
		h.swept.Store(int64(now))
		for _, d := range held {
			h.sweepOne(d, now, n%lookAll == 0)
		}
		h.forget()
		if n%int(missedPeriod/sweepPeriod) == 0 {
			h.missed.record(h.opts.Record, h.opts.Log, now, false)
			h.journal.tell(now)
		}
		quiet := len(held) == 0 && h.progress.Load() == r.seen
		if quiet {
			g.collect()
		}
		// To ask the gate wakes its thread.
		if (!quiet || n%seldom == 0) && r.stuck(h.progress.Load(), h.gate.Waiting(), now) {
			return fmt.Errorf("starts wait, and nobody has looked at them for %s", stuckAfter)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweepOne looks at one hold. Its task is looked at where its death would not be
// told, or with all set.
func (h *Holder) sweepOne(d *hold, now event.Time, all bool) {
	d.mu.Lock()
	task, overdue := d.task, d.overdue(now)
	d.mu.Unlock()
	switch {
	case overdue:
		h.finish(d, d.allow.Load(), event.ReleaseDeadline)
	case task == nil || h.deaths.tells(d) && !all:
	case !h.alive(task) || h.method.Longest > 0 && h.method.killed(task):
		h.killed(d)
	}
}

// overdue reports whether the clock of d should have answered long ago.
func (d *hold) overdue(now event.Time) bool {
	end := d.since.Add(readLimit)
	if d.deadline != 0 {
		end = d.deadline
	}
	return now > end.Add(stuckAfter)
}

// killed reports whether a task has been killed, and ends as soon as it is let go. Only
// where the wait of a held task can't be killed does that last.
func killed(t *Task) bool {
	status, err := proc.ReadStatus(fmt.Sprintf("/proc/%d/task/%d", t.PID, t.TID))
	return err == nil && status.Killed
}

// alive reports whether the task that is held still exists.
func alive(t *Task) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", t.PID, t.TID))
	return !errors.Is(err, os.ErrNotExist)
}

// reader watches the progress of Holder.read.
type reader struct {
	seen  uint64
	since event.Time // when there last was progress, or nothing to do
}

func (r *reader) stuck(progress uint64, waiting bool, now event.Time) bool {
	if progress != r.seen || !waiting {
		r.seen, r.since = progress, now
	}
	return now.Sub(r.since) > stuckAfter
}

// Healthy returns an error where holds are not being looked after. Whoever
// watches over the process must end it then: that lets all starts go on.
func (h *Holder) Healthy() error {
	if h.over.Load() {
		return nil // nothing is held, whatever the end still waits for
	}
	now := event.Now()
	if swept := event.Time(h.swept.Load()); swept != 0 && now.Sub(swept) > sweptWithin {
		return fmt.Errorf("holds were last looked at %s ago", now.Sub(swept).Round(time.Second))
	}
	return nil
}

// process names a process for good: its id alone is used again.
type process struct {
	pid   int
	start uint64
}

// A start whose hold ended with its disks not ready, at its deadline or by hand, is
// not held a second time. It can meet a guarded program twice: a launcher may
// execute a script called kvm, which then executes qemu in its own process, or
// forks, and its child does. The process is the same start for good; a descendant
// of it is where it brings up the same guest on the same disks. A launcher that was
// let go never starts another guest unheld, nor does the next try of the same
// launcher.

// letGoFor bounds how long that is remembered.
const letGoFor = time.Hour

// maxAncestors is how far up a start looks for the one that it is a part of.
const maxAncestors = 8

// letGo is a start that was let go.
type letGo struct {
	at event.Time
	// guest is whose it was: its identity and its disks.
	guest string
}

// sameGuest names a guest by what its start is about.
func sameGuest(g *guest.Guest) string {
	key := []string{g.Identity.String()}
	for i := range g.Disks {
		for image := range g.Disks[i].Images() {
			key = append(key, image.Path)
		}
	}
	return strings.Join(key, "\x00")
}

func (h *Holder) noteLetGo(t *Task, g *guest.Guest) {
	if t == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.letGo[process{t.PID, t.Start}] = letGo{event.Now(), sameGuest(g)}
}

// wasLetGo reports whether a start is part of one that was let go before. That may
// execute the next program before its first hold is accounted for.
func (h *Holder) wasLetGo(t *Task, g *guest.Guest) bool {
	if _, ok := h.letGoOf(process{t.PID, t.Start}); ok {
		return true
	}
	guest := sameGuest(g)
	for pid, n := t.PPID, 0; pid > 1 && n < maxAncestors; n++ {
		stat, err := proc.ReadStat(proc.Dir("/", pid))
		if err != nil {
			return false
		}
		if of, ok := h.letGoOf(process{pid, stat.Start}); ok && of == guest {
			h.noteLetGo(t, g)
			return true
		}
		pid = stat.PPID
	}
	return false
}

// letGoOf returns the guest whose start a process was, where that was let go.
func (h *Holder) letGoOf(p process) (guest string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l, ok := h.letGo[p]; ok {
		return l.guest, true
	}
	for d := range h.running {
		if guest, ok := d.freed(p); ok {
			return guest, true
		}
	}
	return "", false
}

// LetGo has the next start of a guest go on that was kept back until its deadline by
// somebody else: by libvirt's hook, before there is a process. Where the policy wants
// to know its disks, it is held all the same.
func (h *Holder) LetGo(uuid string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waited[strings.ToLower(uuid)] = event.Now()
}

// hasWaited reports whether LetGo is about this start, once.
func (h *Holder) hasWaited(g *guest.Guest, t *Task) bool {
	uuid := strings.ToLower(g.UUID)
	h.mu.Lock()
	_, ok := h.waited[uuid]
	delete(h.waited, uuid)
	h.mu.Unlock()
	if ok {
		h.noteLetGo(t, g) // what it executes next is the same start
	}
	return ok
}

// freed reports whether d was a hold of that process, and let go with its disks not
// ready.
func (d *hold) freed(p process) (guest string, ok bool) {
	if !d.free.Load() {
		return "", false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.recorded || d.task.PID != p.pid || d.task.Start != p.start {
		return "", false
	}
	return sameGuest(&d.guest), true
}

// forget drops what is remembered of starts that are long over.
func (h *Holder) forget() {
	now := event.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	over := func(at event.Time) bool { return now.Sub(at) > letGoFor }
	maps.DeleteFunc(h.letGo, func(_ process, l letGo) bool { return over(l.at) })
	maps.DeleteFunc(h.waited, func(_ string, at event.Time) bool { return over(at) })
}
