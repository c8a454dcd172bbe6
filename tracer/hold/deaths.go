package hold

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/proc"
)

// deaths tells when held tasks die. The kernel says so through a pidfd (Linux 5.3),
// so nobody has to look at a thousand of them twice a second. A pidfd is about the
// whole process: of a thread beside the first, and where there is no pidfd, the sweep
// looks, and so it does, twice a minute, at all the others.
type deaths struct {
	epoll *os.File // nil: nothing is told
	// broken is set where it can't be waited any more for what is told.
	broken atomic.Bool

	most int // that are followed at a time: other things need descriptors, too

	mu   sync.Mutex
	last uint64
	of   map[uint64]followed
}

type followed struct {
	hold  *hold
	pidfd int
}

func newDeaths() *deaths {
	d := &deaths{of: map[uint64]followed{}}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return d
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return d
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		d.most = int(min(limit.Cur/4, maxHeld))
	}
	d.epoll = os.NewFile(uintptr(fd), "epoll of held tasks") // polled by the runtime: no thread waits
	return d
}

// follow has the death of the held task told.
func (d *deaths) follow(held *hold) {
	held.mu.Lock()
	t := held.task
	held.mu.Unlock()
	if d.epoll == nil || t == nil || t.TID != t.PID {
		return
	}
	fd, err := unix.PidfdOpen(t.PID, 0)
	if err != nil {
		return
	}
	// Another process can have the number by now; then the sweep finds it out.
	if stat, err := proc.ReadStat(proc.Dir("/", t.PID)); err != nil || stat.Start != t.Start {
		unix.Close(fd)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(d.last), Pad: int32(d.last >> 32)}
	if held.answered.Load() || d.broken.Load() || len(d.of) >= d.most || d.control(unix.EPOLL_CTL_ADD, fd, &e) != nil {
		unix.Close(fd)
		return
	}
	d.of[d.last] = followed{held, fd}
	held.death.Store(d.last)
}

func (d *deaths) control(op, fd int, e *unix.EpollEvent) error {
	conn, err := d.epoll.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := conn.Control(func(epoll uintptr) { failed = unix.EpollCtl(int(epoll), op, fd, e) }); err != nil {
		return err
	}
	return failed
}

// forget ends the following of a hold that was answered. What the kernel tells of it
// later is about nobody: the number is not used again.
func (d *deaths) forget(held *hold) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := held.death.Load()
	if f, ok := d.of[id]; ok {
		delete(d.of, id)
		unix.Close(f.pidfd) // which takes it out of the epoll
	}
}

// tells reports whether the death of the hold's task is told.
func (d *deaths) tells(held *hold) bool { return held.death.Load() != 0 && !d.broken.Load() }

// run calls gone for each hold whose task has died, until close. Where it can't wait
// any more, the sweep looks at all of them.
func (d *deaths) run(gone func(*hold)) error {
	if d.epoll == nil {
		return nil
	}
	defer d.broken.Store(true)
	conn, err := d.epoll.SyscallConn()
	if err != nil {
		return nil // the sweep looks
	}
	var list [64]unix.EpollEvent
	for {
		n := 0
		var failed error
		err := conn.Read(func(epoll uintptr) bool {
			n, failed = unix.EpollWait(int(epoll), list[:], 0)
			return n > 0 || failed != nil && !errors.Is(failed, unix.EINTR)
		})
		if err != nil || failed != nil {
			return nil // closed, or the sweep looks
		}
		for _, e := range list[:n] {
			d.mu.Lock()
			f, ok := d.of[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
			d.mu.Unlock()
			if ok {
				gone(f.hold)
			}
		}
	}
}

func (d *deaths) close() {
	if d.epoll != nil {
		d.epoll.Close()
	}
}
