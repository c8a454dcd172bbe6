package service

import (
	"cmp"
	"context"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/control"
)

// An instance that was started in the initramfs goes on through the switch to
// the real root and becomes the service: its probes, sockets and buffers stay
// as they are, so there is no instant that nobody sees and none that two see.
// The unit's own process finds it, has it move into the unit, names it to
// systemd as the main process, and ends.

// TakeOver looks for a running instance. It returns nil where there is none,
// an *Adopted error where the one from the initramfs now is the service, and
// another error where a service runs already. An early instance of another
// build is stopped; the log says what may be missing in between, and replaced is its
// version.
func TakeOver(ctx context.Context, socket string, log *slog.Logger) (replaced string, err error) {
	var other Status
	err = control.Call(ctx, socket, control.Request{Do: control.Status}, &other)
	if errors.Is(err, control.ErrNoService) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !other.Early {
		return "", fmt.Errorf("bootrace is running already, as process %d: `bootrace status` shows it, `systemctl stop bootrace` ends it", other.PID)
	}
	why := "it is another build: run update-initramfs -u"
	if other.Build == buildID() {
		err := control.Call(ctx, socket, control.Request{Do: control.Adopt, Args: UnitEnvironment()}, nil)
		if err == nil {
			return "", &Adopted{PID: other.PID}
		}
		why = err.Error()
	} else {
		replaced = cmp.Or(other.Version, "unknown")
	}
	log.Warn("the instance from the initramfs is replaced: its record has a gap", "pid", other.PID, "why", why)
	stop := control.Request{Do: control.Stop, Args: map[string]string{"why": "replaced: " + why}}
	if err := control.Call(ctx, socket, stop, nil); err != nil {
		return replaced, fmt.Errorf("stop the instance from the initramfs: %w", err)
	}
	return replaced, waitGone(ctx, socket)
}

// Adopted is the error of TakeOver where nothing is left to do.
type Adopted struct{ PID int }

func (a *Adopted) Error() string {
	return fmt.Sprintf("process %d, started in the initramfs, is the service now", a.PID)
}

func waitGone(ctx context.Context, socket string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := control.Call(ctx, socket, control.Request{Do: control.Status}, nil)
		if errors.Is(err, control.ErrNoService) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the instance from the initramfs to end: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// buildID identifies this build of the program, by the note that Go's linker
// writes. Empty where it can't be read: then nothing equals it.
func buildID() string {
	self, err := elf.Open("/proc/self/exe")
	if err != nil {
		return ""
	}
	defer self.Close()
	note := self.Section(".note.go.buildid")
	if note == nil {
		return ""
	}
	data, err := note.Data()
	if err != nil {
		return ""
	}
	return hex.EncodeToString(data)
}

// root is a way back to the host's root from a process whose own root was left
// behind by the switch from the initramfs.
type root struct {
	proc int // descriptor of /proc, which the switch moves along
}

func openRoot() (*root, error) {
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc: %w", err)
	}
	return &root{proc}, nil
}

// enter makes the root of process 1 the root of this process, all threads of
// which share it.
func (r *root) enter() error {
	host, err := unix.Openat(r.proc, "1/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the root of process 1: %w", err)
	}
	defer unix.Close(host)
	if err := unix.Fchdir(host); err != nil {
		return fmt.Errorf("go to the root of process 1: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change to the root of process 1: %w", err)
	}
	return unix.Chdir("/")
}

// joinCgroups moves this process into the control groups of process pid, so
// that systemd takes it for a part of the unit.
func joinCgroups(pid int) error {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return fmt.Errorf("read the control groups of process %d: %w", pid, err)
	}
	joined := false
	for line := range strings.Lines(string(data)) {
		folder := cgroupFolder(strings.TrimSpace(line))
		if folder == "" {
			continue
		}
		procs := filepath.Join(folder, "cgroup.procs")
		if err := os.WriteFile(procs, []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return fmt.Errorf("join %s: %w", folder, err)
		}
		joined = true
	}
	if !joined {
		return fmt.Errorf("process %d is in no control group that systemd keeps", pid)
	}
	return nil
}

// cgroupFolder maps a line of /proc/PID/cgroup, "id:controllers:path", to the
// folder of systemd's hierarchy: the unified one, or the named one of hosts
// that still have version 1. Other hierarchies give "".
func cgroupFolder(line string) string {
	parts := strings.SplitN(line, ":", 3)
	if len(parts) != 3 {
		return ""
	}
	var base string
	switch {
	case parts[1] == "name=systemd":
		base = "/sys/fs/cgroup/systemd"
	case parts[0] == "0" && parts[1] == "":
		base = "/sys/fs/cgroup"
		if _, err := os.Stat("/sys/fs/cgroup/unified/cgroup.procs"); err == nil {
			base = "/sys/fs/cgroup/unified"
		}
	default:
		return ""
	}
	return filepath.Join(base, parts[2])
}
