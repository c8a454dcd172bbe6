package hold

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// fanotify is a Gate made of fanotify's permission events: an execve of a marked
// file waits in the kernel until the group answers, or is closed. One group
// serves all programs: a user may have 128.
//
// FAN_OPEN_EXEC_PERM (Linux 5.0) is about execs alone. Before, there is
// FAN_OPEN_PERM, which is about every open of the file.
type fanotify struct {
	group *os.File
	raw   syscall.RawConn
	event uint64
}

// reserved descriptors are left for everything else that this process opens. An
// event for which no descriptor is left is denied by the kernel.
const reserved = 1024

// maxHeld is how many execs are kept back at the most: each takes a descriptor
// and a goroutine. The kernel queues no more than 16384.
const maxHeld = 16384

// groupFlags are those that every kernel has.
const groupFlags = unix.FAN_CLASS_CONTENT | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK

// OpenFanotify makes a group that keeps nothing back yet, and then execs. The
// error is an *UnsupportedError where the kernel or our rights don't allow it.
func OpenFanotify() (Gate, error) {
	return openGroup(unix.FAN_OPEN_EXEC_PERM, groupFlags|unix.FAN_REPORT_TID)
}

// OpenFanotifyOfOpens makes one that keeps back all opens, as it has to be before
// Linux 5.0.
func OpenFanotifyOfOpens() (Gate, error) {
	gate, err := openGroup(unix.FAN_OPEN_PERM, groupFlags|unix.FAN_REPORT_TID)
	if errors.Is(err, unix.EINVAL) { // before Linux 4.20
		return openGroup(unix.FAN_OPEN_PERM, groupFlags)
	}
	return gate, err
}

func openGroup(event uint64, flags uint) (Gate, error) {
	raiseDescriptors()
	fd, err := unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	if err != nil {
		return nil, &UnsupportedError{initReason(err), err}
	}
	group := os.NewFile(uintptr(fd), "fanotify")
	raw, err := group.SyscallConn()
	if err != nil {
		group.Close()
		return nil, fmt.Errorf("open fanotify: %w", err)
	}
	return &fanotify{group, raw, event}, nil
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
	var err error
	ctlErr := f.raw.Control(func(fd uintptr) {
		err = unix.FanotifyMark(int(fd), unix.FAN_MARK_ADD, f.event, unix.AT_FDCWD, path)
	})
	if err == nil {
		err = ctlErr
	}
	switch {
	case errors.Is(err, unix.EINVAL):
		return &UnsupportedError{"the kernel can't keep an exec back (FAN_OPEN_EXEC_PERM, Linux 5.0 with CONFIG_FANOTIFY_ACCESS_PERMISSIONS)", err}
	case err != nil:
		return fmt.Errorf("guard %s: %w", path, err)
	}
	return nil
}

const metadataLen = unix.FAN_EVENT_METADATA_LEN

// Next reads one event at a time: the buffer has room for no more, so no event
// is taken from the queue that nobody looks after.
func (f *fanotify) Next() (Exec, error) {
	var buf [metadataLen]byte
	for {
		n, err := f.group.Read(buf[:])
		if err != nil {
			return Exec{}, fmt.Errorf("read from fanotify: %w", err)
		}
		m, err := parseMetadata(buf[:n])
		if err != nil {
			return Exec{}, err
		}
		switch {
		case m.Mask&unix.FAN_Q_OVERFLOW != 0:
			return Exec{}, ErrOverflow
		case m.Fd < 0:
			return Exec{}, fmt.Errorf("fanotify event without a descriptor: mask %#x", m.Mask)
		case m.Mask&f.event == 0:
			unix.Close(int(m.Fd)) // nothing that waits
		default:
			return Exec{TID: int(m.Pid), Key: int(m.Fd), Open: f.event == unix.FAN_OPEN_PERM}, nil
		}
	}
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
	var err error
	ctlErr := f.raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) // FIONREAD
	return err == nil && ctlErr == nil && n > 0
}

// Answer writes past the poller and its lock: the write never waits, and a
// reader that does must not be in its way.
func (f *fanotify) Answer(e Exec, allow bool) error {
	r := unix.FanotifyResponse{Fd: int32(e.Key), Response: unix.FAN_ALLOW}
	if !allow {
		r.Response = unix.FAN_DENY
	}
	buf, err := binary.Append(nil, binary.NativeEndian, r)
	if err != nil {
		return fmt.Errorf("answer an exec: %w", err)
	}
	ctlErr := f.raw.Control(func(fd uintptr) { _, err = unix.Write(int(fd), buf) })
	unix.Close(e.Key)
	if ctlErr != nil {
		return fmt.Errorf("answer the exec of task %d: %w", e.TID, os.ErrClosed)
	}
	// ENOENT: the task was killed, and waits no longer.
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("answer the exec of task %d: %w", e.TID, err)
	}
	return nil
}

func (f *fanotify) Close() error { return f.group.Close() }
