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
)

// Try finds out whether starts can be held here: a child of our own executes a
// file that a gate guards, and its arguments must come within limit. Kernels
// are not told apart by their version. The error is an *UnsupportedError.
//
// Where reading them blocks, as it does before Linux 5.7, closing the gate ends
// that.
func Try(ctx context.Context, open func() (Gate, error), args Arguments, limit time.Duration) error {
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
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	child, err := startChild(file)
	if err != nil {
		return &UnsupportedError{"it can't be tried", err}
	}
	err = tryChild(ctx, gate, args)
	gate.Close() // before the child is waited for
	_ = child.Process.Kill()
	_ = child.Wait()
	return err
}

// Possible finds out whether this host's starts can be held, as Open would.
func Possible(ctx context.Context) error { return Try(ctx, OpenFanotify, heldTask{}, tryLimit) }

// emptyProgram is a file that may be executed, and does nothing.
func emptyProgram() (*os.File, error) {
	fd, err := unix.MemfdCreate("bootrace-try", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 all may be executed
		fd, err = unix.MemfdCreate("bootrace-try", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("make an empty program: %w", err)
	}
	return os.NewFile(uintptr(fd), "bootrace-try"), nil
}

// tried are the arguments that the child executes the file with.
var tried = []string{"/proc/self/fd/3", "-name", "bootrace-try"}

// startChild starts a shell that executes the file in its own stead. This
// process must not: a fork is not done before its exec is, and all of Go waits
// for it.
func startChild(file *os.File) (*exec.Cmd, error) {
	child := exec.Command("/bin/sh", "-c", `exec "$0" "$@"`, tried[0], tried[1], tried[2])
	child.ExtraFiles = []*os.File{file} // descriptor 3
	return child, child.Start()
}

func tryChild(ctx context.Context, gate Gate, args Arguments) error {
	type outcome struct {
		task *Task
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		e, err := gate.Next()
		if err != nil {
			done <- outcome{nil, err}
			return
		}
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
