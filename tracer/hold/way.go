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

// Way is how starts are held on a kernel.
type Way struct {
	Gate      func() (Gate, error)
	Arguments Arguments
	// Longest bounds all holds; 0 where a held task can be killed, and nothing
	// has to be bounded.
	Longest time.Duration
	close   io.Closer // nil: nothing is to be closed
}

// Close ends what takes the arguments.
func (w *Way) Close() error {
	if w.close == nil {
		return nil
	}
	return w.close.Close()
}

// attempt is a way that may be possible.
type attempt struct {
	gate func() (Gate, error)
	// probed is set where arguments come from a probe; else from the task.
	probed bool
	// execs is set where the gate tells execs from other opens.
	execs bool
}

// attempts begin with the best: what Linux offers from 5.7 on, from 5.0 on, and
// before.
var attempts = []attempt{
	{OpenFanotify, false, true},
	{OpenFanotify, true, true},
	{OpenFanotifyOfOpens, true, false},
}

// longestUnkillable bounds holds where a held task can't be killed (before Linux
// 5.1): whoever wants to be rid of it has to wait.
const longestUnkillable = 20 * time.Second

// Choose finds the best way in which starts can be held on this host, by trying.
// The error is an *UnsupportedError where there is none. The caller closes the
// way after the Holder has ended.
func Choose(ctx context.Context, log *slog.Logger) (*Way, error) {
	return choose(ctx, attempts, log)
}

func choose(ctx context.Context, attempts []attempt, log *slog.Logger) (*Way, error) {
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
func (a attempt) tell(log *slog.Logger, w *Way, failed failures) {
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

// errUnsafe is why Linux 5.0 to 5.2 is left alone: there a probe meets a gate of
// execs, and addresses that it takes from behind the end of a list can make the
// kernel warn (from 4.20 on), which some hosts take for a reason to panic.
var errUnsafe error = &UnsupportedError{Reason: "the kernel can warn of a probe at the entry of execve (before Linux 5.3), and a held task can't be read (before 5.7)"}

func (a attempt) try(ctx context.Context) (*Way, error) {
	if a.probed {
		return a.tryProbed(ctx)
	}
	w := &Way{Gate: a.gate, Arguments: heldTask{}}
	return w, Try(ctx, w.Gate, w.Arguments, tryLimit)
}

// tryProbed tries the gate alone first: whether a probe is safe depends on it.
func (a attempt) tryProbed(ctx context.Context) (*Way, error) {
	killable, err := tryKill(ctx, a.gate)
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
	w := &Way{Gate: a.gate, Arguments: e, close: e}
	if !killable {
		w.Longest = longestUnkillable
	}
	if err := Try(ctx, w.Gate, w.Arguments, tryLimit); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Possible finds out whether this host's starts can be held, as Choose does.
func Possible(ctx context.Context) error {
	w, err := Choose(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("end the trial: %w", err)
	}
	return nil
}
