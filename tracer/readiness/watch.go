package readiness

import (
	"context"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/view"
)

// Watch follows the disks of one request. Each has a goroutine of its own, so
// that none waits for another's storage.
type Watch struct {
	t       *Tracker
	request Request
	files   files
	dirty   chan struct{} // something may have changed
	changed chan struct{}
	cancel  context.CancelFunc
	keys    map[key]struct{} // guarded by t.mu

	mu      sync.Mutex
	verdict Verdict
}

// Watch begins to follow the disks of r. The first look is under way when it
// returns; Close must be called.
func (t *Tracker) Watch(r Request) (*Watch, error) {
	v, err := view.Of(r.PID)
	if err != nil {
		return nil, err
	}
	return t.watch(r, seen{v, r.PID}), nil
}

func (t *Tracker) watch(r Request, f files) *Watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watch{
		t: t, request: r, files: f, cancel: cancel,
		dirty: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
	t.count(1)
	go w.run(ctx)
	return w
}

// Close ends the watch. It does not wait for a look that is under way.
func (w *Watch) Close() { w.cancel() }

// Verdict returns the latest verdict; its At is 0 before the first look is
// done.
func (w *Watch) Verdict() Verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.verdict
}

// Changed receives when the verdict has changed since it last received. One
// goroutine may use it, and not together with Wait.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Wait returns once the disks are ready. Where ctx is done before, it returns
// ctx's error with the latest verdict.
func (w *Watch) Wait(ctx context.Context) (Verdict, error) {
	for {
		if v := w.Verdict(); v.Ready {
			return v, nil
		}
		select {
		case <-w.changed:
		case <-ctx.Done():
			return w.Verdict(), ctx.Err()
		}
	}
}

func (w *Watch) poke() {
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

func (w *Watch) run(ctx context.Context) {
	defer w.end()
	recheck := time.NewTimer(0)
	defer recheck.Stop()
	for {
		silent := w.look(ctx)
		recheck.Reset(w.t.pause(silent))
		select {
		case <-ctx.Done():
			return
		case <-w.dirty:
		case <-recheck.C:
		}
	}
}

func (w *Watch) end() {
	w.t.index(w, nil)
	w.t.count(-1)
	if err := w.files.Close(); err != nil {
		w.t.log.Debug("a root directory is not closed", "error", err)
	}
}

// look finds out and publishes. What it depends on is known only after it, so
// it looks again until nothing was added: a change in between would have woken
// nobody. silent is set where a change may wake nobody in any case.
func (w *Watch) look(ctx context.Context) (silent bool) {
	done := w.t.turns.take(ctx, w.request.Owner)
	if done == nil {
		return false
	}
	defer done()
	for ctx.Err() == nil {
		l := w.t.newLook(ctx, &w.request, w.files)
		v := l.take(&w.request)
		if grown := w.t.index(w, l.keys); v.Ready || !grown {
			w.publish(v)
			return l.silent
		}
	}
	return false
}

func (w *Watch) publish(v Verdict) {
	w.mu.Lock()
	same := w.verdict.At != 0 && w.verdict.same(&v)
	w.verdict = v
	w.mu.Unlock()
	if same {
		return
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
