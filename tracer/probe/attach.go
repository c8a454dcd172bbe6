package probe

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
)

// family is a group of probes that give one ability together.
type family struct {
	ability string
	ways    []way // the cheapest first; one of them is used
}

// way is one way to attach a family.
type way struct {
	limits string // what it cannot see even if all is well
	// attachments are in the order of attaching: the exit of a system call
	// before its entry, so that every call that is noted is also completed.
	attachments []attachment
}

type attachment struct {
	name     string
	kind     bpf.Kind // of the events that are lost with it
	required bool     // else it may be missing: open(2) is on arm64, openat2 before 5.6
	program  string
	attach   func(*ebpf.Program) (link.Link, error)
}

func raw(name string, kind bpf.Kind, program string) attachment {
	return attachment{name, kind, true, program, func(p *ebpf.Program) (link.Link, error) {
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: p})
	}}
}

// systemCall returns the attachments for the exit and the entry of a system call.
func systemCall(name string, kind bpf.Kind, required bool, enter, exit string) []attachment {
	at := func(event, program string) attachment {
		return attachment{event, kind, required, program, func(p *ebpf.Program) (link.Link, error) {
			return link.Tracepoint("syscalls", event, p, nil)
		}}
	}
	return []attachment{at("sys_exit_"+name, exit), at("sys_enter_"+name, enter)}
}

// functionCall returns the attachments of trampolines: for the exit of a kernel
// function and the entry of the same, or of one that it calls.
func functionCall(name string, kind bpf.Kind, enter, exit string) []attachment {
	at := func(what, program string) attachment {
		return attachment{what + " of " + name, kind, true, program, func(p *ebpf.Program) (link.Link, error) {
			return link.AttachTracing(link.TracingOptions{Program: p})
		}}
	}
	return []attachment{at("fexit", exit), at("fentry", enter)}
}

// rareCall returns the attachments of kprobes for the exit and the entry of a
// kernel function.
func rareCall(name string, kind bpf.Kind, enter, exit string) []attachment {
	return []attachment{
		{"kretprobe of " + name, kind, true, exit, func(p *ebpf.Program) (link.Link, error) { return returnOf(name, p) }},
		{"kprobe of " + name, kind, true, enter, func(p *ebpf.Program) (link.Link, error) { return link.Kprobe(name, p, nil) }},
	}
}

// fewProcessors is fewer than the calls that can be under way. For the return of
// a call to be seen the kernel has to have kept room for it: as much as there are
// processors, or at least for ten where it is preemptible, or newer than 6.1. A
// rename that waits for a disk takes that room.
const fewProcessors = 10

// returnOf attaches to the return of a kernel function. More room than the
// kernel likes is to be had by way of the trace files only, where events stay
// behind if we are killed: they bear our name, and Dir.RemoveStale finds them.
func returnOf(name string, p *ebpf.Program) (link.Link, error) {
	if n, err := ebpf.PossibleCPU(); err == nil && n < fewProcessors && !preemptible() {
		if owner, err := ftrace.Owner(); err == nil {
			l, err := link.Kretprobe(name, p, &link.KprobeOptions{RetprobeMaxActive: ftrace.MaxActive, TraceFSPrefix: owner})
			if err == nil {
				return l, nil
			}
		}
	}
	return link.Kretprobe(name, p, nil)
}

// preemptible reports whether the kernel is: its version says so.
func preemptible() bool {
	var u unix.Utsname
	return unix.Uname(&u) == nil && strings.Contains(unix.ByteSliceToString(u.Version[:]), "PREEMPT")
}

const (
	limitsDM     = "not seen: 32-bit programs, dm-mod.create= of the kernel command line"
	limitsOpen   = "not seen: 32-bit programs, io_uring"
	limitsOpenAt = "not seen: io_uring"
)

// families lists all probes, the most urgent first.
func families() []family {
	return []family{
		{AbilityExec, []way{{"", []attachment{raw("sched_process_exec", bpf.KindExec, bpf.ProbesProgOnExec)}}}},
		{AbilityExit, []way{{"", []attachment{
			raw("sched_process_exit", bpf.KindExit, bpf.ProbesProgOnExit),
			raw("sched_process_fork", bpf.KindFork, bpf.ProbesProgOnFork),
		}}}},
		{AbilityDM, []way{
			{limitsDM, functionCall("ioctl", bpf.KindDM, bpf.ProbesProgFastEnterIoctl, bpf.ProbesProgFastExitIoctl)},
			{limitsDM, systemCall("ioctl", bpf.KindDM, true, bpf.ProbesProgEnterIoctl, bpf.ProbesProgExitIoctl)},
		}},
		{AbilityOpen, []way{
			{limitsOpenAt, functionCall("do_sys_openat2", bpf.KindOpen, bpf.ProbesProgFastEnterOpen, bpf.ProbesProgFastExitOpen)},
			{limitsOpen, join(
				systemCall("openat", bpf.KindOpen, true, bpf.ProbesProgEnterOpenat, bpf.ProbesProgExitOpen),
				systemCall("open", bpf.KindOpen, false, bpf.ProbesProgEnterOpen, bpf.ProbesProgExitOpen),
				systemCall("openat2", bpf.KindOpen, false, bpf.ProbesProgEnterOpenat2, bpf.ProbesProgExitOpen))},
		}},
		{AbilityLink, []way{
			{"", join(
				rareCall("do_symlinkat", bpf.KindLink, bpf.ProbesProgProbeEnterSymlink, bpf.ProbesProgProbeExitLink),
				rareCall("do_renameat2", bpf.KindLink, bpf.ProbesProgProbeEnterRename, bpf.ProbesProgProbeExitLink))},
			{"", join(
				systemCall("symlinkat", bpf.KindLink, true, bpf.ProbesProgEnterSymlinkat, bpf.ProbesProgExitLink),
				systemCall("symlink", bpf.KindLink, false, bpf.ProbesProgEnterSymlink, bpf.ProbesProgExitLink),
				systemCall("rename", bpf.KindLink, false, bpf.ProbesProgEnterRename, bpf.ProbesProgExitLink),
				systemCall("renameat", bpf.KindLink, false, bpf.ProbesProgEnterRenameat, bpf.ProbesProgExitLink),
				systemCall("renameat2", bpf.KindLink, false, bpf.ProbesProgEnterRenameat, bpf.ProbesProgExitLink))},
		}},
	}
}

// attach attaches a family in the first way that this kernel has, or nothing of
// it. It returns what that way cannot see.
func (b *eBPF) attach(f family) (limits string, err error) {
	for i, w := range f.ways {
		if err = b.attachAll(w.attachments); err == nil {
			return w.limits, nil
		}
		if i+1 < len(f.ways) {
			b.log.Debug("cannot attach in the cheapest way", "probes", f.ability, "err", err)
		}
	}
	return "", err
}

func (b *eBPF) attachAll(attachments []attachment) error {
	var links []link.Link
	for _, a := range attachments {
		l, err := b.attachOne(a)
		switch {
		case err == nil:
			links = append(links, l)
		case !a.required && errors.Is(err, os.ErrNotExist):
		default:
			return errors.Join(err, closeLinks(links), b.dropAll(attachments))
		}
	}
	b.links = append(b.links, links...)
	for _, a := range attachments {
		b.feeds[a.program] = a.kind
	}
	return nil
}

func (b *eBPF) attachOne(a attachment) (link.Link, error) {
	p, err := b.programs.load(a.program)
	if err != nil {
		return nil, err
	}
	l, err := a.attach(p)
	if err != nil {
		return nil, explain("attach to "+a.name, err)
	}
	return l, nil
}

func (b *eBPF) dropAll(attachments []attachment) error {
	var names []string
	for _, a := range attachments {
		names = append(names, a.program)
	}
	if err := b.programs.drop(names...); err != nil {
		return fmt.Errorf("free programs: %w", err)
	}
	return nil
}

// of returns the attached programs that feed one kind of event.
func (b *eBPF) of(kind bpf.Kind) []*ebpf.Program {
	var of []*ebpf.Program
	for name, k := range b.feeds {
		if p := b.programs.loaded[name]; k == kind && p != nil {
			of = append(of, p)
		}
	}
	return of
}

func join(lists ...[]attachment) []attachment {
	var all []attachment
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
