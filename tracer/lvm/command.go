package lvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command runs the host's own lvm: the only place where bootrace executes it.
type Command struct {
	Path string // empty: lvm, wherever PATH has it
	// Changes says that the command changes something, such as lvchange. It then
	// runs at bootrace's own priority, because somebody waits for it, and has
	// longer to end by itself when its time is over.
	Changes bool
}

// Output is what a command printed.
type Output struct {
	// Stdout is the beginning, at most 32 MiB, and Cut is set where there was
	// more.
	Stdout []byte
	Cut    bool
	// Stderr is the end, at most 64 KiB: LVM's last message says why it failed.
	Stderr []byte
}

// Bounds of what is kept of Output, in bytes.
const (
	maxOutput = 32 << 20
	maxError  = 64 << 10
)

// How long a command may take to end once it was told to. LVM finishes what it
// must not leave half done. A command that waits for a dead disk cannot even be
// killed; after this time it is left behind.
const (
	grace       = 2 * time.Second
	changeGrace = 10 * time.Second
)

// idle is the io priority class that only gets what nobody else wants
// (IOPRIO_CLASS_IDLE, linux/ioprio.h).
const idle = 3 << 13

// Failure is the error of a command that ran and failed.
type Failure struct {
	Command string // "lvs"
	Said    string // LVM's messages, on one line; can be empty
	Err     error  // how it ended
}

func (f *Failure) Error() string {
	if f.Said == "" {
		return f.Command + ": " + f.Err.Error()
	}
	return fmt.Sprintf("%s: %s (%v)", f.Command, f.Said, f.Err)
}

func (f *Failure) Unwrap() error { return f.Err }

// Run runs one command, "lvs" say. What it printed is returned whatever its
// status is: LVM prints the answers that it has beside the error for the one
// that it has not. When ctx ends, the error is the cause of that.
func (c Command) Run(ctx context.Context, command string, args ...string) (Output, error) {
	path := c.Path
	if path == "" {
		path = "lvm"
	}
	cmd := exec.CommandContext(ctx, path, append([]string{command}, args...)...)
	cmd.Env = environment()
	// A group of its own: the service changes the priority of that of its own.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	if c.Changes {
		cmd.WaitDelay = changeGrace
	}
	stdout, stderr := &head{most: maxOutput}, &tail{most: maxError}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Start()
	if err == nil {
		if !c.Changes {
			yield(cmd.Process.Pid)
		}
		err = cmd.Wait()
	}
	out := Output{Stdout: stdout.kept.Bytes(), Cut: stdout.cut, Stderr: stderr.bytes()}
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return out, fmt.Errorf("%s: %w", command, context.Cause(ctx))
	}
	return out, &Failure{Command: command, Said: brief(out.Stderr), Err: err}
}

// environment has LVM speak English and keep silent about descriptors. Of the
// caller's own it has only the folder of LVM's configuration (lvm(8)).
func environment() []string {
	env := []string{"LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if dir := os.Getenv("LVM_SYSTEM_DIR"); dir != "" {
		env = append(env, "LVM_SYSTEM_DIR="+dir)
	}
	return env
}

// yield gives way to everything else on the host. Without the right to, it goes
// on as it is.
func yield(pid int) {
	const lowest = 19
	_ = unix.Setpriority(unix.PRIO_PROCESS, pid, lowest)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, 1 /* IOPRIO_WHO_PROCESS */, uintptr(pid), idle)
}

// brief is what LVM complained of, on one line: without warnings where there is
// something worse, and the end where it is long.
func brief(stderr []byte) string {
	const most = 400 // bytes
	said := messages(stderr)
	var errs []string
	for _, line := range said {
		if !strings.HasPrefix(line, "WARNING:") {
			errs = append(errs, line)
		}
	}
	if len(errs) == 0 {
		errs = said
	}
	first, size := len(errs), 0
	for first > 0 && size+len(errs[first-1]) < most {
		first--
		size += len(errs[first]) + 1
	}
	return strings.Join(errs[first:], " ")
}

// head keeps the first bytes of what is written to it.
type head struct {
	kept bytes.Buffer
	most int
	cut  bool
}

func (h *head) Write(p []byte) (int, error) {
	room := h.most - h.kept.Len()
	h.cut = h.cut || len(p) > room
	_, _ = h.kept.Write(p[:min(len(p), room)])
	return len(p), nil
}

// tail keeps the last bytes of what is written to it.
type tail struct {
	kept []byte
	most int
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-t.most):]...)
	if len(t.kept) > 2*t.most {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-t.most:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte { return t.kept[max(0, len(t.kept)-t.most):] }

// Missing reports whether err means that there is no LVM on this host.
func Missing(err error) bool { return errors.Is(err, exec.ErrNotFound) }
