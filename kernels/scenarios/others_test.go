package scenarios

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/kernels"
	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// TestMatrixOthers has bpftrace and trace-cmd beside both backends, all at once,
// on each kernel. The script counts what the others see; here is that bootrace sees everything.
// Their packages take a base of their own, a quarter of a gigabyte larger.
func TestMatrixOthers(t *testing.T) {
	if os.Getenv("BOOTRACE_MATRIX") != "all" {
		t.Skip("NOT RUN: needs bpftrace and trace-cmd; `make matrix-all` runs it")
	}
	for _, k := range kernels.Bootable() {
		t.Run(k.Name, func(t *testing.T) {
			out, _ := play(t, "others", func(o *lab.Options) {
				o.Kernel, o.Packages = k.Name, []string{"bpftrace", "trace-cmd"}
			})
			checkOthers(t, readTimeline(t, filepath.Join(out, "trace.json")), readTimeline(t, filepath.Join(out, "tracefs.json")), allowedApart(k))
		})
	}
}

func checkOthers(t *testing.T, ebpf, tracefs *timeline.Timeline, allowed time.Duration) {
	t.Helper()
	want := []string{"early missing", "early would-hold", "reset missing", "reset would-hold"}
	for name, got := range map[string][]string{"eBPF": kinds(ebpf), "tracefs": kinds(tracefs)} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("findings with %s (-want +got):\n%s", name, diff)
		}
	}
	dropSkipped(t, ebpf)
	checkWhole(t, ebpf)
	checkReset(t, tracefs)
	checkWhole(t, tracefs)
	compareTimes(t, ebpf, tracefs, allowed)
}

// dropSkipped takes out of a timeline the opens that were under way when bpftrace
// attached to the function that tells of them, or let go of it: the kernel skips
// our trampoline at their end, and that is counted.
func dropSkipped(t *testing.T, tl *timeline.Timeline) {
	t.Helper()
	tl.Losses = slices.DeleteFunc(tl.Losses, func(l timeline.Loss) bool {
		skipped := l.Source == "ebpf" && l.What == "open"
		if skipped {
			t.Logf("%d opens were skipped between %.3f s and %.3f s", l.Count, l.From.Seconds(), l.At.Seconds())
		}
		return skipped
	})
}

// checkReset takes out of a timeline that the probes were taken away: it was soon
// over. Whoever was within an open just then has lost its return.
func checkReset(t *testing.T, tl *timeline.Timeline) {
	t.Helper()
	all := slices.IndexFunc(tl.Losses, func(l timeline.Loss) bool { return l.What == "all" })
	if all < 0 {
		t.Errorf("losses: %+v", tl.Losses)
		return
	}
	reset := tl.Losses[all]
	others := slices.DeleteFunc(slices.Delete(tl.Losses, all, all+1), func(l timeline.Loss) bool {
		return l.What == "open" && l.At >= reset.From && l.From <= reset.At
	})
	if len(others) > 0 || reset.Source != "tracefs" || !strings.Contains(reset.Why, "turned the probes off") {
		t.Errorf("losses: %+v and %+v", reset, others)
	}
	blind := reset.At.Sub(reset.From)
	t.Logf("the probes were back %v after the last look", blind)
	if blind > 10*time.Second { // an emulated host takes its time to attach
		t.Errorf("it took %v", blind)
	}
	tl.Losses = nil
}
