package probe

import (
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/event"
)

// This file is the one place where opens are dropped that the kernel side has
// let through. What the kernel side drops is in bpf/open.h; it gets its folders from
// here.

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

// pathHeads compiles folders for the kernel side, which looks at the first eight bytes
// of a path. Folders with longer names are left out, and what is opened there is
// dropped here.
func pathHeads(dirs []string) (heads [bpf.MaxSystemDirs]bpf.PathHead, n uint32) {
	for _, dir := range dirs {
		var value, mask [8]byte
		if len(dir) > len(value) || int(n) == len(heads) {
			continue
		}
		for i := range copy(value[:], dir) {
			mask[i] = 0xff
		}
		heads[n] = bpf.PathHead{Value: binary.LittleEndian.Uint64(value[:]), Mask: binary.LittleEndian.Uint64(mask[:])}
		n++
	}
	return heads, n
}

func hasAnyPrefix(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}
