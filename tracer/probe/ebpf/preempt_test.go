package ebpf

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/probetest"
)

// kernelsToBe are kernels as which a test can take this one.
var kernelsToBe = []struct {
	name     string
	preempts func() bool
}{
	{"", nil}, // as it is
	{" without preemption", func() bool { return false }},
	{" with preemption", func() bool { return true }},
}

func TestMayPreempt(t *testing.T) {
	const dynamic = "#1 SMP PREEMPT_DYNAMIC Debian 7.2.13-1 (2026-10-28)"
	for _, tt := range []struct {
		version, mode string
		built, want   bool
	}{
		{"#1 SMP Debian 5.10.226-1 (2024-10-03)", "full", false, false},
		{"#1 SMP Fri Apr 20 16:44:24 UTC 2018", "", false, false},
		{"#1 SMP PREEMPT Debian 6.1.0-1", "none", true, true},
		{"#1 SMP PREEMPT_RT Debian 6.1.0-1", "none", true, true},
		{dynamic, "none", true, false},
		{dynamic, "voluntary", true, false},
		{dynamic, "lazy", true, true},
		{dynamic, "full", true, true},
		{dynamic, "a mode to come", true, true},
		{dynamic, "", true, true}, // cannot be found out
		{"", "", false, false},
	} {
		mode := func() (string, error) {
			if tt.mode == "" {
				return "", errors.New("not told")
			}
			return tt.mode, nil
		}
		if got := mayPreempt(tt.version, mode); got != tt.want {
			t.Errorf("%q in mode %q: %v", tt.version, tt.mode, got)
		}
		if got := builtPreemptible(tt.version); got != tt.built {
			t.Errorf("%q: built preemptible %v", tt.version, got)
		}
	}
}

func TestModeTexts(t *testing.T) {
	for text, want := range map[string]string{
		"none (voluntary) full \n":      "voluntary", // 6.1
		"none voluntary (full) lazy \n": "full",      // 6.13
		"full (lazy) \n":                "lazy",      // 7.2
		"none voluntary full\n":         "",
		"(":                             "",
		"":                              "",
	} {
		if got, ok := inParentheses(text); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", text, got, ok)
		}
	}
	for log, want := range map[string]string{
		"<6>[    0.244201] Dynamic Preempt: none\n<6>[    0.244322] rcu: Preemptible hierarchical RCU implementation.\n": "none",
		"<6>[    0.000000] Dynamic Preempt: lazy\n<6>[  812.400000] Dynamic Preempt: full\n":                             "full",
		"<6>[    0.000000] Dynamic Preempt: voluntary":                                                                   "voluntary",
		"<6>[    0.000000] Linux version 6.1.0\n":                                                                        "",
	} {
		if got, ok := lastMode(log); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", log, got, ok)
		}
	}
}

// TestOrderOfWays: where the kernel preempts itself, what it can't preempt comes
// first, in the order of cost. Kernels that let programs of system calls'
// tracepoints sleep preempt those, too.
func TestOrderOfWays(t *testing.T) {
	for _, tt := range []struct {
		kernel     kernel
		open, link []string
	}{
		{kernel{}, []string{byTrampolines, byMultiKprobes, bySystemCalls}, []string{byKprobes, bySystemCalls}},
		{kernel{faultable: true}, []string{byTrampolines, byMultiKprobes, bySystemCalls}, []string{byKprobes, bySystemCalls}},
		{kernel{preempts: true}, []string{byMultiKprobes, bySystemCalls, byTrampolines}, []string{byKprobes, bySystemCalls}},
		{kernel{preempts: true, faultable: true}, []string{byMultiKprobes, byTrampolines, bySystemCalls}, []string{byKprobes, bySystemCalls}},
	} {
		for _, f := range tt.kernel.families() {
			want := map[string][]string{
				backend.AbilityExec: {byRaw, byTracepoints}, backend.AbilityExit: {byRaw, byTracepoints},
				backend.AbilityDM: tt.open, backend.AbilityOpen: tt.open, backend.AbilityLink: tt.link,
			}[f.ability]
			if tt.kernel.preempts && want[0] == byRaw {
				slices.Reverse(want)
			}
			var got []string
			for _, w := range f.inOrder(tt.kernel.preempts) {
				got = append(got, w.by)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%+v: %s by %v, want %v", tt.kernel, f.ability, got, want)
			}
		}
	}
}

// TestAbilitiesTellPreemption: a way that is used because of it, or in spite of
// it, is named.
func TestAbilitiesTellPreemption(t *testing.T) {
	k := kernel{preempts: true, faultable: true}
	for _, f := range k.families() {
		for i, w := range f.variants {
			if got := f.describe(w, kernel{uncounted: true}); got != w.limits {
				t.Errorf("%s by %s: %q", f.ability, w.by, got)
			}
			told := w.preemptible() || i > 0
			if got := f.describe(w, k); strings.Contains(got, w.by) != told || strings.Contains(got, "lost") != w.preemptible() {
				t.Errorf("%s by %s where the kernel preempts: %q", f.ability, w.by, got)
			}
			uncounted := k
			uncounted.uncounted = true
			if got := f.describe(w, uncounted); strings.Contains(got, limitsCount) == w.preemptible() {
				t.Errorf("%s by %s where skips are not counted: %q", f.ability, w.by, got)
			}
		}
	}
}

// TestNothingIsLost: however many open at a time, all is seen.
func TestNothingIsLost(t *testing.T) {
	probetest.CheckNothingIsLost(t, openTest(t, backend.Options{}))
}
