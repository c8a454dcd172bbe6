// Package syscalls says what the system calls that a probe has seen come to: which opens
// are worth telling, where a link that was renamed leads, what a request has changed of
// device-mapper, how a process has ended. Package ebpf decodes records of a ring buffer
// and package tracefs joins records of a trace; both ask here, so that the same act makes
// the same event, whichever of them saw it.
//
// Flags and numbers are those of the kernel's user interface: open(2), wait(2) and
// linux/dm-ioctl.h.
package syscalls

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// systemDirs never hold a disk.
var systemDirs = event.SystemDirs()

// plainDevs and plainDevDirs are names under /dev that are no storage. They
// are taken, so no volume group can bear one.
var (
	plainDevs = []string{
		"/dev/console", "/dev/fuse", "/dev/kmsg", "/dev/kvm", "/dev/log", "/dev/null",
		"/dev/ptmx", "/dev/random", "/dev/rtc", "/dev/sgx_vepc", "/dev/tty",
		"/dev/urandom", "/dev/zero",
	}
	plainDevDirs = []string{
		"/dev/bus/", "/dev/char/", "/dev/cpu/", "/dev/dri/", "/dev/fd/", "/dev/hugepages/",
		"/dev/input/", "/dev/mqueue/", "/dev/net/", "/dev/pts/", "/dev/shm/", "/dev/snd/",
	}
)

// KeepOpen decides whether an open, by a guest or by another program, can matter to a
// timeline. A block device always does.
//
// It is the last to drop opens, and the one that decides. What backends need not even
// hand to it they drop in the kernel: eBPF's programs (bpf/open.h) and the filter of
// tracefs' probe both pass over what is only read in event.SystemDirs.
func KeepOpen(o *event.OpenInfo, guest bool) bool {
	switch {
	case o.Type == "block":
		return true
	case o.Type == "dir", slices.Contains(plainDevs, o.Path):
		return false
	case !guest:
		return !hasAnyPrefix(o.Path, plainDevDirs)
	}
	// Something written to is a disk, or may become one, wherever it is.
	readOnly := o.Flags&unix.O_ACCMODE == unix.O_RDONLY
	return !readOnly || !hasAnyPrefix(o.Path, systemDirs)
}

func hasAnyPrefix(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// Describe fills in what a successful open has opened: the mode of its inode, 0 for a
// file that was closed too soon to look at it; a device's number as the kernel keeps it
// (major << 20 | minor); the size in bytes, -1 if it is not known.
func Describe(open *event.OpenInfo, mode, dev uint32, size int64) {
	open.Type = fileType(mode)
	switch open.Type {
	case "block":
		open.Dev = &event.Dev{Major: dev >> 20, Minor: dev & (1<<20 - 1)}
		open.Size = size
	case "file":
		open.Size = size
	}
}

// fileType names a mode; nothing for 0.
func fileType(mode uint32) string {
	switch mode & unix.S_IFMT {
	case 0:
		return ""
	case unix.S_IFBLK:
		return "block"
	case unix.S_IFCHR:
		return "char"
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "dir"
	}
	return "other"
}
