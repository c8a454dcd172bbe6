package udev

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/pilebones/go-udev/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// maxMessage is the longest message that is read, in bytes. The kernel's have
// at most 2 KiB of properties (UEVENT_BUFFER_SIZE); udev's are bounded by its
// socket's send buffer, 208 KiB by default.
const maxMessage = 256 << 10

var (
	errForeign   = errors.New("message of a sender that is not trusted")
	errTruncated = fmt.Errorf("message is longer than %d bytes", maxMessage)
)

// socket is one netlink socket, bound to one group.
type socket struct {
	source string // event.Event.Src of what comes from it
	mode   netlink.Mode
	conn   netlink.UEventConn
	inode  uint64 // names it in /proc/net/netlink
	forced bool   // it got the receive buffer that was asked for
	// unfiltered is why the kernel queues messages of all subsystems here; nil
	// where it does not.
	unfiltered error
	buf        []byte
	oob        []byte

	drops uint64     // of the kernel's counter, as last read
	last  event.Time // last message's receipt, or when the socket was bound
	since event.Time // the reader woke up then for what is read next
	empty event.Time // what is read next came after this
	// overrun is last at the moment that the kernel reported a full queue, 0
	// in normal times.
	overrun event.Time
}

// openSocket binds a socket: messages queue from then on, and a moment later
// only those that filter passes.
func openSocket(source string, mode netlink.Mode, filter []bpf.Instruction, bufferSize int) (*socket, error) {
	s := &socket{
		source: source,
		mode:   mode,
		buf:    make([]byte, maxMessage),
		oob:    make([]byte, unix.CmsgSpace(unix.SizeofUcred)),
	}
	before := event.Now()
	if err := s.connect(); err != nil {
		return nil, fmt.Errorf("connect to netlink group %d of uevents: %w", mode, err)
	}
	s.last = before
	s.since, s.empty = before, before
	s.unfiltered = attachFilter(s.conn.Fd, filter)
	if err := s.configure(bufferSize); err != nil {
		s.close()
		return nil, fmt.Errorf("set up netlink group %d of uevents: %w", mode, err)
	}
	return s, nil
}

// connect holds the fork lock, because go-udev makes a socket that a child
// would inherit.
func (s *socket) connect() error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := s.conn.Connect(s.mode); err != nil {
		return err
	}
	unix.CloseOnExec(s.conn.Fd)
	return nil
}

func (s *socket) configure(bufferSize int) error {
	if err := unix.SetsockoptInt(s.conn.Fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return fmt.Errorf("ask for senders' credentials: %w", err)
	}
	s.forced = unix.SetsockoptInt(s.conn.Fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferSize) == nil
	if !s.forced { // no CAP_NET_ADMIN: as much as net.core.rmem_max allows
		if err := unix.SetsockoptInt(s.conn.Fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bufferSize); err != nil {
			return fmt.Errorf("set receive buffer to %d bytes: %w", bufferSize, err)
		}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(s.conn.Fd, &stat); err != nil {
		return err
	}
	s.inode = stat.Ino
	return nil
}

func (s *socket) close() error { return s.conn.Close() }

// receive reads the next message without waiting. It is valid until the next
// call. The error is EAGAIN where there is none, ENOBUFS after a loss,
// errForeign and errTruncated for a message that cannot be used.
func (s *socket) receive() ([]byte, error) {
	n, oobn, flags, from, err := unix.Recvmsg(s.conn.Fd, s.buf, s.oob, unix.MSG_DONTWAIT)
	if err != nil {
		return nil, err
	}
	if !s.trusted(from, s.oob[:oobn]) {
		return nil, errForeign
	}
	s.last = event.Now()
	if flags&unix.MSG_TRUNC != 0 {
		return nil, errTruncated
	}
	return s.buf[:n], nil
}

// trusted checks the sender: the kernel has port 0, udev runs as root. Both
// send to their group; a message to this socket alone is from neither.
func (s *socket) trusted(from unix.Sockaddr, oob []byte) bool {
	addr, ok := from.(*unix.SockaddrNetlink)
	if !ok || addr.Groups != uint32(s.mode) {
		return false
	}
	if s.mode == netlink.KernelEvent {
		return addr.Pid == 0
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return false
	}
	for i := range messages {
		if cred, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			return cred.Uid == 0
		}
	}
	return false
}

// newDrops returns how many messages the kernel has dropped since the last
// call, 0 where it cannot tell.
func (s *socket) newDrops() uint64 {
	file, err := os.Open("/proc/net/netlink")
	if err != nil {
		return 0
	}
	defer file.Close()
	total, ok := readDrops(file, s.inode)
	if !ok {
		return 0
	}
	lost := total - s.drops
	s.drops = total
	return lost
}

// readDrops finds a socket in the table of /proc/net/netlink: sk Eth Pid Groups
// Rmem Wmem Dump Locks Drops Inode (netlink_seq_show).
func readDrops(table io.Reader, inode uint64) (drops uint64, ok bool) {
	for lines := bufio.NewScanner(table); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[9] != strconv.FormatUint(inode, 10) {
			continue
		}
		drops, err := strconv.ParseUint(fields[8], 10, 32)
		return drops, err == nil
	}
	return 0, false
}
