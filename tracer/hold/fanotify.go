package hold

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// fanotify is a Gate made of fanotify's permission events: an execve of a marked
// file waits in the kernel until the group answers, or is closed. One group
// serves all programs: a user may have 128.
//
// FAN_OPEN_EXEC_PERM (Linux 5.0) is about execs alone. Before, there is
// FAN_OPEN_PERM, which is about every open of the file.
//
// The group is known to one thread only (see thread), which does everything
// that is to be done with it.
type fanotify struct {
	thread  *thread
	execs   chan taken
	event   uint64
	queue   queue         // known to the thread alone
	waiting atomic.Uint64 // execs without an answer
}

// queue tells how long an event can have waited before it was read.
type queue struct {
	// known of the events that are read next were in the queue at seen; those
	// after them came later.
	seen, before event.Time
	known        int
}

// read returns when an event that is read now was asked at the earliest: when the
// queue was last looked at without it in it. left is how many are in the queue
// behind it, idle when the queue was last empty.
func (q *queue) read(left func() int, idle event.Time) event.Time {
	if q.known > 0 {
		q.known--
		return max(q.before, idle)
	}
	q.before, q.seen = q.seen, event.Now()
	q.known = left()
	return max(q.before, idle)
}

// taken is what was read from the group.
type taken struct {
	exec Exec
	err  error // ErrOverflow
}

// reserved descriptors are left for everything else that this process opens. An
// event for which no descriptor is left is denied by the kernel.
const reserved = 1024

// maxHeld is how many execs are kept back at the most: each takes a descriptor
// and a goroutine. The kernel queues no more than 16384.
const maxHeld = 16384

// ahead is how many execs are taken from the group before somebody asks for
// them.
const ahead = 256

// groupFlags are those that every kernel has.
const groupFlags = unix.FAN_CLASS_CONTENT | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK

// openFanotify makes a group that keeps nothing back yet, and then execs. The
// error is an *UnsupportedError where the kernel or our rights don't allow it.
func openFanotify() (Gate, error) {
	return openGroup(unix.FAN_OPEN_EXEC_PERM, groupFlags|unix.FAN_REPORT_TID)
}

// openFanotifyOfOpens makes one that keeps back all opens, as it has to be before
// Linux 5.0.
func openFanotifyOfOpens() (Gate, error) {
	gate, err := openGroup(unix.FAN_OPEN_PERM, groupFlags|unix.FAN_REPORT_TID)
	if errors.Is(err, unix.EINVAL) { // before Linux 4.20
		return openGroup(unix.FAN_OPEN_PERM, groupFlags)
	}
	return gate, err
}

func openGroup(event uint64, flags uint) (Gate, error) {
	raiseDescriptors()
	f := &fanotify{execs: make(chan taken, ahead), event: event}
	open := func() (int, error) {
		fd, err := unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
		if err != nil {
			return -1, &UnsupportedError{initReason(err), err}
		}
		return fd, nil
	}
	var err error
	if f.thread, err = newThread(open, metadataLen, f.room, f.take); err != nil {
		return nil, err
	}
	return f, nil
}

func initReason(err error) string {
	switch {
	case errors.Is(err, unix.ENOSYS):
		return "the kernel has no fanotify (CONFIG_FANOTIFY)"
	case errors.Is(err, unix.EPERM):
		return "no right to: it takes CAP_SYS_ADMIN in the initial user namespace"
	case errors.Is(err, unix.EINVAL):
		return "the kernel has no fanotify permission events (CONFIG_FANOTIFY_ACCESS_PERMISSIONS), or is older than 4.20"
	case errors.Is(err, unix.EMFILE):
		return "too many fanotify groups of this user (fs.fanotify.max_user_groups), or no descriptor left"
	}
	return "fanotify_init"
}

// raiseDescriptors makes room for one descriptor a held exec, as far as the
// hard limit allows.
func raiseDescriptors() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) // Capacity goes by what is there
	}
}

func (f *fanotify) Capacity() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	free := int64(min(limit.Cur, 1<<30)) - reserved
	return int(min(max(free, 0), maxHeld))
}

func (f *fanotify) Guard(path string) error {
	err := f.mark(unix.FAN_MARK_ADD, path)
	switch {
	case errors.Is(err, unix.EINVAL):
		return &UnsupportedError{"the kernel can't keep an exec back (FAN_OPEN_EXEC_PERM, Linux 5.0 with CONFIG_FANOTIFY_ACCESS_PERMISSIONS)", err}
	case err != nil:
		return fmt.Errorf("guard %s: %w", path, err)
	}
	return nil
}

func (f *fanotify) Unguard(path string) error {
	if err := f.mark(unix.FAN_MARK_REMOVE, path); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("guard %s no longer: %w", path, err)
	}
	return nil
}

// mark finds the file itself: only the mark is left to the thread, which must never
// wait for a disk.
func (f *fanotify) mark(change uint, path string) error {
	file, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(file)
	here := "/proc/self/fd/" + strconv.Itoa(file) // the process's descriptors, not the thread's
	doErr := f.thread.do(func(group int) {
		err = unix.FanotifyMark(group, change, f.event, unix.AT_FDCWD, here)
	})
	if doErr != nil {
		return doErr
	}
	return err
}

func (f *fanotify) Next() (Exec, error) {
	select {
	case t := <-f.execs:
		return t.exec, t.err
	case <-f.thread.ended:
		return Exec{}, fmt.Errorf("take starts from fanotify: %w", f.thread.err)
	}
}

const metadataLen = unix.FAN_EVENT_METADATA_LEN

func (f *fanotify) room() bool { return len(f.execs) < cap(f.execs) }

// take is given one event at a time: the buffer has room for no more, so no event
// is taken from the queue that nobody looks after.
func (f *fanotify) take(group int, idle event.Time, buf []byte) error {
	m, err := parseMetadata(buf)
	asked := f.queue.read(func() int {
		n, _ := unix.IoctlGetInt(group, unix.TIOCINQ) // FIONREAD
		return n / metadataLen
	}, idle)
	switch {
	case err != nil:
		return err
	case m.Mask&unix.FAN_Q_OVERFLOW != 0:
		f.execs <- taken{err: ErrOverflow}
	case m.Fd < 0:
		return fmt.Errorf("event without a descriptor: mask %#x", m.Mask)
	case m.Mask&f.event == 0:
		unix.Close(int(m.Fd)) // nothing that waits
	default:
		f.waiting.Add(1)
		urgency.begin()
		f.execs <- taken{exec: Exec{TID: int(m.Pid), Key: int(m.Fd), Open: f.event == unix.FAN_OPEN_PERM, At: asked}}
	}
	return nil
}

func parseMetadata(buf []byte) (unix.FanotifyEventMetadata, error) {
	var m unix.FanotifyEventMetadata
	if len(buf) < metadataLen {
		return m, fmt.Errorf("fanotify event of %d bytes, expected %d", len(buf), metadataLen)
	}
	if _, err := binary.Decode(buf, binary.NativeEndian, &m); err != nil {
		return m, fmt.Errorf("decode fanotify event: %w", err)
	}
	if m.Vers != unix.FANOTIFY_METADATA_VERSION {
		return m, fmt.Errorf("fanotify speaks version %d, expected %d", m.Vers, unix.FANOTIFY_METADATA_VERSION)
	}
	return m, nil
}

func (f *fanotify) Waiting() bool {
	var n int
	err := f.thread.do(func(group int) { n, _ = unix.IoctlGetInt(group, unix.TIOCINQ) }) // FIONREAD
	return err == nil && (n > 0 || len(f.execs) > 0)
}

func (f *fanotify) Answer(e Exec, allow bool) error {
	defer f.answered()
	r := unix.FanotifyResponse{Fd: int32(e.Key), Response: unix.FAN_ALLOW}
	if !allow {
		r.Response = unix.FAN_DENY
	}
	buf, err := binary.Append(nil, binary.NativeEndian, r)
	if err != nil {
		return fmt.Errorf("answer an exec: %w", err)
	}
	doErr := f.thread.do(func(group int) {
		_, err = unix.Write(group, buf) // it never waits
		unix.Close(e.Key)
	})
	if doErr != nil {
		return fmt.Errorf("answer the exec of task %d: %w", e.TID, doErr)
	}
	// ENOENT: the task was killed, and waits no longer.
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("answer the exec of task %d: %w", e.TID, err)
	}
	return nil
}

// Close lets everything go on that waits.
func (f *fanotify) Close() error {
	err := f.thread.close()
	for range f.waiting.Swap(0) {
		urgency.end()
	}
	return err
}

// answered notes that one exec less waits, where it was not let go by Close.
func (f *fanotify) answered() {
	for {
		n := f.waiting.Load()
		if n == 0 {
			return
		}
		if f.waiting.CompareAndSwap(n, n-1) {
			urgency.end()
			return
		}
	}
}
