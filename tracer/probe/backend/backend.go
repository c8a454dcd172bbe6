// Package backend is what the ways to watch a kernel have in common, whatever they
// attach to: how they are told what to watch, why they can't work on a host, what
// they say they can see (Status), and how they tell of what they lost (Losses).
//
// It watches nothing itself. Package probe declares what a backend can be asked and
// chooses one; packages ebpf, tracefs and tasks are the backends. What the system
// calls that they see mean is in package syscalls.
package backend

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/guest"
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

// ErrClosed says that the backend was closed while it was in use.
var ErrClosed = errors.New("the probes are closed")

// The abilities that a backend reports, as names of event.Ability.
const (
	AbilityExec          = "exec"            // guests' execs
	AbilityExit          = "exit"            // guests' forks and ends
	AbilityOpen          = "open"            // opens
	AbilityDM            = "dm"              // device-mapper changes
	AbilityDMLiveInstant = "dm-live-instant" // DMInfo.LiveAt
	AbilityLink          = "link"            // udev's links under /dev
	AbilityClock         = "clock"           // times are boottime's; tracefs only, since eBPF has no other
)

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
}

// WithDefaults returns the options with what was left open filled in.
func (o Options) WithDefaults() Options {
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
	return o
}

// CheckGuests refuses names of guest programs that no backend can compare with the
// name of a process, or more of them than the programs of package bpf have room for.
// Every backend refuses the same, so that a configuration does not work on one
// kernel and fail on the next.
func (o Options) CheckGuests() error {
	if n := len(o.Guests); n > bpf.MaxGuestNames {
		return fmt.Errorf("%d names of guest programs, at most %d are possible", n, bpf.MaxGuestNames)
	}
	for _, name := range o.Guests {
		if name == "" || strings.ContainsAny(name, "/\x00") {
			return fmt.Errorf("name of guest program %q: want a file name without its directory", name)
		}
	}
	return nil
}
