package readiness

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// hasTurn reports whether a look of that user has its turn at once.
func (t *turns) hasTurn(uid uint32) (done func()) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return t.take(ctx, uid)
}

// However many looks one user waits for, another one's is the next.
func TestTurns(t *testing.T) {
	var all turns
	ctx, cancel := context.WithCancel(t.Context())
	var ends []func()
	for range looksOfUser {
		ends = append(ends, all.take(t.Context(), 1000))
	}
	var waiting atomic.Int64
	ended := make(chan struct{})
	const wishes = 3000
	for range wishes {
		go func() {
			waiting.Add(1)
			if done := all.take(ctx, 1000); done != nil {
				done()
			}
			ended <- struct{}{}
		}()
	}
	for waiting.Load() < wishes {
		time.Sleep(time.Millisecond)
	}
	for _, uid := range []uint32{0, 1001} {
		done := all.hasTurn(uid)
		if done == nil {
			t.Fatalf("user %d waits for another", uid)
		}
		done()
	}
	cancel()
	for range wishes {
		<-ended
	}
	for _, done := range ends {
		done()
	}
	if len(all.users) != 0 || len(all.order) != 0 || all.total != 0 {
		t.Errorf("%d users, %d in line, %d looks are left", len(all.users), len(all.order), all.total)
	}
}

// A look that waits for storage keeps no other look of its user waiting.
func TestSlowLook(t *testing.T) {
	var all turns
	var ends []func()
	for range looksOfUser {
		ends = append(ends, all.take(t.Context(), 1000))
	}
	if all.hasTurn(1000) != nil {
		t.Fatal("there is no bound")
	}
	if done := all.take(t.Context(), 1000); done == nil { // after slowLook
		t.Fatal("slow looks are waited for")
	} else {
		done()
	}
	for _, done := range ends {
		done()
	}
	if len(all.users) != 0 || all.total != 0 {
		t.Errorf("%d users, %d looks are left", len(all.users), all.total)
	}
}
