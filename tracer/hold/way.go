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

// way is how starts are held on a kernel.
type way struct {
	name      string // for the record
	gate      func() (Gate, error)
	arguments Arguments
	Bound
	probe  io.Closer        // nil: no probe takes the arguments
	killed func(*Task) bool // killed, but in tests
}

func (w *way) close() error {
	if w.probe == nil {
		return nil
	}
	return w.probe.Close()
}

// attempt is a way that may be possible.
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

// choose finds the best way in which starts can be held on this host, by trying.
// The error is an *UnsupportedError where there is none. The caller closes the
// way after the Holder has ended.
func choose(ctx context.Context, attempts []attempt, log *slog.Logger) (*way, error) {
	if attempts == nil {
		attempts = allAttempts
	}
	var failed failures
	for _, a := range attempts {
		way, err := a.try(ctx)
		if err == nil {
			a.tell(log, way, failed)
			return way, nil
		}
		unsupported := new(UnsupportedError)
		if !errors.As(err, &unsupported) || ctx.Err() != nil {
			return nil, err
		}
		failed = append(failed, unsupported)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) || errors.Is(err, errUnsafe) {
			break // nor in another way
		}
	}
	if len(failed.texts()) == 1 {
		return nil, failed[0]
	}
	return nil, &UnsupportedError{"there is no way", failed}
}

// tell says how starts are held where it is not in the best way.
func (a attempt) tell(log *slog.Logger, w *way, failed failures) {
	if w.Longest > 0 {
		log.Warn("no start is held for long, whatever the deadline", "longest", w.Longest, "because", w.Because)
	}
	if len(failed) > 0 {
		log.Warn("starts are held in the way of an old kernel", "why", failed, "killable", w.Longest == 0, "arguments", "from a probe at the entry of execve")
	}
}

// failures are why ways are not possible.
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

func (a attempt) try(ctx context.Context) (*way, error) {
	if a.probed {
		return a.tryProbed(ctx)
	}
	w := &way{name: a.name(), gate: a.gate, arguments: heldTask{}, killed: killed}
	return w, try(ctx, w.gate, w.arguments, tryLimit)
}

// tryProbed tries the gate alone first: whether a probe is safe depends on it.
func (a attempt) tryProbed(ctx context.Context) (*way, error) {
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
	w := &way{name: a.name(), gate: a.gate, arguments: e, probe: e, Bound: bound, killed: killed}
	if err := try(ctx, w.gate, w.arguments, tryLimit); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// Possible finds out whether this host's starts can be held, as Open does, and for how
// long.
func Possible(ctx context.Context) (Bound, error) {
	w, err := choose(ctx, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return Bound{}, err
	}
	if err := w.close(); err != nil {
		return Bound{}, fmt.Errorf("end the trial: %w", err)
	}
	return w.Bound, nil
}
