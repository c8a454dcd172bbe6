package ebpf

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/probe/backend"
)

const (
	tracefsDir = "/sys/kernel/tracing"
	debugfsDir = "/sys/kernel/debug/tracing"
)

// ensureTracefs mounts tracefs where nobody has done so yet: in an initramfs.
func ensureTracefs() error {
	if isTracefs(tracefsDir) || isTracefs(debugfsDir) {
		return nil
	}
	err := unix.Mount("tracefs", tracefsDir, "tracefs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	switch {
	case err == nil || isTracefs(tracefsDir):
		return nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("mount tracefs on %s: %w: it needs CONFIG_TRACING, and sysfs mounted on /sys", tracefsDir, backend.ErrNoTracefs)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("mount tracefs on %s: %w: run as root, or mount it before", tracefsDir, backend.ErrNotPermitted)
	}
	return fmt.Errorf("mount tracefs on %s: %w", tracefsDir, os.NewSyscallError("mount", err))
}

func isTracefs(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && fs.Type == unix.TRACEFS_MAGIC
}
