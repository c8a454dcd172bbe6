package tracefs

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/probe/procs"
)

// tick is how long records wait in the kernel. Waking up for each of them would
// cost more than they do.
const tick = 25 * time.Millisecond

// slack is how long a record is held back, so that one that another processor,
// or the proc connector, tells a little later still comes in its place.
const slack = 2 * time.Millisecond

// hit is one record, or one process event, in the order of time.
type hit struct {
	at    event.Time
	tid   int
	event string // name of the trace event, empty for a process event
	proc  procEvent

	path, from, name, uuid, new string
	nr, flags, cookie, start    uint32
	mode                        uint32
	rdev                        uint32
	dev                         uint64
	size, ret                   int64
}

// Run implements probe.Backend.
func (t *Backend) Run(ctx context.Context, emit func(event.Event)) error {
	runtime.LockOSThread() // the clock's anchors are told by their thread
	defer runtime.UnlockOSThread()
	failed := true // unless it returns without an error: it may panic, too
	defer func() {
		if failed {
			t.giveUp()
		}
	}()
	t.mu.Lock()
	first := t.status.Event(backend.Attached, t.attached, t.began)
	t.mu.Unlock()
	emit(first)
	r := &run{Backend: t, emit: emit, losses: backend.Losses{
		Source: Name, Interval: t.interval, Polled: t.attached, Since: t.calls.takeMissedFrom,
		Why: "a buffer was full, or too many calls were under way",
	}}
	err := r.loop(ctx)
	failed = err != nil
	return err
}

// giveUp closes what nobody reads any more: process events would pile up, and
// the probes would slow down the host for nothing.
func (t *Backend) giveUp() {
	if err := t.Close(); err != nil {
		t.log.Warn("detach the probes", "err", err)
	}
}

// run is the state of one call of Run.
type run struct {
	*Backend
	emit     func(event.Event)
	waiting  []hit
	losses   backend.Losses
	restored time.Time // when the probes were last attached again
	hidden   time.Time // since when the trace files are out of sight; zero: they are not
}

// restoreEvery bounds what it costs where somebody turns the probes off all the
// time: to attach them takes many times longer than to look after them.
const restoreEvery = 10 * time.Second

// Whoever resets the trace files removes one probe after the other, and can find
// those that have just come back.
const (
	restoreTries = 5
	restorePause = 300 * time.Millisecond
)

// hiddenLimit is how long a switch of root may take: before it goes to the real
// root it deletes the initramfs.
const hiddenLimit = time.Minute

func (r *run) loop(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for next := time.Now().Add(r.interval); ; {
		ended := ctx.Err() != nil
		if r.findRoot != nil && !procInSight() {
			r.findRoot()
		}
		now := event.Now()
		hits, err := r.cycle()
		if err != nil {
			return err
		}
		r.deliver(hits, now, ended)
		for _, e := range r.takeUpgraded() {
			r.emit(e)
		}
		if ended || !time.Now().Before(next) {
			if err := r.lookAfter(ctx); err != nil {
				return err
			}
			next = time.Now().Add(r.interval)
		}
		if ended {
			r.mu.Lock()
			last := r.status.Event(backend.Ended, event.Now(), 0)
			r.mu.Unlock()
			r.emit(last)
			return nil
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// deliver handles what is old enough that nothing older can come.
func (r *run) deliver(hits []hit, now event.Time, all bool) {
	r.waiting = append(r.waiting, hits...)
	slices.SortStableFunc(r.waiting, func(a, b hit) int { return cmp.Compare(a.at, b.at) })
	until := now.Add(-slack)
	n := 0
	r.calls.mu.Lock()
	defer r.calls.mu.Unlock()
	r.calls.tasks.Uncertain = r.clock.error(now)
	for ; n < len(r.waiting) && (all || r.waiting[n].at <= until); n++ {
		for _, e := range r.calls.handle(&r.waiting[n]) {
			r.emit(e)
		}
	}
	r.waiting = slices.Delete(r.waiting, 0, n)
}

func (t *Backend) takeUpgraded() []event.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status.Take()
}

// cycle reads all that is there.
func (t *Backend) cycle() ([]hit, error) {
	var before, after event.Time
	var err error
	due := t.clock.due(event.Now())
	if due {
		if before, after, err = t.clock.open(); err != nil {
			// /dev is out of sight during a switch of root.
			t.log.Debug("tie the trace clock to boottime", "err", err)
			due = false
		}
	}
	t.receive()
	self := unix.Gettid()
	var hits []hit
	var raw []uint64
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, fmt.Errorf("read trace: %w", backend.ErrClosed)
	}
	missed, err := t.trace.Read(func(rec *ftrace.Record) {
		h := readHit(rec)
		if due && h.tid == self && h.event == evOpen && h.path == anchorPath {
			t.clock.tie(rec.Time, before, after)
			due = false
		}
		hits, raw = append(hits, h), append(raw, rec.Time)
	})
	if err != nil {
		return nil, err
	}
	t.damaged += missed
	for i := range hits {
		hits[i].at = t.clock.tell(raw[i])
	}
	queue := t.takeQueue()
	t.calls.remember(queue)
	for _, e := range queue {
		h := hit{at: e.At, tid: e.TID, proc: e}
		if e.Kind == procs.Exit { // a thread's last call comes before its end, however far off the trace clock is
			h.at = h.at.Add(t.clock.error(h.at))
		}
		hits = append(hits, h)
	}
	return hits, nil
}

func (t *Backend) takeQueue() []procEvent {
	t.queueMu.Lock()
	defer t.queueMu.Unlock()
	queue := t.queue
	t.queue = nil
	return queue
}

func readHit(r *ftrace.Record) hit {
	text := func(name string) string {
		s, ok := r.String(name)
		if !ok {
			return ""
		}
		return strings.Clone(s)
	}
	h := hit{
		tid: r.TID, event: r.Format.Name,
		path: text("path"), from: text("from"), name: text("name"), uuid: text("uuid"), new: text("new"),
		nr: uint32(r.Uint("nr")), flags: uint32(r.Uint("flags")), cookie: uint32(r.Uint("cookie")), start: uint32(r.Uint("start")),
		mode: uint32(r.Uint("mode")), rdev: uint32(r.Uint("rdev")), dev: r.Uint("dev"),
		size: r.Int("size"), ret: r.Int("ret"),
	}
	if h.event == evExec {
		h.path = text("filename")
	}
	return h
}

// lookAfter reports what was lost since it last looked, and sees to it that the
// probes are there.
func (r *run) lookAfter(ctx context.Context) error {
	looked, polled := event.Now(), r.losses.Polled
	r.pollLosses(looked)
	return r.restore(ctx, polled)
}

// pollLosses reports what was lost, if that can be counted.
func (r *run) pollLosses(now event.Time) {
	losses, err := r.countLosses()
	if err != nil {
		r.log.Warn("count lost events", "err", err)
		return
	}
	counts := map[backend.Loss]uint64{}
	for what, n := range losses {
		counts[backend.Loss{What: what}] = n
	}
	for _, e := range r.losses.Poll(now, counts, false) {
		r.emit(e)
	}
}

func (t *Backend) intact() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trace.Intact()
}

// outOfSight reports whether the trace files are elsewhere, and may come back:
// during a switch of root they have gone to the real root, where FindRoot follows
// them once process 1 is there. What is closed meanwhile stays in the kernel; what
// is not goes on telling.
func (r *run) outOfSight() bool {
	if procInSight() && r.dir.Has("tracing_on") {
		r.hidden = time.Time{}
		return false
	}
	if r.hidden.IsZero() {
		r.hidden = time.Now()
	}
	if r.findRoot != nil {
		r.findRoot()
	}
	return time.Since(r.hidden) < hiddenLimit
}

// insist attaches everything anew, and tries a few times.
func (r *run) insist(ctx context.Context) (err error) {
	for range restoreTries {
		if r.outOfSight() {
			return nil // the next look goes on with it
		}
		if err = r.reattach(ctx); err == nil {
			return nil
		}
		r.log.Debug("the probes can't be attached again yet", "err", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(restorePause):
		}
	}
	return err
}

// restore attaches the probes anew where somebody has removed them or turned
// them off: who resets the trace files, as "trace-cmd reset" does, takes all
// events for his own. What happened since the last look, at polled, is lost.
func (r *run) restore(ctx context.Context, polled event.Time) error {
	if r.outOfSight() {
		return nil
	}
	gone := r.intact()
	if gone == nil || r.outOfSight() {
		return nil
	}
	var err error
	if ctx.Err() == nil && time.Since(r.restored) >= restoreEvery {
		r.restored = time.Now()
		r.log.Warn("somebody has turned the probes off, they are attached again", "err", gone)
		err = r.insist(ctx)
	}
	r.emit(backend.Loss{What: lossAll}.Event(Name, polled, event.Now(), 0, "somebody else who uses the trace files had turned the probes off"))
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("attach probes again: %w", err)
	}
	return nil
}
