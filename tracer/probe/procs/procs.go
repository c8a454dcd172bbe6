// Package procs receives the kernel's process events: each fork, exec and exit
// on the host, from the proc connector. It exists on all kernels, and tells
// what no trace event of old kernels does: a process's exit status, and which
// threads belong together.
package procs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// ErrNotAvailable says that the kernel does not deliver process events here:
// it was built without CONFIG_PROC_EVENTS, or this is a container.
var ErrNotAvailable = errors.New("the kernel delivers no process events here (CONFIG_PROC_EVENTS; not in a container)")

// Kind is what a process did.
type Kind uint8

// The kinds.
const (
	Fork Kind = iota + 1
	Exec
	Exit
)

// Event is one fact about a task.
type Event struct {
	At   event.Time // when the kernel says that it was
	Kind Kind
	TID  int // the task; of a fork: the new one
	PID  int // its process
	// Parent is the parent process, of a new thread too.
	Parent int
	Code   uint32 // of an exit, as in wait(2)
}

// receiveBuffer is the size of the socket's queue in bytes: 25,000 events.
const receiveBuffer = 8 << 20

// answerLimit is how long the kernel may take to confirm the subscription.
const answerLimit = time.Second

// Source is a subscription.
type Source struct {
	mu     sync.Mutex
	socket *nl.NetlinkSocket
	offset event.Duration // boottime - monotonic
	buf    []byte
	// confirmed is set by the answer to the subscription.
	confirmed bool
	refused   uint32 // its errno
	lost      uint64 // overflows of the queue, and messages that say nothing
	closed    bool
}

// Open subscribes: events queue from then on.
func Open() (*Source, error) {
	socket, err := nl.Subscribe(unix.NETLINK_CONNECTOR, netlink.CN_IDX_PROC)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, ErrNotAvailable
	}
	if err != nil {
		return nil, fmt.Errorf("subscribe to process events: %w", err)
	}
	s := &Source{socket: socket, buf: make([]byte, 64<<10), offset: event.MonotonicOffset()}
	if err := s.subscribe(); err != nil {
		socket.Close()
		return nil, fmt.Errorf("subscribe to process events: %w", err)
	}
	return s, nil
}

func (s *Source) subscribe() error {
	// Without the right to force it the queue is smaller, which shows as a loss.
	if s.socket.SetReceiveBufferSize(receiveBuffer, true) != nil {
		if err := s.socket.SetReceiveBufferSize(receiveBuffer, false); err != nil {
			return err
		}
	}
	if err := s.tell(netlink.PROC_CN_MCAST_LISTEN); err != nil {
		return err
	}
	for deadline := time.Now().Add(answerLimit); !s.confirmed; {
		left := time.Until(deadline)
		if left <= 0 {
			return ErrNotAvailable
		}
		if err := s.Wait(left); err != nil {
			return err
		}
		if err := s.Receive(func(Event) {}); err != nil {
			return err
		}
	}
	if s.refused != 0 {
		return fmt.Errorf("%w: %w", ErrNotAvailable, unix.Errno(s.refused))
	}
	return nil
}

// ignore ends what PROC_CN_MCAST_LISTEN began; the kernel counts listeners.
const ignore = 2

func (s *Source) tell(what uint32) error {
	request := nl.NetlinkRequest{NlMsghdr: unix.NlMsghdr{Type: unix.NLMSG_DONE, Len: unix.SizeofNlMsghdr}}
	request.AddData(nl.NewCnMsg(netlink.CN_IDX_PROC, netlink.CN_VAL_PROC, what))
	return s.socket.Send(&request)
}

// Wait returns when events are there, or after the time.
func (s *Source) Wait(limit time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(s.socket.GetFd()), Events: unix.POLLIN}}
	_, err := unix.Poll(fds, int(max(limit.Milliseconds(), 1)))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for process events: %w", err)
	}
	return nil
}

// Receive calls each for all events that are there. It may be called from
// several goroutines: when it returns, all that had happened before the call
// has been delivered, by this call or another. What was lost is counted.
func (s *Source) Receive(each func(Event)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed {
		n, from, err := unix.Recvfrom(s.socket.GetFd(), s.buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS):
			s.lost++
			continue
		case err != nil:
			return fmt.Errorf("receive process events: %w", err)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != nl.PidKernel {
			continue // anybody may send to this address
		}
		if s.parse(s.buf[:n], each) != nil {
			s.lost++
		}
	}
	return nil
}

// Lost counts how often something was lost.
func (s *Source) Lost() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Close ends the subscription.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.tell(ignore)
	s.socket.Close()
	return err
}

// Offsets in a message: struct cn_msg, then struct proc_event of
// linux/cn_proc.h, which has not changed since 2.6.
const (
	connectorSize = 20
	offWhat       = 0
	offTime       = 8
	offPayload    = 16
	payloadAck    = 4
	payloadExec   = 8
	payloadFork   = 16
	payloadExit   = 16
)

var errMessage = errors.New("process event is too short")

func (s *Source) parse(b []byte, each func(Event)) error {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return fmt.Errorf("parse process events: %w", err)
	}
	for _, m := range messages {
		if len(m.Data) < connectorSize+offPayload {
			return errMessage
		}
		if err := s.parseEvent(m.Data[connectorSize:], each); err != nil {
			return err
		}
	}
	return nil
}

func (s *Source) parseEvent(b []byte, each func(Event)) error {
	e := Event{At: event.Time(binary.NativeEndian.Uint64(b[offTime:])).Add(s.offset)}
	payload := b[offPayload:]
	word := func(n int) uint32 { return binary.NativeEndian.Uint32(payload[4*n:]) }
	need := map[uint32]int{
		netlink.PROC_EVENT_NONE: payloadAck, netlink.PROC_EVENT_FORK: payloadFork,
		netlink.PROC_EVENT_EXEC: payloadExec, netlink.PROC_EVENT_EXIT: payloadExit,
	}
	what := binary.NativeEndian.Uint32(b[offWhat:])
	if len(payload) < need[what] {
		return errMessage
	}
	switch what {
	case netlink.PROC_EVENT_NONE:
		s.confirmed, s.refused = true, word(0)
		return nil
	case netlink.PROC_EVENT_FORK:
		e.Kind, e.Parent, e.TID, e.PID = Fork, int(word(1)), int(word(2)), int(word(3))
	case netlink.PROC_EVENT_EXEC:
		e.Kind, e.TID, e.PID = Exec, int(word(0)), int(word(1))
	case netlink.PROC_EVENT_EXIT:
		e.Kind, e.TID, e.PID, e.Code = Exit, int(word(0)), int(word(1)), word(2)
	default:
		return nil
	}
	each(e)
	return nil
}
