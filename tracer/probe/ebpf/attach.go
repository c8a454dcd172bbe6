package ebpf

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/probe/syscalls"
)

// family is a group of probes that give one ability together.
type family struct {
	ability  string
	variants []variant // the cheapest first; one of them is used
}

// variant is one way to attach a family.
type variant struct {
	by     string // what it attaches to
	limits string // what it cannot see even if all is well
	// attachments are in the order of attaching: the exit of a system call
	// before its entry, so that every call that is noted is also completed.
	attachments []attachment
}

type attachment struct {
	name     string
	kind     bpf.Kind // of the events that are lost with it
	required bool     // else it may be missing: open(2) is on arm64, openat2 before 5.6
	// preemptible programs do not keep the processor: a kernel that preempts
	// itself may run another process before they have ended. While they are under
	// way it skips them for all others on that processor.
	preemptible bool
	program     string
	function    string // that it attaches to, if any: as in functions
	// attach attaches to what the kernel calls that function.
	attach func(p *ebpf.Program, symbol string) (link.Link, error)
}

func raw(name string, kind bpf.Kind, program string) attachment {
	return attachment{name: name, kind: kind, required: true, preemptible: true, program: program, attach: func(p *ebpf.Program, _ string) (link.Link, error) {
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: p})
	}}
}

// perf returns the attachment for a tracepoint by way of perf, which writes the
// record of each hit.
func perf(group, name string, kind bpf.Kind, program string) attachment {
	return attachment{name: name, kind: kind, required: true, program: program, attach: func(p *ebpf.Program, _ string) (link.Link, error) {
		return link.Tracepoint(group, name, p, nil)
	}}
}

// systemCall returns the attachments for the exit and the entry of a system call.
func (k kernel) systemCall(name string, kind bpf.Kind, required bool, enter, exit string) []attachment {
	at := func(event, program string) attachment {
		a := perf("syscalls", event, kind, program)
		a.required, a.preemptible = required, k.faultable
		return a
	}
	return []attachment{at("sys_exit_"+name, exit), at("sys_enter_"+name, enter)}
}

// call is a kernel function whose return tells of the end of a system call, and
// the one whose entry tells of its beginning: the same, or one that it calls.
type call struct {
	name, enters, returns string
	kind                  bpf.Kind
}

var (
	callIoctl = call{"ioctl", "security_file_ioctl", "sys_ioctl", bpf.KindDM}
	callOpen  = call{"do_sys_openat2", "do_sys_openat2", "do_sys_openat2", bpf.KindOpen}
)

// trampolines returns the attachments of trampolines.
func trampolines(c call, enter, exit string) []attachment {
	at := func(what, function, program string) attachment {
		return attachment{name: what + " of " + c.name, kind: c.kind, required: true, preemptible: true, program: program, function: function, attach: func(p *ebpf.Program, _ string) (link.Link, error) {
			return link.AttachTracing(link.TracingOptions{Program: p})
		}}
	}
	return []attachment{at("fexit", c.returns, exit), at("fentry", c.enters, enter)}
}

// multiKprobes returns the attachments of multi-kprobes.
func multiKprobes(c call, enter, exit string) []attachment {
	at := func(what, function, program string, attach func(*ebpf.Program, link.KprobeMultiOptions) (link.Link, error)) attachment {
		return attachment{name: what + " of " + c.name, kind: c.kind, required: true, program: program, function: function, attach: func(p *ebpf.Program, symbol string) (link.Link, error) {
			return attach(p, link.KprobeMultiOptions{Symbols: []string{symbol}})
		}}
	}
	return []attachment{at("multi-kretprobe", c.returns, exit, link.KretprobeMulti), at("multi-kprobe", c.enters, enter, link.KprobeMulti)}
}

// rareCall returns the attachments of kprobes for the return and the entry of a
// kernel function.
func (k kernel) rareCall(name string, kind bpf.Kind, enter, exit string) []attachment {
	return []attachment{
		{name: "kretprobe of " + name, kind: kind, required: true, program: exit, function: name, attach: func(p *ebpf.Program, symbol string) (link.Link, error) {
			return k.returnOf(symbol, p)
		}},
		{name: "kprobe of " + name, kind: kind, required: true, program: enter, function: name, attach: func(p *ebpf.Program, symbol string) (link.Link, error) {
			return link.Kprobe(symbol, p, nil)
		}},
	}
}

// fewProcessors is fewer than the calls that can be under way. For the return of
// a call to be seen the kernel has to have kept room for it: as much as there are
// processors, or at least for ten where it is built to be preemptible, or newer
// than 6.1. A rename that waits for a disk takes that room, and where the kernel
// preempts itself one that waits for the processor.
const fewProcessors = 10

// returnOf attaches to the return of a kernel function. More room than the
// kernel likes is to be had by way of the trace files only, where events stay
// behind if we are killed: they bear our name, and Dir.RemoveStale finds them.
func (k kernel) returnOf(name string, p *ebpf.Program) (link.Link, error) {
	if n, err := ebpf.PossibleCPU(); k.preempts || err == nil && n < fewProcessors && !builtPreemptible(kernelVersion()) {
		if l, err := manyReturnsOf(name, p, ftrace.MaxActive); err == nil {
			return l, nil
		}
	}
	return link.Kretprobe(name, p, nil)
}

// manyReturnsOf attaches to the return of a kernel function of which active calls can
// be under way.
func manyReturnsOf(name string, p *ebpf.Program, active int) (link.Link, error) {
	owner, err := ftrace.Owner()
	if err != nil {
		return nil, err
	}
	return link.Kretprobe(name, p, &link.KprobeOptions{RetprobeMaxActive: active, TraceFSPrefix: owner})
}

const (
	limitsDM     = "not seen: 32-bit programs, dm-mod.create= of the kernel command line"
	limitsDMOwn  = "not seen: dm-mod.create= of the kernel command line"
	limitsOpen   = "not seen: 32-bit programs, io_uring"
	limitsOpenAt = "not seen: io_uring"

	limitsCount = "not counted: what is skipped where this kernel preempts a bpf(2) call on a map (Linux 6.7 counts it)"
)

// What the variants attach to, and the first Linux of kernel.org that has it. Distributions
// take some of it back to older ones, so it is tried, whatever the version.
const (
	byRaw          = "raw tracepoints"             // 4.17
	byTracepoints  = "tracepoints"                 // 4.7
	byTrampolines  = "trampolines"                 // 5.5, with BTF
	byMultiKprobes = "multi-kprobes"               // 5.18
	bySystemCalls  = "tracepoints of system calls" // 4.14
	byKprobes      = "kprobes"                     // 4.1
)

// kernel is what the probes for a kernel depend on. Most is tried.
type kernel struct {
	preempts  bool // it may preempt itself
	faultable bool // see programs
	uncounted bool // see programs
}

// families lists all probes, the most urgent first.
func (k kernel) families() []family {
	return []family{
		{backend.AbilityExec, []variant{
			{byRaw, "", []attachment{raw("sched_process_exec", bpf.KindExec, bpf.ProbesProgOnExec)}},
			{byTracepoints, "", []attachment{perf("sched", "sched_process_exec", bpf.KindExec, bpf.ProbesProgTraceExec)}},
		}},
		{backend.AbilityExit, []variant{
			{byRaw, "", []attachment{
				raw("sched_process_exit", bpf.KindExit, bpf.ProbesProgOnExit),
				raw("sched_process_fork", bpf.KindFork, bpf.ProbesProgOnFork)}},
			{byTracepoints, "", []attachment{
				perf("sched", "sched_process_exit", bpf.KindExit, bpf.ProbesProgTraceExit),
				perf("task", "task_newtask", bpf.KindFork, bpf.ProbesProgTraceFork)}},
		}},
		{backend.AbilityDM, []variant{
			{byTrampolines, limitsDM, trampolines(callIoctl, bpf.ProbesProgFastEnterIoctl, bpf.ProbesProgFastExitIoctl)},
			{byMultiKprobes, limitsDM, multiKprobes(callIoctl, bpf.ProbesProgProbeEnterIoctl, bpf.ProbesProgProbeExitIoctl)},
			{bySystemCalls, limitsDM, k.systemCall("ioctl", bpf.KindDM, true, bpf.ProbesProgEnterIoctl, bpf.ProbesProgExitIoctl)},
		}},
		{backend.AbilityOpen, []variant{
			{byTrampolines, limitsOpenAt, trampolines(callOpen, bpf.ProbesProgFastEnterOpen, bpf.ProbesProgFastExitOpen)},
			{byMultiKprobes, limitsOpenAt, multiKprobes(callOpen, bpf.ProbesProgProbeEnterOpen, bpf.ProbesProgProbeExitOpen)},
			{bySystemCalls, limitsOpen, join(
				k.systemCall("openat", bpf.KindOpen, true, bpf.ProbesProgEnterOpenat, bpf.ProbesProgExitOpen),
				k.systemCall("open", bpf.KindOpen, false, bpf.ProbesProgEnterOpen, bpf.ProbesProgExitOpen),
				k.systemCall("openat2", bpf.KindOpen, false, bpf.ProbesProgEnterOpenat2, bpf.ProbesProgExitOpen))},
		}},
		{backend.AbilityLink, []variant{
			{byKprobes, "", join(
				k.rareCall("do_symlinkat", bpf.KindLink, bpf.ProbesProgProbeEnterSymlink, bpf.ProbesProgProbeExitLink),
				k.rareCall("do_renameat2", bpf.KindLink, bpf.ProbesProgProbeEnterRename, bpf.ProbesProgProbeExitLink))},
			{bySystemCalls, "", join(
				k.systemCall("symlinkat", bpf.KindLink, true, bpf.ProbesProgEnterSymlinkat, bpf.ProbesProgExitLink),
				k.systemCall("symlink", bpf.KindLink, false, bpf.ProbesProgEnterSymlink, bpf.ProbesProgExitLink),
				k.systemCall("rename", bpf.KindLink, false, bpf.ProbesProgEnterRename, bpf.ProbesProgExitLink),
				k.systemCall("renameat", bpf.KindLink, false, bpf.ProbesProgEnterRenameat, bpf.ProbesProgExitLink),
				k.systemCall("renameat2", bpf.KindLink, false, bpf.ProbesProgEnterRenameat, bpf.ProbesProgExitLink))},
		}},
	}
}

// ownRequests is the family of device-mapper's requests by dm_mod's own function, see
// requests.
func (k kernel) ownRequests() family {
	at := func(what, program string, attach func(*ebpf.Program) (link.Link, error)) attachment {
		return attachment{name: what + " of " + syscalls.DMFunction, kind: bpf.KindDM, required: true, program: program, attach: func(p *ebpf.Program, _ string) (link.Link, error) {
			return attach(p)
		}}
	}
	return family{backend.AbilityDM, []variant{{byKprobes, limitsDMOwn, []attachment{
		at("kretprobe", bpf.ProbesProgRequestExit, func(p *ebpf.Program) (link.Link, error) { return manyReturnsOf(syscalls.DMFunction, p, requestsActive) }),
		at("kprobe", bpf.ProbesProgRequestEnter, func(p *ebpf.Program) (link.Link, error) { return link.Kprobe(syscalls.DMFunction, p, nil) }),
	}}}}
}

func (v variant) preemptible() bool {
	return slices.ContainsFunc(v.attachments, func(a attachment) bool { return a.preemptible })
}

// inOrder returns the variants in the order in which to try them. Where the kernel
// preempts programs, those that it can't preempt come first, whatever they cost:
// a skipped program is an event lost.
func (f family) inOrder(preempts bool) []variant {
	if !preempts {
		return f.variants
	}
	variants := slices.Clone(f.variants)
	slices.SortStableFunc(variants, func(a, b variant) int {
		switch {
		case a.preemptible() == b.preemptible():
			return 0
		case a.preemptible():
			return 1
		}
		return -1
	})
	return variants
}

// describe says what a variant of the family cannot see and, where the kernel
// preempts programs, what follows from that. On those that it does not preempt it
// may still preempt somebody's bpf(2) call, and skips them meanwhile.
func (f family) describe(v variant, k kernel) string {
	var texts []string
	if v.limits != "" {
		texts = append(texts, v.limits)
	}
	switch {
	case !k.preempts:
	case v.preemptible():
		texts = append(texts, "by "+v.by+", which this kernel may skip where it preempts itself: counted as lost")
	case f.avoided(v):
		texts = append(texts, "by "+v.by+", because this kernel may preempt itself")
	}
	if k.preempts && k.uncounted && !v.preemptible() {
		texts = append(texts, limitsCount)
	}
	return strings.Join(texts, "; ")
}

// avoided reports whether a variant that is preemptible would come before v.
func (f family) avoided(v variant) bool {
	for _, o := range f.variants {
		if o.by == v.by {
			return false
		}
		if o.preemptible() {
			return true
		}
	}
	return false
}

// attach attaches a family in the first variant that this kernel has, or nothing of
// it. It returns what that variant cannot see.
func (b *Backend) attach(f family) (links []link.Link, limits string, err error) {
	variants := f.inOrder(b.kernel.preempts)
	for i, v := range variants {
		if links, err = b.attachAll(v.attachments); err == nil {
			return links, f.describe(v, b.kernel), nil
		}
		if i+1 < len(variants) {
			b.log.Debug("cannot attach in the best way", "probes", f.ability, "err", err)
		}
	}
	return nil, "", err
}

func (b *Backend) attachAll(attachments []attachment) ([]link.Link, error) {
	var links []link.Link
	for _, a := range attachments {
		l, err := b.attachOne(a)
		switch {
		case err == nil:
			links = append(links, l)
		case !a.required && errors.Is(err, os.ErrNotExist):
		default:
			return nil, errors.Join(err, closeLinks(links), b.dropAll(attachments))
		}
	}
	for _, a := range attachments {
		b.feeds[a.program] = a.kind
	}
	return links, nil
}

func (b *Backend) attachOne(a attachment) (link.Link, error) {
	p, err := b.programs.load(a.program)
	if err != nil {
		return nil, err
	}
	symbol, err := b.programs.symbol(a.function)
	if err != nil {
		return nil, err
	}
	l, err := a.attach(p, symbol)
	if err != nil {
		return nil, explain("attach to "+a.name, err)
	}
	return l, nil
}

// dropAll frees programs that could not be attached, now or before: of the others the
// statistics count on.
func (b *Backend) dropAll(attachments []attachment) error {
	var names []string
	for _, a := range attachments {
		if _, was := b.feeds[a.program]; !was {
			names = append(names, a.program)
		}
	}
	if err := b.programs.drop(names...); err != nil {
		return fmt.Errorf("free programs: %w", err)
	}
	return nil
}

// of returns the attached programs that feed one kind of event.
func (b *Backend) of(kind bpf.Kind) []*ebpf.Program {
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
