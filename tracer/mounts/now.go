package mounts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Mounted is a mount as a process sees it.
type Mounted struct {
	Point  string // absolute, below the root of the process
	FSType string // "autofs" where it will be mounted by the first who goes there
}

// Now returns what is mounted in the namespace of process pid, 0 for this one,
// in the order in which it was mounted. Mounts on which no image can lie are left
// out.
func Now(pid int) ([]Mounted, error) {
	file, err := os.Open(procPath(pid, "mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	defer file.Close()
	t, err := readTable(file)
	if err != nil {
		return nil, err
	}
	list := make([]Mounted, len(t.mounts))
	for i, m := range t.mounts {
		list[i] = Mounted{Point: m.point, FSType: m.kind}
	}
	return list, nil
}

// Shared reports whether process pid, 0 for this one, sees the mounts that
// Changes follows.
func Shared(pid int) bool {
	own, err := os.Readlink(procPath(pid, "ns/mnt"))
	if err != nil {
		return false
	}
	host, err := os.Readlink(procPath(1, "ns/mnt"))
	if os.IsPermission(err) { // then Changes follows those of this process
		host, err = os.Readlink(procPath(0, "ns/mnt"))
	}
	return err == nil && own == host
}

func procPath(pid int, name string) string {
	if pid == 0 {
		return filepath.Join("/proc/self", name)
	}
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

// pause keeps a host that mounts all the time from keeping its listeners busy.
const pause = 20 * time.Millisecond

// Changes calls changed after each change of the host's mounts, several at once
// as the case may be, until ctx is done, which is no error. Attached is called
// first, as soon as no change can be missed any more.
func Changes(ctx context.Context, attached, changed func()) error {
	fd, err := unix.Open("/proc/1/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil { // without CAP_SYS_PTRACE
		fd, err = unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return fmt.Errorf("follow mounts: %w", err)
	}
	defer unix.Close(fd)
	attached()
	err = tellChanges(ctx, fd, func() {
		changed()
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Covers reports whether path lies below the mount point, or is it.
func Covers(point, path string) bool {
	return point == "/" || path == point || strings.HasPrefix(path, point+"/")
}
