package readiness

import (
	"context"
	"slices"
	"sync"
	"time"
)

// One user's guests must not keep another's waiting: thousands of starts with
// hundreds of disks each are looked at beside one with a single disk. So the users
// have their turns one after the other, and each only so many looks at a time.
const (
	looksOfUser = 16
	looksOfRoot = 64 // as which a host's own launchers run
	// slowLook is how long a look takes that waits for storage, and not for a
	// processor: it gives its turn away, and goes on beside the others.
	slowLook = time.Second
	// slowLooks is how many of these one user can have: each takes a thread.
	slowLooks = maxLooks / 2
)

// turns decides who looks next.
type turns struct {
	mu    sync.Mutex
	users map[uint32]*user
	// order has the users that wait, the one whose turn it is first.
	order []uint32
	total int // looks under way, slow ones too
}

type user struct {
	waiting       []chan struct{}
	running, slow int
}

func (u *user) may(uid uint32) bool {
	limit := looksOfUser
	if uid == 0 {
		limit = looksOfRoot
	}
	return len(u.waiting) > 0 && u.running < limit && u.slow < slowLooks
}

// take waits for a turn of the user's, and returns what ends it. It is nil where
// ctx ended before.
func (t *turns) take(ctx context.Context, uid uint32) (done func()) {
	t.mu.Lock()
	if t.users == nil {
		t.users = map[uint32]*user{}
	}
	u := t.users[uid]
	if u == nil {
		u = &user{}
		t.users[uid] = u
	}
	turn := make(chan struct{})
	u.waiting = append(u.waiting, turn)
	if len(u.waiting) == 1 {
		t.order = append(t.order, uid)
	}
	t.grant()
	t.mu.Unlock()
	select {
	case <-turn:
	case <-ctx.Done():
		if t.withdraw(uid, turn) {
			return nil
		}
	}
	return t.under(uid)
}

// under returns what ends a look that has begun.
func (t *turns) under(uid uint32) (done func()) {
	slow := false
	late := time.AfterFunc(slowLook, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if u := t.users[uid]; u != nil && !slow {
			slow = true
			u.running--
			u.slow++
			t.grant()
		}
	})
	return func() {
		late.Stop()
		t.mu.Lock()
		defer t.mu.Unlock()
		u := t.users[uid]
		if slow {
			u.slow--
		} else {
			slow = true // a late call of the timer changes nothing
			u.running--
		}
		t.total--
		t.grant()
		if u.running+u.slow+len(u.waiting) == 0 {
			delete(t.users, uid)
		}
	}
}

// withdraw takes back a wish for a turn. It reports whether there was none yet.
func (t *turns) withdraw(uid uint32, turn chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.users[uid]
	if u == nil {
		return false
	}
	i := slices.Index(u.waiting, turn)
	if i < 0 {
		return false // it has just been given
	}
	u.waiting = slices.Delete(u.waiting, i, i+1)
	if len(u.waiting) == 0 {
		t.order = slices.DeleteFunc(t.order, func(of uint32) bool { return of == uid })
		if u.running+u.slow == 0 {
			delete(t.users, uid)
		}
	}
	return true
}

// grant gives turns to the users in their order, one each, while there are any. The
// lock is held.
func (t *turns) grant() {
	for t.total < maxLooks {
		i := slices.IndexFunc(t.order, func(uid uint32) bool { return t.users[uid].may(uid) })
		if i < 0 {
			return
		}
		uid := t.order[i]
		u := t.users[uid]
		close(u.waiting[0])
		u.waiting = u.waiting[1:]
		u.running++
		t.total++
		t.order = slices.Delete(t.order, i, i+1)
		if len(u.waiting) > 0 {
			t.order = append(t.order, uid)
		}
	}
}
