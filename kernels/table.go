package kernels

import (
	"fmt"
	"strings"
)

//go:generate go run ./cmd/table README.md

// abilities lists all, in the order of the table.
var abilities = []Ability{BPF, BTF, ModuleBTF, Fentry, Kprobes, Tracefs, BootClock, Execve, ExecPerm, ReadHeld, Unpreempted, MultiKprobes}

// Probes says in words how the kernel is watched.
func (k Kernel) Probes() string {
	switch {
	case k.Has(BPF) && k.Has(Fentry) && !k.Has(Unpreempted) && k.Has(MultiKprobes):
		return "eBPF, multi-kprobes; a kprobe for the instant of an activation"
	case k.Has(BPF) && k.Has(Fentry) && !k.Has(Unpreempted):
		return "eBPF, tracepoints; a kprobe for the instant of an activation"
	case k.Has(BPF) && k.Has(Fentry):
		return "eBPF, trampolines; a kprobe for the instant of an activation"
	case k.Has(BPF):
		return "eBPF, tracepoints"
	case k.Has(Kprobes):
		return "tracefs"
	}
	return "none"
}

// Table is the list as a table in Markdown.
func Table() string {
	var b strings.Builder
	row := func(first string, cell func(Kernel) string) {
		fmt.Fprintf(&b, "| %s |", first)
		for _, k := range All() {
			fmt.Fprintf(&b, " %s |", cell(k))
		}
		b.WriteString("\n")
	}
	row("", func(k Kernel) string { return k.Name })
	b.WriteString("|" + strings.Repeat(" --- |", len(All())+1) + "\n")
	row("as in", func(k Kernel) string { return k.Of })
	for _, a := range abilities {
		row(string(a), func(k Kernel) string {
			if k.Has(a) {
				return "yes"
			}
			return "no"
		})
	}
	row("watched with", Kernel.Probes)
	row("booted by the lab", func(k Kernel) string {
		if k.Package != "" {
			return "yes"
		}
		return "no"
	})
	return b.String()
}
