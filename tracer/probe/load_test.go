package probe

import (
	"errors"
	"log/slog"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/bootrace/bootrace/bpf"
)

// TestEveryWayLoads loads all programs, also those of ways that this kernel
// cannot attach or need not. What they are set to counts: the verifier passes over
// what a program can't come to.
func TestEveryWayLoads(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root to load eBPF programs")
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	spec, err := programsFor(Options{}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	p, err := loadMaps(spec, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	for _, f := range (kernel{}).families() {
		for _, w := range f.ways {
			for _, a := range w.attachments {
				_, err := p.load(a.program)
				// Some kernels, of virtual machines for one purpose, allow root
				// all kinds of programs but trampolines; multi-kprobes are young.
				cannot := errors.Is(err, ErrNotSupported) || errors.Is(err, ErrNotPermitted)
				if cannot && (w.by == byTrampolines || w.by == byMultiKprobes) {
					t.Log("NOT TESTED:", err)
				} else if err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestEveryProgramIsUsed: each program of the object belongs to a way, and each
// function to a program.
func TestEveryProgramIsUsed(t *testing.T) {
	spec, err := bpf.LoadProbes()
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{bpf.ProbesProgLive: true}
	for _, f := range (kernel{}).families() {
		for _, w := range f.ways {
			for _, a := range w.attachments {
				used[a.program] = true
			}
		}
	}
	for name, p := range spec.Programs {
		if !used[name] {
			t.Errorf("%s is never attached", name)
		}
		if _, ok := functions[p.AttachTo]; p.Type == ebpf.Tracing && !ok {
			t.Errorf("%s: nothing is known of the function %s", name, p.AttachTo)
		}
	}
}
