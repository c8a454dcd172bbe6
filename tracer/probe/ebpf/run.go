package ebpf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
)

// run is the state of one call of Run.
type run struct {
	*Backend
	emit   func(event.Event)
	losses backend.Losses
	next   time.Time // of the next poll of losses
}

// Run implements Backend. One goroutine reads the ring, looks after losses and
// calls emit; Flush is what wakes it, and what makes it see the ring's end.
func (b *Backend) Run(ctx context.Context, emit func(event.Event)) error {
	stop := context.AfterFunc(ctx, func() {
		if err := b.reader.Flush(); err != nil && !errors.Is(err, os.ErrClosed) {
			b.log.Error("stop reading the ring buffer", "err", err)
		}
	})
	defer stop()
	b.mu.Lock()
	first := b.status.Event(backend.Attached, b.attached, b.began)
	b.mu.Unlock()
	emit(first)
	r := &run{Backend: b, emit: emit, losses: backend.Losses{
		Source: Name, Interval: b.interval, Polled: b.attached,
		Why: "a buffer was full, the probe already ran on that CPU, or somebody else attached to the same function",
	}}
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
		r.emit(backend.Loss{What: "record"}.Event(Name, r.losses.Polled, event.Now(), 1, "a record could not be decoded: "+err.Error()))
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
	last := r.status.Event(backend.Ended, event.Now(), 0)
	r.mu.Unlock()
	r.emit(last)
}

// pollLosses reports what was lost since the last poll.
func (r *run) pollLosses(last bool) {
	now := event.Now()
	counts, err := r.countLosses()
	if err != nil {
		r.log.Warn("count lost events", "err", err)
		return
	}
	for _, e := range r.losses.Poll(now, counts, last) {
		r.emit(e)
	}
}
