package lvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Command runs the host's own lvm.
type Command struct {
	Path string // empty: lvm, wherever PATH has it
}

// Bounds of what a command may print.
const (
	maxOutput = 32 << 20 // bytes
	maxError  = 4 << 10
)

// grace is how long a command that was killed is waited for. One that waits for
// a dead disk cannot be killed; it is left behind.
const grace = 2 * time.Second

// idle is the io priority class that only gets what nobody else wants
// (IOPRIO_CLASS_IDLE, linux/ioprio.h).
const idle = 3 << 13

// Run runs one command at the lowest priority.
func (c Command) Run(ctx context.Context, command string, args ...string) ([]byte, error) {
	path := c.Path
	if path == "" {
		path = "lvm"
	}
	cmd := exec.CommandContext(ctx, path, append([]string{command}, args...)...)
	cmd.Env = []string{"LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.WaitDelay = grace
	stdout, stderr := &bounded{most: maxOutput}, &bounded{most: maxError}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	yield(cmd.Process.Pid)
	if err := cmd.Wait(); err != nil {
		return nil, failure(err, stderr.kept.String())
	}
	if stdout.cut {
		return nil, fmt.Errorf("it printed more than %d bytes", maxOutput)
	}
	return stdout.kept.Bytes(), nil
}

// yield gives way to everything else on the host. Without the right to, it goes
// on as it is.
func yield(pid int) {
	const lowest = 19
	_ = unix.Setpriority(unix.PRIO_PROCESS, pid, lowest)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, 1 /* IOPRIO_WHO_PROCESS */, uintptr(pid), idle)
}

// failure puts what the command said before its status.
func failure(err error, said string) error {
	if said = strings.Join(strings.Fields(said), " "); said != "" {
		return fmt.Errorf("%s (%w)", said, err)
	}
	return err
}

// bounded keeps the first bytes of what is written to it.
type bounded struct {
	kept bytes.Buffer
	most int
	cut  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := b.most - b.kept.Len()
	b.cut = b.cut || len(p) > room
	_, _ = b.kept.Write(p[:min(len(p), room)])
	return len(p), nil
}

// Missing reports whether err means that there is no LVM on this host.
func Missing(err error) bool { return errors.Is(err, exec.ErrNotFound) }
