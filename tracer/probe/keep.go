package probe

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// This file is the one place where opens are dropped that the kernel side has
// let through. What the kernel side drops is in bpf/open.h.

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

// keepOpen decides whether an open can matter to a timeline. A block device
// always does.
func keepOpen(o *event.OpenInfo, guest bool) bool {
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
