package scenarios

import (
	"context"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/kernels"
	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// TestMatrix has both backends watch the same boot of each kernel: the findings
// are the same, and so are the times. The scenario also does what old kernels
// need, kills the services, and has other users beside them.
func TestMatrix(t *testing.T) {
	if os.Getenv("BOOTRACE_MATRIX") == "" {
		t.Skip("NOT RUN: boots each kernel; `make matrix` runs it")
	}
	t.Parallel() // else the scenarios' machines wait for the last kernel's
	for _, k := range kernels.Bootable() {
		if !inMatrix(k.Name) {
			continue
		}
		t.Run(k.Name, func(t *testing.T) {
			out, _ := play(t, "matrix", func(o *lab.Options) {
				// How busy this machine is must not be in what is compared: a second
				// look at the clock would come later, and the trace clock stand still.
				o.Kernel, o.Counted = k.Name, true
				// Not all processors that there are buffers and trace files for work.
				o.MaxProcessors, o.Append = 2, "tsc=reliable"
				prepareMatrix(t, o.Out)
			})
			ebpf := readTimeline(t, filepath.Join(out, "trace.json"))
			tracefs := readTimeline(t, filepath.Join(out, "tracefs", "trace.json"))
			checkHeld(t, dropFindings(ebpf, "held"), dropFindings(tracefs, "held"))
			for name, tl := range map[string]*timeline.Timeline{"eBPF": ebpf, "tracefs": tracefs} {
				if diff := cmp.Diff(findings, kinds(tl)); diff != "" {
					t.Errorf("findings with %s (-want +got):\n%s", name, diff)
				}
			}
			for _, tl := range []*timeline.Timeline{ebpf, tracefs} {
				checkWhole(t, tl)
			}
			compareTimes(t, ebpf, tracefs, allowedApart(k))
			checkCounted(t, ebpf, !k.Has(kernels.Unpreempted) && !k.Has(kernels.MultiKprobes))
		})
	}
}

// inMatrix reports whether that kernel is in the matrix that is asked for, by an
// expression for their names, or "all".
func inMatrix(kernel string) bool {
	asked := os.Getenv("BOOTRACE_MATRIX")
	return asked == "all" || regexp.MustCompile("^("+asked+")$").MatchString(kernel)
}

// TestMatrixAll plays the scenarios on each kernel with each backend: the findings
// are the same everywhere.
func TestMatrixAll(t *testing.T) {
	if os.Getenv("BOOTRACE_MATRIX") != "all" {
		t.Skip("NOT RUN: boots each kernel some twenty times; `make matrix-all` runs it")
	}
	scenarios := []struct {
		name string
		test func(*testing.T, watch)
	}{
		{"findings", testFindings}, {"readiness", testReadiness}, {"causes", testCauses},
		{"firstreport", testFirstReport}, {"demo", testDemo}, {"enforce", testEnforce},
	}
	for _, k := range kernels.Bootable() {
		for _, probes := range []string{"ebpf", "tracefs"} {
			for _, s := range scenarios {
				t.Run(k.Name+"/"+probes+"/"+s.name, func(t *testing.T) { s.test(t, watch{k.Name, probes}) })
			}
		}
	}
}

// checkWhole: nothing was lost, and no mapping was there before it was seen being
// made, the first included, for which device-mapper had to be loaded.
func checkWhole(t *testing.T, tl *timeline.Timeline) {
	t.Helper()
	lost := map[string]uint64{}
	for _, l := range tl.Losses {
		if l.Source != "service" { // the scenario restarts it before it begins
			lost[l.Source+" "+l.What] += l.Count
		}
	}
	if len(lost) > 0 {
		t.Errorf("lost: %v", lost)
	}
	for _, m := range tl.Mappings {
		for _, l := range m.Lives {
			if l.Backfilled || l.Created == nil {
				t.Errorf("%s was not seen being made: %+v", m.Name, l)
			}
		}
	}
}

// checkCounted: that a kernel skips probes and does not count it (before 6.7, where
// it preempts itself) is said, and only there.
func checkCounted(t *testing.T, ebpf *timeline.Timeline, uncounted bool) {
	t.Helper()
	for _, s := range ebpf.Sources {
		if s.Name != "ebpf" {
			continue
		}
		for _, a := range s.Abilities {
			if said := strings.Contains(a.Why, "not counted"); said != uncounted && (said || a.Name == "open" || a.Name == "dm") {
				t.Errorf("ability %s: %q", a.Name, a.Why)
			}
		}
	}
}

// dropFindings takes the findings about one guest out of a timeline.
func dropFindings(tl *timeline.Timeline, guest string) []*timeline.Finding {
	var dropped []*timeline.Finding
	tl.Findings = slices.DeleteFunc(tl.Findings, func(f *timeline.Finding) bool {
		if f.Guest != guest {
			return false
		}
		dropped = append(dropped, f)
		return true
	})
	return dropped
}

// checkHeld: one instance held the guest. For the other it just came in time.
func checkHeld(t *testing.T, holder, other []*timeline.Finding) {
	t.Helper()
	if len(holder) != 1 || holder[0].Kind != timeline.Held {
		t.Errorf("the guest that was held: %+v", holder)
	}
	if len(other) != 1 || other[0].Kind != timeline.NearMiss {
		t.Errorf("to the other instance: %+v", other)
	}
}

// prepareMatrix puts into the folder that the machine shares: the script of the
// scenario "findings", and the tests of both backends and of holds.
func prepareMatrix(t *testing.T, out string) {
	t.Helper()
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(filepath.Join("findings", "boot1.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "findings.sh"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	buildTests(t, out, "probe/ebpf", "probe/tracefs", "hold")
}

// buildTests puts the tests of packages of the tracer into the folder that the machine
// shares: those of probe/ebpf are ebpf.test there.
func buildTests(t *testing.T, out string, packages ...string) {
	t.Helper()
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	for _, name := range packages {
		build := exec.CommandContext(ctx, "go", "test", "-c", "-o", filepath.Join(out, path.Base(name)+".test"), "./tracer/"+name)
		build.Dir, build.Env = repo(t), append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the tests of package %s: %v: %s", name, err, text)
		}
	}
}

// allowedApart is how far the two may be apart about an exact instant: their
// probes run one after the other, and some kernels can run others between the
// two. Windows overlap.
func allowedApart(k kernels.Kernel) time.Duration {
	if k.Has(kernels.Unpreempted) {
		return 10 * time.Millisecond
	}
	return 100 * time.Millisecond
}

func compareTimes(t *testing.T, ebpf, tracefs *timeline.Timeline, allowed time.Duration) {
	t.Helper()
	var most event.Duration
	defer func() { t.Logf("instants are %v apart at the most", most) }()
	sameInstant := func(what string, a, b *timeline.Instant) {
		t.Helper()
		d := gap(t, what, a, b)
		if most = max(most, d); d > allowed {
			t.Errorf("%s: [%d, %d] and [%d, %d]", what, a.From, a.At, b.From, b.At)
		}
	}
	for _, f := range ebpf.Findings {
		i := slices.IndexFunc(tracefs.Findings, func(g *timeline.Finding) bool { return g.Guest == f.Guest && g.Kind == f.Kind })
		if i < 0 {
			continue
		}
		g := tracefs.Findings[i]
		if d := f.At.Sub(g.At).Abs(); d > allowed {
			t.Errorf("%s of %s: %v apart", f.Kind, f.Guest, d)
		}
		if f.Disk != g.Disk || f.MappingName != g.MappingName || f.Error != g.Error {
			t.Errorf("told as %s %s %s and %s %s %s", f.Disk, f.MappingName, f.Error, g.Disk, g.MappingName, g.Error)
		}
	}
	for _, m := range ebpf.Mappings {
		other := mappingNamed(t, tracefs, m.Name)
		if len(other.Lives) != len(m.Lives) {
			t.Errorf("%s has %d lives and %d", m.Name, len(m.Lives), len(other.Lives))
			continue
		}
		for i, l := range m.Lives {
			sameInstant(m.Name+" created", l.Created, other.Lives[i].Created)
			sameInstant(m.Name+" live", l.Live, other.Lives[i].Live)
			sameInstant(m.Name+" removed", l.Removed, other.Lives[i].Removed)
		}
	}
}

// gap is how far two accounts of an instant are apart: 0 where their windows
// overlap.
func gap(t *testing.T, what string, a, b *timeline.Instant) event.Duration {
	t.Helper()
	if (a == nil) != (b == nil) {
		t.Errorf("%s: %v and %v", what, a, b)
	}
	if a == nil || b == nil {
		return 0
	}
	return event.Duration(max(from(b)-a.At, from(a)-b.At, 0))
}

func from(i *timeline.Instant) event.Time {
	if i.From != 0 {
		return i.From
	}
	return i.At
}
