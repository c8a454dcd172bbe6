package hold

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// thread is a thread with a table of descriptors of its own, in which there is
// one that the rest of this process does not have.
//
// A process that is killed is gone when the last of its threads is, and what its
// threads share is closed only then. One that waits for a disk that is dead, in
// an fsync of the log, say, does not go: starts that are held would stay held for
// as long as the disk takes, although nobody is there to answer. What a thread
// has for itself is closed when this one thread ends, and it never waits for a
// disk. Nor has anybody else to end first: not the memory of the process, not its
// probes in the kernel.
type thread struct {
	mu       sync.Mutex
	wake     int // an eventfd, in both tables: there are requests
	requests []request
	closed   bool

	ended chan struct{} // closed when the descriptor is
	err   error         // why it ended, valid from then on
}

// request is something to be done with the descriptor.
type request struct {
	do   func(fd int)
	done chan struct{}
}

// taker is given what was read from the descriptor, and since when there has always
// been something to read.
type taker func(fd int, idle event.Time, data []byte) error

// newThread starts a thread that calls open, and then take with what can be read,
// up to size bytes at a time, while there is room. The descriptor must not block.
func newThread(open func() (int, error), size int, room func() bool, take taker) (*thread, error) {
	if err := startPoller(); err != nil {
		return nil, fmt.Errorf("start a thread: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("start a thread: %w", err)
	}
	t := &thread{wake: wake, ended: make(chan struct{})}
	opened := make(chan error)
	onThread(func() {
		letOthersFinish()
		defer urgency.join()()
		fd, err := separately(open)
		opened <- err
		if err == nil {
			err = t.serve(fd, make([]byte, size), room, take)
			t.end(errors.Join(err, unix.Close(fd)))
		}
	})
	if err := <-opened; err != nil {
		return nil, errors.Join(err, unix.Close(wake))
	}
	go func() { // the thread's own copy goes with the thread
		<-t.ended
		unix.Close(wake)
	}()
	return t, nil
}

// letOthersFinish has this thread, when it is woken, wait for the end of the turn
// of whoever runs (SCHED_BATCH), for one tick of the kernel's clock at the most.
// It is woken by a start that is about to wait. Put aside before it does, on a
// host with a single processor that start queues up behind all others, and until
// it has come to rest nothing can be read of it: 20 ms on a host that boots. Where
// this can't be had (before Linux 3.14), nothing else is lost.
func letOthersFinish() {
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_BATCH, Nice: int32(niceNow())}, 0)
}

// onThread calls f on a thread that ends with it. Go starts no thread from one
// that is locked, so none inherits its table. It is not the first one of the
// process, which can't end, and whose descriptors /proc/self/fd has.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		defer runtime.UnlockOSThread()
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			f()
		}()
		<-locked
	}()
}

// startPoller has Go's runtime make its descriptors, if it has none yet, so that
// the thread gets them, too.
func startPoller() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	return errors.Join(r.Close(), w.Close())
}

// separately calls open with a table of descriptors that is this thread's own.
func separately(open func() (int, error)) (int, error) {
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return -1, &UnsupportedError{"a thread can't have descriptors of its own", err}
	}
	if err := closeOthers(); err != nil {
		return -1, fmt.Errorf("close what is another thread's: %w", err)
	}
	return open()
}

// closeOthers closes in the table of this thread what it has no business with:
// what is closed elsewhere must be closed. Go's runtime needs its poller on any
// thread, an epoll and an eventfd, and requests come by an eventfd, too; whose they
// are can't be told.
func closeOthers() error {
	own := fmt.Sprintf("/proc/self/task/%d/fd/", unix.Gettid())
	list, err := os.ReadDir(own)
	if err != nil {
		return err
	}
	for _, entry := range list {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= 2 {
			continue
		}
		switch what, _ := os.Readlink(own + entry.Name()); what {
		case "anon_inode:[eventpoll]", "anon_inode:[eventfd]":
		default:
			unix.Close(fd) // the list's own is closed already
		}
	}
	return nil
}

// crowded is how long is waited where there is no room for what there is to read.
const crowded = time.Millisecond

// serve does what is asked for until the thread is closed.
func (t *thread) serve(fd int, buf []byte, room func() bool, take taker) error {
	idle := event.Now()
	for {
		if closed := t.answer(fd); closed {
			return os.ErrClosed
		}
		if !room() {
			time.Sleep(crowded)
			continue
		}
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(t.wake), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, 0)
		if n == 0 && err == nil {
			_, err = unix.Poll(ready, -1)
			idle = event.Now() // what woke this thread came just now
		}
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		if ready[0].Revents == 0 {
			continue // there are requests
		}
		n, err = unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		if err := take(fd, idle, buf[:n]); err != nil {
			return err
		}
	}
}

// answer does what is asked for. It reports whether that is to end.
func (t *thread) answer(fd int) (closed bool) {
	t.mu.Lock()
	requests := t.requests
	t.requests, closed = nil, t.closed
	_, _ = unix.Read(t.wake, make([]byte, 8)) // the next request sets it again
	t.mu.Unlock()
	for _, r := range requests {
		if !closed {
			r.do(fd)
		}
		close(r.done)
	}
	return closed
}

// do has the thread call f with the descriptor, and returns when it has. The
// error is os.ErrClosed where there is none any more.
func (t *thread) do(f func(fd int)) error {
	called := false
	r := request{func(fd int) { called = true; f(fd) }, make(chan struct{})}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return os.ErrClosed
	}
	t.requests = append(t.requests, r)
	t.rouse()
	t.mu.Unlock()
	yield()
	<-r.done
	if !called {
		return os.ErrClosed
	}
	return nil
}

// yield lets the thread run that was roused. It waits for the end of the caller's turn
// (see letOthersFinish), in which, on a host with a single processor, Go would go on
// with other work: a tick of the kernel's clock, 4 ms.
func yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// rouse ends the thread's sleep. The lock is held.
func (t *thread) rouse() {
	_, _ = unix.Write(t.wake, binary.NativeEndian.AppendUint64(nil, 1))
}

// close closes the descriptor, and returns when it is.
func (t *thread) close() error {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		t.rouse()
	}
	t.mu.Unlock()
	<-t.ended
	return nil
}

// end tells everybody that the descriptor is closed.
func (t *thread) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed, t.err = true, err
	for _, r := range t.requests {
		close(r.done)
	}
	t.requests = nil
	close(t.ended)
}
