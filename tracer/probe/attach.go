package probe

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/bootrace/bootrace/bpf"
)

// family is a group of probes that give one ability together.
type family struct {
	ability string
	limits  string // what it cannot see even if all is well
	// attachments are in the order of attaching: the exit of a system call
	// before its entry, so that every call that is noted is also completed.
	attachments []attachment
}

type attachment struct {
	name     string
	required bool // else it may be missing: open(2) is on arm64, openat2 before 5.6
	attach   func() (link.Link, error)
}

func raw(name string, p *ebpf.Program) attachment {
	return attachment{name, true, func() (link.Link, error) {
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: p})
	}}
}

// systemCall returns the attachments for the exit and the entry of a system call.
func systemCall(name string, required bool, enter, exit *ebpf.Program) []attachment {
	at := func(event string, p *ebpf.Program) attachment {
		return attachment{event, required, func() (link.Link, error) {
			return link.Tracepoint("syscalls", event, p, nil)
		}}
	}
	return []attachment{at("sys_exit_"+name, exit), at("sys_enter_"+name, enter)}
}

// families lists all probes, the most urgent first.
func (b *eBPF) families() []family {
	o := &b.objs
	return []family{
		{AbilityExec, "", []attachment{raw("sched_process_exec", o.OnExec)}},
		{AbilityExit, "", []attachment{raw("sched_process_exit", o.OnExit), raw("sched_process_fork", o.OnFork)}},
		{AbilityDM, "not seen: 32-bit programs, dm-mod.create= of the kernel command line",
			systemCall("ioctl", true, o.EnterIoctl, o.ExitIoctl)},
		{AbilityOpen, "not seen: 32-bit programs, io_uring", join(
			systemCall("openat", true, o.EnterOpenat, o.ExitOpen),
			systemCall("open", false, o.EnterOpen, o.ExitOpen),
			systemCall("openat2", false, o.EnterOpenat2, o.ExitOpen))},
		{AbilityLink, "", join(
			systemCall("symlinkat", true, o.EnterSymlinkat, o.ExitLink),
			systemCall("symlink", false, o.EnterSymlink, o.ExitLink),
			systemCall("rename", false, o.EnterRename, o.ExitLink),
			systemCall("renameat", false, o.EnterRenameat, o.ExitLink),
			systemCall("renameat2", false, o.EnterRenameat, o.ExitLink))},
	}
}

// programs returns the programs by the kind of event that they feed.
func (b *eBPF) programs() map[string][]*ebpf.Program {
	o := &b.objs
	return map[string][]*ebpf.Program{
		bpf.KindExec.String(): {o.OnExec},
		bpf.KindExit.String(): {o.OnExit},
		bpf.KindFork.String(): {o.OnFork},
		bpf.KindDM.String():   {o.EnterIoctl, o.ExitIoctl},
		bpf.KindOpen.String(): {o.EnterOpen, o.EnterOpenat, o.EnterOpenat2, o.ExitOpen},
		bpf.KindLink.String(): {o.EnterSymlink, o.EnterSymlinkat, o.EnterRename, o.EnterRenameat, o.ExitLink},
	}
}

func join(lists ...[]attachment) []attachment {
	var all []attachment
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
