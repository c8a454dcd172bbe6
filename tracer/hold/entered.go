package hold

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/bootrace/bootrace/tracer/probe/execs"
	"github.com/bootrace/bootrace/tracer/proc"
)

// entered takes the arguments of a task from what a probe recorded when it
// entered execve, and looks at nothing of the task that could make it wait. It
// works on all kernels that have kprobe events.
type entered struct{ source *execs.Source }

// openEntered attaches the probe.
func openEntered() (*entered, error) {
	source, err := execs.Open()
	if err != nil {
		return nil, &UnsupportedError{"the arguments of a start can't be taken from a probe at the entry of execve", err}
	}
	return &entered{source}, nil
}

func (e *entered) Of(_ context.Context, id int) (*Task, error) {
	c, callErr := e.source.Of(id)
	if errors.Is(callErr, execs.ErrNone) {
		return nil, ErrNoExec
	}
	t, err := readTask(id)
	if err = errors.Join(callErr, err); err != nil {
		return t, fmt.Errorf("take the arguments of task %d from the probe: %w", id, err)
	}
	t.TID, t.Filename, t.Args = c.TID, c.Filename, c.Args
	t.Cwd, _ = os.Readlink(proc.Path(id, "cwd"))
	return t, nil
}

func (e *entered) Close() error { return e.source.Close() }
