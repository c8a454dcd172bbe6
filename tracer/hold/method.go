package hold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// method is how starts are held on a kernel.
type method struct {
	name      string // for the record
	gate      func() (Gate, error)
	arguments Arguments
	Bound
	probe  io.Closer        // nil: no probe takes the arguments
	killed func(*Task) bool // killed, but in tests
}

func (m *method) close() error {
	if m.probe == nil {
		return nil
	}
	return m.probe.Close()
}

// attempt is a method that may be possible.
type attempt struct {
	gate func() (Gate, error)
	// probed is set where arguments come from a probe; else from the task.
	probed bool
	// execs is set where the gate tells execs from other opens.
	execs bool
}

// allAttempts begin with the best: what Linux offers from 5.7 on, from 5.0 on, and
// before.
var allAttempts = []attempt{
	{openFanotify, false, true},
	{openFanotify, true, true},
	{openFanotifyOfOpens, true, false},
}

// name says what the kernel asks about, and who tells the arguments of a start.
func (a attempt) name() string {
	name := "fanotify's opens"
	if a.execs {
		name = "fanotify's execs"
	}
	if a.probed {
		name += ", arguments by a probe"
	}
	return name
}

// Bound is how long a hold may last on a kernel, whatever the configuration says, and
// why. The zero value is no bound: a held task can be killed.
type Bound struct {
	Longest time.Duration
	Because string
}

var (
	// unkillable: whoever wants to be rid of a held task has to wait (before Linux
	// 5.1).
	unkillable = Bound{20 * time.Second, "a held start can't be killed"}
	// stalling: nor can it be killed, and whoever closes an inotify descriptor waits with
	// it (before Linux 4.12).
	stalling = Bound{5 * time.Second, "a held start can't be killed, and everything that closes an inotify descriptor waits with it, systemd included"}
)

// choose finds the best method by which starts can be held on this host, by trying.
// The error is an *UnsupportedError where there is none. The caller closes the
// method after the Holder has ended.
func choose(ctx context.Context, attempts []attempt, log *slog.Logger) (*method, error) {
	if attempts == nil {
		attempts = allAttempts
	}
	var failed failures
	for _, a := range attempts {
		method, err := a.try(ctx)
		if err == nil {
			a.tell(log, method, failed)
			return method, nil
		}
		unsupported := new(UnsupportedError)
		if !errors.As(err, &unsupported) || ctx.Err() != nil {
			return nil, err
		}
		failed = append(failed, unsupported)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) || errors.Is(err, errUnsafe) {
			break // nor by another method
		}
	}
	if len(failed.texts()) == 1 {
		return nil, failed[0]
	}
	return nil, &UnsupportedError{"there is no way", failed}
}

// tell says how starts are held where it is not by the best method.
func (a attempt) tell(log *slog.Logger, m *method, failed failures) {
	if m.Longest > 0 {
		log.Warn("no start is held for long, whatever the deadline", "longest", m.Longest, "because", m.Because)
	}
	if len(failed) > 0 {
		log.Warn("starts are held in the way of an old kernel", "why", failed, "killable", m.Longest == 0, "arguments", "from a probe at the entry of execve")
	}
}

// failures are why methods are not possible.
type failures []*UnsupportedError

func (f failures) Error() string { return strings.Join(f.texts(), "; ") }

// texts has each reason once.
func (f failures) texts() []string {
	var texts []string
	for _, e := range f {
		if text := e.text(); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return texts
}

// Unwrap returns all of them.
func (f failures) Unwrap() []error {
	var list []error
	for _, e := range f {
		list = append(list, e)
	}
	return list
}

// errUnsafe is why Linux 5.0 to 5.2 is left alone. These kernels have events of execs, so
// that the gate holds execs, and the arguments need a probe at the entry of execve. It reads
// pointers beyond the end of argv, and Linux 4.20 to 5.2 warns of such addresses, which some
// hosts take for a reason to panic.
var errUnsafe error = &UnsupportedError{Reason: "the kernel can warn of a probe at the entry of execve (before Linux 5.3), and a held task can't be read (before 5.7)"}

func (a attempt) try(ctx context.Context) (*method, error) {
	if a.probed {
		return a.tryProbed(ctx)
	}
	m := &method{name: a.name(), gate: a.gate, arguments: heldTask{}, killed: killed}
	return m, try(ctx, m.gate, m.arguments, tryLimit)
}

// tryProbed tries the gate alone first: whether a probe is safe depends on it.
func (a attempt) tryProbed(ctx context.Context) (*method, error) {
	bound, err := tryBound(ctx, a.gate, kill, closeWatch)
	if err != nil {
		return nil, err
	}
	e, err := openEntered()
	if err != nil {
		return nil, err
	}
	if a.execs && !e.source.Safe() {
		return nil, errors.Join(errUnsafe, e.Close())
	}
	m := &method{name: a.name(), gate: a.gate, arguments: e, probe: e, Bound: bound, killed: killed}
	if err := try(ctx, m.gate, m.arguments, tryLimit); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// Possible finds out whether this host's starts can be held, as Open does, and for how
// long.
func Possible(ctx context.Context) (Bound, error) {
	m, err := choose(ctx, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return Bound{}, err
	}
	if err := m.close(); err != nil {
		return Bound{}, fmt.Errorf("end the trial: %w", err)
	}
	return m.Bound, nil
}
