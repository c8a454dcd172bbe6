package hold

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/proc"
)

// try finds out whether starts can be held here: a child of our own executes a
// file that a gate guards, and its arguments must come within limit. Kernels
// are not told apart by their version. The error is an *UnsupportedError.
//
// Where reading them blocks, as it does before Linux 5.7, closing the gate ends
// that.
func try(ctx context.Context, open func() (Gate, error), args Arguments, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return withChild(ctx, open, func(gate Gate, e Exec, _ int) error {
		return tryArguments(ctx, gate, e, args, limit)
	})
}

// tryBound finds out for how long a task may be held, by what a held child does not
// let others do: kill it, and where that does not end it, closeWatch.
func tryBound(ctx context.Context, open func() (Gate, error), kill func(context.Context, int) (bool, error), closeWatch func() error) (b Bound, err error) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	err = withChild(ctx, open, func(_ Gate, _ Exec, pid int) error {
		killed, err := kill(ctx, pid)
		switch {
		case err != nil:
			return &UnsupportedError{"it can't be tried", err}
		case killed:
		case returns(ctx, closeWatch):
			b = unkillable
		default:
			b = stalling
		}
		return nil
	})
	return b, err
}

// kill reports whether a child of ours that is killed ends.
func kill(ctx context.Context, pid int) (bool, error) {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return false, err
	}
	return ends(ctx, pid), nil
}

// closeWatch closes a descriptor of inotify that watches something.
func closeWatch() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return err
	}
	_, err = unix.InotifyAddWatch(fd, "/", unix.IN_DELETE_SELF)
	return errors.Join(err, unix.Close(fd))
}

// closeLimit is how long closing a descriptor may take.
const closeLimit = 2 * time.Second

// returns reports whether f is done within closeLimit. Where it is not, it goes on
// alone.
func returns(ctx context.Context, f func() error) bool {
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err == nil // else nothing is known
	case <-ctx.Done():
		return false
	}
}

// killLimit is how long a process that is killed may take to end.
const killLimit = 2 * time.Second

// ends reports whether a child of ours ends by itself within killLimit.
func ends(ctx context.Context, pid int) bool {
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	for {
		stat, err := proc.ReadStat(proc.Dir("/", pid))
		if err != nil || stat.State == 'Z' || stat.State == 'X' {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// withChild has a child of ours execute a program that a gate guards, and calls
// what while the child waits. Then it goes on, and is killed.
func withChild(ctx context.Context, open func() (Gate, error), what func(gate Gate, e Exec, pid int) error) error {
	gate, err := open()
	if err != nil {
		return err
	}
	defer gate.Close()
	file, err := emptyProgram()
	if err != nil {
		return &UnsupportedError{"it can't be tried", err}
	}
	defer file.Close()
	if err := gate.Guard(fmt.Sprintf("/proc/self/fd/%d", file.Fd())); err != nil {
		return err
	}
	child, err := startChild(file)
	if err != nil {
		return &UnsupportedError{"it can't be tried", err}
	}
	e, err := nextOf(ctx, gate)
	if err == nil {
		err = what(gate, e, child.Process.Pid)
	}
	gate.Close() // before the child is waited for
	_ = child.Process.Kill()
	_ = child.Wait()
	return err
}

// nextOf waits for an exec as long as ctx lasts.
func nextOf(ctx context.Context, gate Gate) (Exec, error) {
	type outcome struct {
		exec Exec
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		e, err := gate.Next()
		done <- outcome{e, err}
	}()
	select {
	case <-ctx.Done():
		return Exec{}, &UnsupportedError{"a start of our own was not kept back in time: the kernel doesn't do it, or this host is very slow", ctx.Err()}
	case o := <-done:
		if o.err != nil {
			return Exec{}, &UnsupportedError{"a start of our own is not kept back", o.err}
		}
		return o.exec, nil
	}
}

// emptyProgram is a file that may be executed, and does nothing.
func emptyProgram() (*os.File, error) {
	file, err := inMemory()
	if errors.Is(err, unix.ENOSYS) { // before Linux 3.17
		file, err = onDisk()
	}
	if err != nil {
		return nil, fmt.Errorf("make an empty program: %w", err)
	}
	return file, nil
}

const programName = "bootrace-try"

func inMemory() (*os.File, error) {
	fd, err := unix.MemfdCreate(programName, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 all may be executed
		fd, err = unix.MemfdCreate(programName, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), programName), nil
}

// onDisk makes a file that is gone when it is closed.
func onDisk() (*os.File, error) {
	file, err := os.CreateTemp("", programName+"-")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(file.Chmod(0o700), os.Remove(file.Name())); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// tried are the arguments that the child executes the file with: more than a
// probe records at a time.
var tried = []string{"/proc/self/fd/3", "-name", programName, "-nodefaults", "-display", "none", "-monitor", "none", "-serial", "none", "-S"}

// startChild starts a shell that executes the file in its own stead. This
// process must not: a fork is not done before its exec is, and all of Go waits
// for it.
func startChild(file *os.File) (*exec.Cmd, error) {
	child := exec.Command("/bin/sh", append([]string{"-c", `exec "$0" "$@"`}, tried...)...)
	child.ExtraFiles = []*os.File{file} // descriptor 3
	return child, child.Start()
}

// readTrial is how long the arguments of the child may take to read: it takes a
// fraction of a millisecond, or for ever.
const readTrial = 2 * time.Second

func tryArguments(ctx context.Context, gate Gate, e Exec, args Arguments, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, min(limit, readTrial))
	defer cancel()
	type outcome struct {
		task *Task
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		task, err := args.Of(ctx, e.TID)
		done <- outcome{task, errors.Join(err, gate.Answer(e, true))}
	}()
	select {
	case <-ctx.Done():
		return &UnsupportedError{"the arguments of a start that is being held did not come in time: reading them blocks, as it does before Linux 5.7, or this host is very slow", ctx.Err()}
	case o := <-done:
		if o.err != nil {
			return &UnsupportedError{"the arguments of a start that is being held can't be read", o.err}
		}
		if !slices.Equal(o.task.Args, tried) {
			return &UnsupportedError{Reason: fmt.Sprintf("the arguments of a start that is being held are read wrong: %q", o.task.Args)}
		}
		return nil
	}
}
