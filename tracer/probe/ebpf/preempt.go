package ebpf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// This file has what there is to ask about preemption. The kernel can be built
// for it, which decides how much it keeps ready for probes (builtPreemptible),
// and yet not do it, which decides whether a program runs to its end
// (mayPreempt).

// kernelVersion is what uname -v prints.
func kernelVersion() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Version[:])
}

// builtPreemptible reports whether a kernel of that version has
// CONFIG_PREEMPTION.
func builtPreemptible(version string) bool { return strings.Contains(version, "PREEMPT") }

// realTime reports whether a kernel of that version has CONFIG_PREEMPT_RT.
func realTime(version string) bool { return strings.Contains(version, "PREEMPT_RT") }

// mayPreempt reports whether a kernel of that version takes the processor away
// from a process that it works for, and is true, too, where that cannot be found
// out. mode is asked for its preemption mode, where there is a choice
// (PREEMPT_DYNAMIC, Linux 5.12).
func mayPreempt(version string, mode func() (string, error)) bool {
	if !strings.Contains(version, "PREEMPT_DYNAMIC") {
		return builtPreemptible(version)
	}
	m, err := mode()
	return err != nil || m != "none" && m != "voluntary"
}

// preemptionMode is the mode of a kernel where it can be chosen: none,
// voluntary, lazy or full. Lockdown forbids to read it in debugfs; then the
// kernel's log has it, for as long as it goes back to the boot.
func preemptionMode() (string, error) {
	text, err := readDebugfs("sched/preempt")
	if mode, ok := inParentheses(string(text)); ok {
		return mode, nil
	}
	if err == nil {
		err = fmt.Errorf("debugfs sched/preempt has %q", text)
	}
	log, logErr := kernelLog()
	if mode, ok := lastMode(log); ok {
		return mode, nil
	}
	if logErr == nil {
		logErr = errors.New("the kernel's log does not go back to the boot")
	}
	return "", fmt.Errorf("find out whether this kernel preempts itself: %w", errors.Join(err, logErr))
}

// preempts reports whether this kernel preempts itself, with a word in the log if that
// cannot be found out.
func preempts(log *slog.Logger) bool {
	return mayPreempt(kernelVersion(), func() (string, error) {
		mode, err := preemptionMode()
		if err != nil {
			log.Info("probes that cannot be preempted are taken, though they may not be needed", "err", err)
		}
		return mode, err
	})
}

// inParentheses returns the chosen one of several words.
func inParentheses(text string) (string, bool) {
	_, after, _ := strings.Cut(text, "(")
	word, _, ok := strings.Cut(after, ")")
	return word, ok
}

// lastMode finds what the kernel has last said about its mode: at the boot, and
// each time that somebody chose another.
func lastMode(log string) (string, bool) {
	const says = "] Dynamic Preempt: "
	i := strings.LastIndex(log, says)
	if i < 0 {
		return "", false
	}
	mode, _, _ := strings.Cut(log[i+len(says):], "\n")
	return strings.TrimSpace(mode), true
}

func kernelLog() (string, error) {
	const sizeBuffer, readAll = 10, 3 // SYSLOG_ACTION_*, syslog(2)
	size, err := unix.Klogctl(sizeBuffer, nil)
	if err != nil {
		return "", os.NewSyscallError("syslog", err)
	}
	buf := make([]byte, size)
	n, err := unix.Klogctl(readAll, buf)
	if err != nil {
		return "", os.NewSyscallError("syslog", err)
	}
	return string(buf[:n]), nil
}

// readDebugfs reads a file of debugfs. Where that is not mounted, as in an
// initramfs, it stays so: the mount that this takes is in no folder, and nobody
// else sees it (Linux 5.2). It is not made without need: before Linux 6.1,
// b8de524ce46e, a second one resets the first one's mode.
func readDebugfs(path string) ([]byte, error) {
	const mounted = "/sys/kernel/debug"
	text, err := os.ReadFile(filepath.Join(mounted, path))
	var st unix.Statfs_t
	if !errors.Is(err, fs.ErrNotExist) || unix.Statfs(mounted, &st) == nil && st.Type == unix.DEBUGFS_MAGIC {
		return text, err
	}
	dir, err := unseenMount("debugfs")
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: "debugfs " + path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	return io.ReadAll(f)
}

// unseenMount mounts a file system without a place, and returns its root. The
// mount ends when that is closed.
func unseenMount(kind string) (root int, err error) {
	fd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen "+kind, err)
	}
	defer unix.Close(fd)
	if err := unix.FsconfigCreate(fd); err != nil {
		return -1, os.NewSyscallError("fsconfig "+kind, err)
	}
	root, err = unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	return root, os.NewSyscallError("fsmount "+kind, err)
}
