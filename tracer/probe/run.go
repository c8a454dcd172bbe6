package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/bootrace/bootrace/tracer/event"
)

// run is the state of one call of Run.
type run struct {
	*eBPF
	emit   func(event.Event)
	losses map[loss]*lossReport
	polled event.Time
	next   time.Time // of the next poll
}

// Run implements Backend. One goroutine reads the ring, looks after losses and
// calls emit; Flush is what wakes it, and what makes it see the ring's end.
func (b *eBPF) Run(ctx context.Context, emit func(event.Event)) error {
	stop := context.AfterFunc(ctx, func() {
		if err := b.reader.Flush(); err != nil && !errors.Is(err, os.ErrClosed) {
			b.log.Error("stop reading the ring buffer", "err", err)
		}
	})
	defer stop()
	b.mu.Lock()
	first := b.sourceEvent("attached", b.attached, b.began)
	b.mu.Unlock()
	emit(first)
	r := &run{eBPF: b, emit: emit, polled: b.attached, losses: map[loss]*lossReport{}}
	r.schedule()
	return r.loop(ctx)
}

func (r *run) loop(ctx context.Context) error {
	var record ringbuf.Record
	for {
		err := r.reader.ReadInto(&record)
		switch {
		case err == nil:
			r.deliver(record.RawSample)
		case errors.Is(err, ringbuf.ErrFlushed) && ctx.Err() != nil:
			r.finish()
			return nil //nolint:nilerr // asked to end, and nothing is left in the ring
		case errors.Is(err, ringbuf.ErrFlushed), errors.Is(err, os.ErrDeadlineExceeded):
			r.deliverUpgraded()
		default:
			return fmt.Errorf("read ring buffer: %w", err)
		}
		if !time.Now().Before(r.next) {
			r.pollLosses(false)
			r.followModule()
			r.schedule()
		}
	}
}

func (r *run) schedule() {
	r.next = time.Now().Add(r.interval)
	r.reader.SetDeadline(r.next)
}

func (r *run) deliver(sample []byte) {
	e, ok, err := r.decoder.decode(sample)
	if err != nil {
		// Kernel side and user side are of one build: our own bug.
		r.log.Error("decode probe record", "err", err)
		r.lost(loss{what: "record"}, r.polled, 1, "a record could not be decoded: "+err.Error())
		return
	}
	if ok {
		r.emit(e)
	}
}

func (r *run) deliverUpgraded() {
	for _, e := range r.takeUpgraded() {
		r.emit(e)
	}
}

// finish delivers what is left once the ring is empty.
func (r *run) finish() {
	r.deliverUpgraded()
	r.pollLosses(true)
	r.mu.Lock()
	last := r.sourceEvent("ended", event.Now(), 0)
	r.mu.Unlock()
	r.emit(last)
}

// lossReport is what was reported of a loss.
type lossReport struct {
	count uint64
	until event.Time     // nothing is reported before
	pause event.Duration // the last
	seen  event.Time     // it was no more than count then
}

// maxPause is the longest pause between two reports of what one user has lost.
// Each is an event of its own, and whoever floods the record must not do it with these.
const maxPause = time.Minute

// pollLosses reports what was lost since the last poll; of one user's with growing
// pauses, unless it is the last time.
func (r *run) pollLosses(last bool) {
	losses, err := r.countLosses()
	if err != nil {
		r.log.Warn("count lost events", "err", err)
		return
	}
	now := event.Now()
	for _, l := range slices.SortedFunc(maps.Keys(losses), compareLosses) {
		told := r.losses[l]
		if told == nil {
			told = &lossReport{seen: r.polled}
			r.losses[l] = told
		}
		n := losses[l] - told.count
		switch {
		case n == 0:
			told.seen = now
			if now >= told.until {
				told.pause = 0
			}
		case l.uid != 0 && now < told.until && !last:
		default:
			why := "a buffer was full, the probe already ran on that CPU, or somebody else attached to the same function"
			if l.uid != 0 {
				why = fmt.Sprintf("user %d had used up the share of one user", l.uid)
				told.pause = min(max(2*told.pause, r.interval), maxPause)
				told.until = now.Add(told.pause)
			}
			r.lost(l, told.seen, n, why)
			told.count, told.seen = losses[l], now
		}
	}
	r.polled = now
}

func compareLosses(a, b loss) int {
	return cmp.Or(cmp.Compare(a.what, b.what), cmp.Compare(a.uid, b.uid))
}

func (r *run) lost(l loss, from event.Time, n uint64, why string) {
	r.emit(event.Event{
		At:   event.Now(),
		From: from,
		Kind: event.Loss,
		Src:  srcEBPF,
		Loss: &event.LossInfo{Source: srcEBPF, What: l.what, Count: n, Why: why, UID: l.uid},
	})
}
