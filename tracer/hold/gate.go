package hold

import (
	"context"
	"errors"

	"github.com/bootrace/bootrace/tracer/event"
)

// Gate keeps back the execs of the programs that it guards, and on old kernels
// all other opens of them, too. Whatever becomes of this process, what it keeps
// back goes on when the gate is closed.
type Gate interface {
	// Guard begins to keep back the execs of a program: of the file that path
	// leads to now, by whichever name it is called later.
	Guard(path string) error
	// Unguard ends that for the file that path leads to now. What is kept back
	// already waits for its answer all the same.
	Unguard(path string) error
	// Next waits for an exec. The error is os.ErrClosed once the gate is
	// closed. After any other error but ErrOverflow the gate must be closed:
	// what it keeps back is not known any more.
	Next() (Exec, error)
	// Waiting reports whether there is an exec that Next has not returned yet.
	Waiting() bool
	// Answer lets an exec go on, or fail with EPERM. It waits for nothing else.
	Answer(e Exec, allow bool) error
	// Capacity is how many execs it can keep back at a time.
	Capacity() int
	// Close lets all execs go on.
	Close() error
}

// ErrOverflow is the error of Gate.Next where execs went on without being seen:
// there were too many at a time.
var ErrOverflow = errors.New("more starts at a time than the kernel queues: some were not looked at")

// Exec is one exec that a gate keeps back.
type Exec struct {
	TID int // the thread that executes the program, in our pid namespace; before Linux 4.20 its process
	// Key tells it from all others that are kept back.
	Key int
	// Open is set where the kernel doesn't tell an exec from another open of the
	// program.
	Open bool
	// At is when the kernel asked, at the latest a moment before: the kernel does
	// not tell, and an exec may have waited in its queue.
	At event.Time
}

// Task is what is known of a task that waits in its exec.
type Task struct {
	PID, TID, PPID int
	UID            uint32
	Comm           string // still the launcher's
	// Start is when the process was forked, in clock ticks since the boot: with
	// PID it names the process for good.
	Start    uint64
	Filename string // as given to execve
	Args     []string
	// Cwd is the working directory, as this process would name it.
	Cwd string
}

// Arguments tells what a task that waits in its exec is about to run. It may
// block for as long as the task waits, so nobody's answer depends on it.
//
// There is one way for Linux 5.7 and newer, which reads the task itself. Before
// that, whoever does is blocked until the exec goes on, and the arguments come
// from a probe at the entry of execve.
type Arguments interface {
	// Of returns ErrNoExec where no exec is known of the task.
	Of(ctx context.Context, tid int) (*Task, error)
}

// ErrNoExec says that a task is in no exec, as far as is known.
var ErrNoExec = errors.New("the task is in no execve of a 64-bit program")

// UnsupportedError says why starts can't be held on this host.
type UnsupportedError struct {
	Reason string
	Err    error // nil where there is no cause beneath
}

func (e *UnsupportedError) Error() string { return "starts can't be held on this host: " + e.text() }

// text is the error alone.
func (e *UnsupportedError) text() string {
	if e.Err == nil {
		return e.Reason
	}
	return e.Reason + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *UnsupportedError) Unwrap() error { return e.Err }
