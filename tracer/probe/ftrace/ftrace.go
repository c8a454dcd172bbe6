// Package ftrace uses the kernel's trace files: it defines kprobe events, turns
// events on in a trace instance of its own, and reads that instance's ring
// buffers.
//
// It needs nothing that Linux 3.10 lacks: the folder may be in debugfs, there
// may be no instances, and the trace clocks may be those of old. Whatever it
// makes bears the name of the process that made it, so that a later one can
// clear away what a crash has left.
package ftrace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Where the trace files can be.
const (
	tracefsDir = "/sys/kernel/tracing"
	debugfsDir = "/sys/kernel/debug"
)

// What keeps the trace files from being used. Errors wrap one of these.
var (
	ErrNoTracing    = errors.New("kernel has no trace files")
	ErrNotPermitted = errors.New("not permitted to use the trace files")
	ErrNoKprobes    = errors.New("kernel has no kprobe events (CONFIG_KPROBE_EVENTS)")
	// ErrBusy says that somebody else is tracing and the kernel has no instance
	// to do it beside them.
	ErrBusy = errors.New("somebody else is tracing, and the kernel has no trace instances")
)

// Dir is the folder of the trace files.
type Dir string

// Find returns the folder, mounting tracefs or debugfs where nobody has yet, as
// in an initramfs.
func Find() (Dir, error) {
	return find(tracefsDir, debugfsDir, mount)
}

func find(tracefs, debugfs string, mount func(kind, at string) error) (Dir, error) {
	inDebugfs := filepath.Join(debugfs, "tracing")
	for _, dir := range []string{tracefs, inDebugfs} {
		if isTracing(dir) {
			return Dir(dir), nil
		}
	}
	// tracefs is on its own since Linux 4.1.
	first := mount("tracefs", tracefs)
	if isTracing(tracefs) {
		return Dir(tracefs), nil
	}
	second := mount("debugfs", debugfs)
	if isTracing(inDebugfs) {
		return Dir(inDebugfs), nil
	}
	err := errors.Join(first, second)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return "", fmt.Errorf("find the trace files: %w: run as root; kernel lockdown must not be \"confidentiality\" (%w)", ErrNotPermitted, err)
	}
	return "", fmt.Errorf("find the trace files: %w: it needs CONFIG_FTRACE, and sysfs mounted on /sys", ErrNoTracing)
}

func mount(kind, at string) error {
	return os.NewSyscallError("mount "+kind, unix.Mount(kind, at, kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""))
}

// isTracing goes by a file, since the folder exists without the file system,
// too, and looking into it makes the kernel mount the one below debugfs.
func isTracing(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "tracing_on"))
	return err == nil
}

func (d Dir) path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// Has reports whether the kernel has that file.
func (d Dir) Has(elem ...string) bool {
	_, err := os.Stat(d.path(elem...))
	return err == nil
}

// write writes to a trace file as the kernel wants it: in one piece, and
// without truncating, which empties some of them.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Clock is a trace clock.
type Clock string

// BootClock is CLOCK_BOOTTIME itself; it exists since Linux 4.10. GlobalClock
// is the one of all kernels that agrees over processors.
const (
	BootClock   Clock = "boot"
	GlobalClock Clock = "global"
)

// clocks parses a trace_clock file: names, the present one in brackets.
func clocks(text string) []Clock {
	var list []Clock
	for _, name := range strings.Fields(text) {
		list = append(list, Clock(strings.Trim(name, "[]")))
	}
	return list
}

// chooseClock returns the best of those that the kernel has.
func chooseClock(have []Clock) Clock {
	if slices.Contains(have, BootClock) {
		return BootClock
	}
	return GlobalClock
}
