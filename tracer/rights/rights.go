// Package rights says what this process may do on the host: is it root, which
// capabilities that tracing takes does it lack, is it in a container, which has
// namespaces of its own and sees less than the host, and what does the kernel
// forbid even to root.
package rights

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Rights are those of a process.
type Rights struct {
	Root bool
	// Missing are the capabilities that it lacks, as in "CAP_SYS_ADMIN".
	Missing []string
	// Own are the namespaces that are not the host's, as in "pid".
	Own []string
}

// needed are the capabilities that all of bootrace takes, and what for.
var needed = []struct {
	bit  int
	name string
}{
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},       // eBPF, tracefs, fanotify, device-mapper's control node
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},     // the arguments and files of others' guests
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"},       // the proc connector, and large buffers for uevents
	{unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"}, // others' files: images, the trace files
}

// initial are the inodes of the host's own namespaces, which are the same on
// each kernel since 3.8 (PROC_PID_INIT_INO and the like, linux/proc_ns.h).
var initial = []struct {
	name  string
	inode uint64
}{
	{"pid", 0xEFFFFFFC}, {"user", 0xEFFFFFFD},
}

// Own returns the rights of this process, by the /proc below root. What can't
// be read is not missing.
func Own(root string) Rights {
	r := Rights{Root: os.Geteuid() == 0}
	if effective, ok := effective(root); ok {
		for _, c := range needed {
			if effective&(1<<c.bit) == 0 {
				r.Missing = append(r.Missing, c.name)
			}
		}
	}
	for _, ns := range initial {
		if link, err := os.Readlink(filepath.Join(root, "proc/self/ns", ns.name)); err == nil && link != fmt.Sprintf("%s:[%d]", ns.name, ns.inode) {
			r.Own = append(r.Own, ns.name)
		}
	}
	// The host's network namespace has no such number: it is that of process 1,
	// if that is the host's.
	mine, err := os.Readlink(filepath.Join(root, "proc/self/ns/net"))
	if first, err1 := os.Readlink(filepath.Join(root, "proc/1/ns/net")); err == nil && err1 == nil && mine != first {
		r.Own = append(r.Own, "net")
	}
	return r
}

// effective reads the effective capabilities.
func effective(root string) (uint64, bool) {
	text, err := os.ReadFile(filepath.Join(root, "proc/self/status"))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if digits, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(digits), 16, 64)
			return set, err == nil
		}
	}
	return 0, false
}

// Complaint says in one line what is not as tracing needs it, empty if
// nothing is.
func (r Rights) Complaint() string {
	var parts []string
	if !r.Root {
		parts = append(parts, "not root")
	}
	if r.Root && len(r.Missing) > 0 {
		parts = append(parts, "root without "+strings.Join(r.Missing, ", "))
	}
	if len(r.Own) > 0 {
		parts = append(parts, "in a container, which has its own namespaces ("+strings.Join(r.Own, ", ")+"): the host's guests, devices and udev are out of its sight")
	}
	return strings.Join(parts, "; ")
}

// Remedy says what to do about a complaint.
func (r Rights) Remedy() string {
	switch {
	case !r.Root:
		return "run it with sudo: only root may trace a host"
	case len(r.Missing) > 0 || len(r.Own) > 0:
		return "run it on the host; or give the container the host's namespaces and all rights (--privileged --pid=host --network=host, with /dev and /run of the host)"
	}
	return ""
}

// Confidentiality is the lockdown under which the kernel forbids all probes.
const Confidentiality = "confidentiality"

// Lockdown is the kernel's lockdown (Linux 5.4): none, integrity or
// confidentiality, by the /sys below root. Empty where it is not built in.
func Lockdown(root string) string {
	text, err := os.ReadFile(filepath.Join(root, "sys/kernel/security/lockdown"))
	if err != nil {
		return ""
	}
	_, mode, _ := strings.Cut(string(text), "[")
	mode, _, _ = strings.Cut(mode, "]")
	return mode
}
