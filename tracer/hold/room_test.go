package hold

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// One user fills his share, all others together theirs, and root has the rest.
func TestRoom(t *testing.T) {
	for what, c := range map[string]struct{ one, all load }{
		"number": {load{starts: 1}, load{100, 1}},
		"memory": {load{memory: 10}, load{1, 1000}},
	} {
		t.Run(what, func(t *testing.T) { checkRoom(t, c.one, c.all) })
	}
}

func checkRoom(t *testing.T, one, capacity load) {
	r := room{of: map[uint32]load{}}
	fill := func(uid uint32) (n int) {
		for r.take(uid, one, capacity) {
			n++
		}
		return n
	}
	for _, want := range []struct {
		uid uint32
		n   int
	}{{1000, 25}, {1001, 25}, {1002, 25}, {1003, 0}, {0, 25}} {
		if n := fill(want.uid); n != want.n {
			t.Errorf("user %d has %d, want %d", want.uid, n, want.n)
		}
	}
	r.give(1000, one)
	if r.take(1001, one, capacity) || !r.take(1000, one, capacity) {
		t.Error("what one user gave back another one has")
	}
	for uid, n := range map[uint32]int{0: 25, 1000: 25, 1001: 25, 1002: 25} {
		for range n {
			r.give(uid, one)
		}
	}
	if len(r.of) > 0 || r.all != (load{}) || r.others != (load{}) {
		t.Errorf("when all is given back, there is %+v", r.of)
	}
}

// Who has all of his readers hang waits for them, and nobody else does; nor is
// anything kept of it when they come back.
func TestReaders(t *testing.T) {
	r := newReaders()
	hang := make(chan struct{})
	brief := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(t.Context(), 20*time.Millisecond)
	}
	for range readersOfUser + 2 {
		ctx, cancel := brief()
		if err := r.read(ctx, 1000, func() { <-hang }); err == nil {
			t.Error("who hangs is done")
		}
		cancel()
	}
	if n := r.hanging(); n != readersOfUser {
		t.Errorf("%d threads hang", n)
	}
	for _, uid := range []uint32{0, 1001} {
		done := false
		if err := r.read(t.Context(), uid, func() { done = true }); err != nil || !done {
			t.Errorf("user %d: %v", uid, err)
		}
	}
	close(hang)
	for range 2000 {
		r.mu.Lock()
		left := len(r.of) + r.hanged
		r.mu.Unlock()
		if left == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d users are remembered, %d hang", len(r.of), r.hanging())
}

// hangs is a way to read arguments that never comes back for some.
type hangs struct{ Arguments }

func (h hangs) Of(ctx context.Context, tid int) (*Task, error) {
	task, err := h.Arguments.Of(ctx, tid)
	if err == nil && strings.Contains(strings.Join(task.Args, " "), "hanging") {
		select {} // not even with ctx, as a page that does not answer
	}
	return task, err
}

// A start whose arguments never come goes on in the end, and that is recorded; a
// start beside it is held as ever.
func TestHangingArguments(t *testing.T) {
	h := openHost(t, nil)
	h.method.arguments, h.patience = hangs{h.method.arguments}, time.Second
	h.run()
	hanging := h.start("-name", "hanging", "-drive", "file=/dev/vg0/x,if=none")
	h.holdsUntilReady(h.guest("a", "-uuid", "3AAD3B6B-ddf8-474a-8906-06d83ef318cb"))
	if status := hanging.ends(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	h.settled()
	for range 2000 {
		if len(h.of(event.Loss)) > 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if lost := h.of(event.Loss); len(lost) != 1 || lost[0].Loss.What != "hold" || lost[0].Loss.Count != 1 || lost[0].Earliest() >= lost[0].At {
		t.Errorf("recorded: %+v", lost)
	}
	if c := h.Status().Counts; c.Hanging != 1 || c.Unread != 1 {
		t.Errorf("counts %+v", c)
	}
}

// What passes for lack of room is counted, and recorded once with its number.
func TestNoRoom(t *testing.T) {
	h := openHost(t, nil)
	for h.room.take(0, load{starts: 1}, load{h.gate.Capacity(), heldMemory}) {
		continue
	}
	h.run()
	for _, name := range []string{"a", "b", "c"} {
		if status := h.guest(name).ends(); status != 0 {
			t.Errorf("%s ended with %d", name, status)
		}
	}
	h.stop(nil)
	<-h.ended
	count := uint64(0)
	for _, e := range h.of(event.Loss) {
		count += e.Loss.Count
	}
	if c := h.Status().Counts; c.Unseen != 3 || count != 3 || len(h.of(event.Hold)) != 0 {
		t.Errorf("%d are recorded; counts %+v", count, c)
	}
}

// Who has a block of user ids for containers has the share of one user.
func TestNoRoomOfABlock(t *testing.T) {
	h := openHost(t, nil)
	for dir := filepath.Dir(h.program); dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for h.room.take(100000, load{starts: 1}, load{h.gate.Capacity(), heldMemory}) {
		continue
	}
	h.run()
	if status := h.startAs(100007, "-name", "a", "-drive", "file=/dev/vg0/a,if=none").ends(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	if c := h.Status().Counts; c.Unseen != 1 {
		t.Errorf("counts %+v", c)
	}
	other := h.startAs(165536, "-name", "b", "-drive", "file=/dev/vg0/b,if=none")
	h.held(1)
	h.disks.set("/dev/vg0/b", true)
	other.ends()
}

// dies are arguments of a task that is killed while they are read.
type dies struct{}

func (dies) Of(_ context.Context, tid int) (*Task, error) {
	if err := unix.Kill(tid, unix.SIGKILL); err != nil {
		return nil, err
	}
	for !ended(tid) {
		time.Sleep(time.Millisecond)
	}
	return nil, errors.New("there is nothing to read")
}

// A start that is killed before it is understood was not let go unseen.
func TestKilledUnread(t *testing.T) {
	h := openHost(t, nil)
	h.method.arguments = dies{}
	h.run()
	h.guest("a").ends()
	h.stop(nil)
	<-h.ended
	if c := h.Status().Counts; c.Unread != 0 || c.Unseen != 0 || c.Seen != 1 || len(h.of(event.Loss)) > 0 {
		t.Errorf("counts %+v, losses %+v", c, h.of(event.Loss))
	}
}

// A task of which the kernel gives no number may live.
func TestEnded(t *testing.T) {
	for tid, want := range map[int]bool{0: false, unix.Gettid(): false, 1 << 22: true} {
		if ended(tid) != want {
			t.Errorf("task %d has ended: %v", tid, !want)
		}
	}
}

// An event's age is that of the queue when it was last seen without it.
func TestQueueAge(t *testing.T) {
	var q queue
	left := func(n int) func() int { return func() int { return n } }
	if at := q.read(left(2), 100); at != 100 {
		t.Errorf("the one that woke: %d", at)
	}
	first := q.seen
	for range 2 { // behind it already when it was read
		if at := q.read(left(0), 100); at != 100 {
			t.Errorf("one of the same time: %d", at)
		}
	}
	if at := q.read(left(0), 100); at != first {
		t.Errorf("one that came since: %d, want %d", at, first)
	}
}

// A deadline counts from the start itself, however late its turn comes.
func TestDeadlineFromTheQuestion(t *testing.T) {
	h := openHost(t, nil)
	c := *h.cfg.Load()
	c.Deadline = 2 * time.Second
	h.cfg.Store(&c)
	begin := event.Now()
	late := h.guest("late")
	time.Sleep(time.Second) // nobody looks at starts meanwhile
	h.run()
	late.ends()
	h.settled()
	e := h.of(event.Release)
	if len(e) != 1 || e[0].Hold.Reason != event.ReleaseDeadline {
		t.Fatalf("releases %+v", e)
	}
	if asked := e[0].Hold.Deadline.Add(-2 * time.Second); asked < begin || asked.Sub(begin) > 900*time.Millisecond {
		t.Errorf("the deadline counts from %s after the start", asked.Sub(begin))
	}
}
