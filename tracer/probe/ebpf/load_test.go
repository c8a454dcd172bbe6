package ebpf

import (
	"errors"
	"log/slog"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/ktypes"
)

// TestEveryWayLoads loads all programs, also those of ways that this kernel
// cannot attach or need not, as on kernels with and without storage of tasks. What
// they are set to counts: the verifier passes over what a program can't come to.
func TestEveryWayLoads(t *testing.T) {
	t.Run("task storage", func(t *testing.T) { testEveryWayLoads(t, true) })
	t.Run("a map for all", func(t *testing.T) { testEveryWayLoads(t, false) })
}

func testEveryWayLoads(t *testing.T, taskStorage bool) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root to load eBPF programs")
	}
	raiseMemlock()
	spec, err := programsFor(backend.Options{}.WithDefaults(), 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := loadMaps(spec, false, taskStorage, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	if taskStorage && !p.taskStorage {
		t.Skip("NOT TESTED: this kernel keeps nothing with tasks for programs that trace")
	}
	for _, f := range append(kernel{}.families(), kernel{}.ownRequests()) {
		for _, w := range f.variants {
			for _, a := range w.attachments {
				_, err := p.load(a.program)
				// Some kernels, of virtual machines for one purpose, allow root
				// all kinds of programs but trampolines; multi-kprobes are young.
				cannot := errors.Is(err, backend.ErrNotSupported) || errors.Is(err, backend.ErrNotPermitted)
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
	for _, f := range append(kernel{}.families(), kernel{}.ownRequests()) {
		for _, w := range f.variants {
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

// TestRingLock: eBPF is refused where its ring buffer would sleep in a tracepoint,
// and there only.
func TestRingLock(t *testing.T) {
	const realTime, preempts = "#1 SMP PREEMPT_RT Debian 5.10.226-1 (2024-10-03)", "#1 SMP PREEMPT_DYNAMIC Debian 7.2.13-1 (2026-10-28)"
	for _, tt := range []struct {
		version, lock string
		refused       bool
	}{
		{realTime, "spinlock_t", true},
		{realTime, "raw_spinlock_t", false},
		{realTime, "rqspinlock_t", false}, // from 6.15 on
		{realTime, "", false},             // no ring buffer: the kernel says so itself
		{preempts, "spinlock_t", false},
		{"#1 SMP Debian 5.10.226-1 (2024-10-03)", "spinlock_t", false},
	} {
		err := checkRing(learnt(t, ring(tt.lock)).ringLock, tt.version)
		if tt.refused != errors.Is(err, backend.ErrNotSupported) || tt.refused != (err != nil) {
			t.Errorf("%s where %q: %v", tt.lock, tt.version, err)
		}
	}
}

// TestUncounted: the count of skipped programs is not believed where the kernel
// doesn't keep it.
func TestUncounted(t *testing.T) {
	for member, counts := range map[string]bool{"missed": true, "flags": false} {
		if p := learnt(t, links("kprobe_multi", member)); p.uncounted == counts {
			t.Errorf("where links tell %s: uncounted %v", member, p.uncounted)
		}
	}
	if p := learnt(t, links("xdp", "missed")); !p.uncounted {
		t.Error("a kernel without multi-kprobes is said to count")
	}
}

// links is what a kernel tells of links of a kind.
func links(kind, member string) btf.Type {
	word := &btf.Int{Name: "unsigned long long", Size: 8}
	of := &btf.Struct{Size: 8, Members: []btf.Member{{Name: member, Type: word}}}
	return &btf.Struct{Name: "bpf_link_info", Size: 16, Members: []btf.Member{
		{Name: "type", Type: word},
		{Type: &btf.Union{Size: 8, Members: []btf.Member{{Name: kind, Type: of}}}, Offset: 64},
	}}
}

// ring is the ring buffer of a kernel with that lock.
func ring(lock string) btf.Type {
	word := &btf.Int{Name: "unsigned int", Size: 4}
	if lock == "" {
		return word
	}
	return &btf.Struct{Name: "bpf_ringbuf", Size: 8, Members: []btf.Member{
		{Name: "mask", Type: word},
		{Name: "spinlock", Type: &btf.Typedef{Name: lock, Type: &btf.Struct{Name: "spinlock", Size: 4}}, Offset: 32},
	}}
}

// learnt is what is learnt from a kernel with those types.
func learnt(t *testing.T, types ...btf.Type) *programs {
	t.Helper()
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := bpf.LoadProbes()
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := ktypes.Read(raw, spec.Types, kernelTypes()...)
	if err != nil {
		t.Fatal(err)
	}
	p := &programs{spec: spec, targets: map[string]ktypes.Function{}, noTargets: map[string]error{}}
	if err := p.learn(kernel); err != nil {
		t.Fatal(err)
	}
	return p
}
