// Package probe watches the kernel: guests as they start, fork and end, the
// paths that they open, changes of device-mapper devices, and udev's links.
//
// A Backend is one way to do it. eBPF is the one for kernels from 5.8 on that
// describe their types (BTF); tracefs the one for kernels without, from 3.10 on;
// and where neither can be, what the kernel tells of processes is left. Open
// chooses.
package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
)

// What keeps a backend from working on this host. Errors wrap one of these
// and say what to do.
var (
	ErrNotPermitted = errors.New("not permitted")
	ErrNoBTF        = errors.New("kernel has no BTF type information")
	ErrNoTracefs    = errors.New("kernel has no tracefs")
	ErrNotSupported = errors.New("not supported by this kernel")
	// ErrRealTime is one: probes there may not write to a ring buffer of eBPF.
	ErrRealTime = fmt.Errorf("%w: it is real-time (PREEMPT_RT), and the lock of eBPF's ring buffer can sleep (a spinlock_t in struct bpf_ringbuf)", ErrNotSupported)
)

// The abilities that a backend reports.
const (
	AbilityExec          = "exec"            // guests' execs
	AbilityExit          = "exit"            // guests' forks and ends
	AbilityOpen          = "open"            // opens
	AbilityDM            = "dm"              // device-mapper changes
	AbilityDMLiveInstant = "dm-live-instant" // DMInfo.LiveAt
	AbilityLink          = "link"            // udev's links under /dev
	AbilityClock         = "clock"           // times are boottime's; tracefs only, since eBPF has no other
)

// Backend is one way to watch the kernel.
type Backend interface {
	// Info says what this backend can see on this host, now.
	Info() event.SourceInfo
	// AddGuest makes a guest of a process that runs already. pid is its thread
	// group id in the initial pid namespace.
	AddGuest(pid int) error
	// DeviceMapperLoaded is to be called when the dm_mod module has been
	// loaded, to add what could not be attached before. It may be called at
	// any time, again too.
	DeviceMapperLoaded() error
	// Run delivers events until ctx ends or the backend fails, from one
	// goroutine. When ctx ends it delivers what the kernel has already
	// recorded, then returns nil. It can be called once.
	Run(ctx context.Context, emit func(event.Event)) error
	// Losses counts the events that were lost since the start, by what they
	// told. Run reports them as events, too.
	Losses() map[string]uint64
	// OwnLosses are those that are in none of Losses: of single users, who had used up
	// their share.
	OwnLosses() []event.LossInfo
	Close() error
}

// Options change how a backend works. The zero value is the default.
type Options struct {
	Log *slog.Logger
	// Guests are the names of programs that are guests, compared with the
	// process name (comm), of which the kernel keeps 15 bytes. A name that
	// ends in "-" stands for all that begin with it. At most
	// bpf.MaxGuestNames; guest.Programs if nil.
	Guests []string
	// RingBytes is the size of the buffer between kernel and Run: a power of
	// two, at least a page. 4 MiB if 0.
	RingBytes int
	// LossInterval is how often Run looks for lost events. 1 s if 0.
	LossInterval time.Duration
	// FindRoot is called when /proc is out of sight: the process was started in
	// the initramfs, and the host has gone on to its real root. May be nil.
	FindRoot func()

	// traceClock forces a trace clock, for tests.
	traceClock string
	// roomOfUser is what one user may have in the maps of eBPF's programs, 0 for
	// what they are made for; tests say so.
	roomOfUser uint32
	// noTaskStorage has eBPF keep calls as on kernels without, for tests.
	noTaskStorage bool
	// refuses says that the kernel does not take a probe for tracefs, for tests.
	refuses func(ftrace.Probe) error
	// fewReturns has tracefs take the kernel for one that keeps room for few returns at a
	// time, for tests.
	fewReturns bool
	// preempts says whether the kernel preempts itself; tests say so.
	preempts func() bool
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Guests == nil {
		o.Guests = guest.Programs()
	}
	if o.RingBytes == 0 {
		o.RingBytes = 4 << 20
	}
	if o.LossInterval == 0 {
		o.LossInterval = time.Second
	}
	if o.preempts == nil {
		o.preempts = func() bool { return mayPreempt(kernelVersion(), o.preemptionMode) }
	}
	return o
}
