// Package kernels is the list of kernels that bootrace is built and tested
// for: where each one comes from, what it can do, and which probes serve on it.
// Package lab boots those that are Debian's.
package kernels

import (
	"fmt"
	"slices"
	"strings"
)

// Userland is the Debian suite of everything but the kernel. It is the same
// for all kernels, so that a difference between two of them is the kernel's.
const Userland = "bookworm"

// Default is the name of the kernel that is used where none is asked for.
const Default = "6.1"

// Kernel is one supported kernel.
type Kernel struct {
	// Name is the kernel's series, as in "6.1", and its flavour if that is not the
	// usual one, as in "6.1-rt".
	Name string
	// Of is the distribution whose kernel it is.
	Of string
	// Suite is the Debian suite whose Package is that series; both are empty
	// where the lab cannot boot it.
	Suite, Package string
	// Abilities are what it offers to probes.
	Abilities []Ability
}

// Ability is something that a kernel offers and probes build on. The program
// never looks it up here: it tries. The list says what to expect.
type Ability string

// The abilities. The comment names what is done without.
const (
	// BPF is eBPF as the programs need it: with a ring buffer and CO-RE.
	BPF Ability = "eBPF"
	// BTF describes the kernel's own types; without it there are no programs.
	BTF Ability = "BTF"
	// ModuleBTF describes those of dm_mod; without it dm_resume is a kprobe.
	ModuleBTF Ability = "module BTF"
	// Fentry are trampolines of kernel functions; else system call tracepoints.
	Fentry Ability = "fentry"
	// Kprobes are dynamic probes; without them an activation is a window.
	Kprobes Ability = "kprobes"
	// Tracefs is a file system of its own; else a folder of debugfs.
	Tracefs Ability = "tracefs outside debugfs"
	// BootClock is a trace clock that is CLOCK_BOOTTIME; else it is measured.
	BootClock Ability = "boot trace clock"
	// Execve is a tracepoint at execve; else there is a kprobe.
	Execve Ability = "execve tracepoint"
	// ExecPerm is FAN_OPEN_EXEC_PERM; else holds use FAN_OPEN_PERM.
	ExecPerm Ability = "exec permission events"
	// Unpreempted are programs of trampolines and raw tracepoints that run to their
	// end: the kernel does not preempt itself, as configured. Else they would miss
	// events, and dearer probes are used that it can't preempt.
	Unpreempted Ability = "not preempted by default"
	// MultiKprobes are kprobes that keep the processor and take no common room for
	// returns (6.14); else a kernel that preempts itself is watched by the
	// tracepoints of system calls.
	MultiKprobes Ability = "multi-kprobes"
	// ReadHeld is that a task held in its exec may be read; before 5.7 the
	// reader blocks with it.
	ReadHeld Ability = "held tasks can be read"
)

// All returns the supported kernels, the oldest first.
func All() []Kernel {
	modern := []Ability{BPF, BTF, Fentry, Kprobes, Tracefs, BootClock, Execve, ExecPerm, ReadHeld}
	newest := append(slices.Clone(modern), ModuleBTF)
	unpreempted := append(slices.Clone(newest), Unpreempted)
	return []Kernel{
		{Name: "3.10", Of: "CentOS 7", Abilities: []Ability{Kprobes}},
		{Name: "5.10", Of: "Debian 11", Suite: "bullseye", Package: "linux-image-amd64", Abilities: append(modern, Unpreempted)},
		{Name: "6.1", Of: "Debian 12", Suite: "bookworm", Package: "linux-image-amd64", Abilities: unpreempted},
		{Name: "6.1-rt", Of: "Debian 12, PREEMPT_RT", Suite: "bookworm", Package: "linux-image-rt-amd64", Abilities: newest},
		{Name: "6.12", Of: "Debian 13", Suite: "trixie", Package: "linux-image-amd64", Abilities: unpreempted},
		{Name: "7.2", Of: "Debian sid", Suite: "sid", Package: "linux-image-amd64", Abilities: append(newest, MultiKprobes)},
	}
}

// Bootable returns the kernels that the lab can boot, the oldest first.
func Bootable() []Kernel {
	return slices.DeleteFunc(All(), func(k Kernel) bool { return k.Package == "" })
}

// Find returns the kernel of that name that the lab can boot; the empty name is
// Default's.
func Find(name string) (Kernel, error) {
	if name == "" {
		name = Default
	}
	all := Bootable()
	i := slices.IndexFunc(all, func(k Kernel) bool { return k.Name == name })
	if i < 0 {
		return Kernel{}, fmt.Errorf("kernel %q is not one that the lab boots: choose from %s", name, strings.Join(names(all), ", "))
	}
	return all[i], nil
}

// Has reports whether k has the ability.
func (k Kernel) Has(a Ability) bool { return slices.Contains(k.Abilities, a) }

func names(ks []Kernel) []string {
	var s []string
	for _, k := range ks {
		s = append(s, k.Name)
	}
	return s
}
