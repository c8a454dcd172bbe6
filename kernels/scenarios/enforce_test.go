package scenarios

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// ordersInCI is how many random orders are played where BOOTRACE_ORDERS does not
// say; 500 take a quarter of an hour.
const ordersInCI = 25

// Two hundred guests held at once, random orders of activation and start, a
// chain of three images; and in the soak the service killed, stopped, upgraded,
// and wrong input: the scripts and the driver check what happens, and the
// timeline what was recorded.
func TestEnforce(t *testing.T) { testEnforce(t, asked()) }

func testEnforce(t *testing.T, w watch) {
	orders := number(t, "BOOTRACE_ORDERS", ordersInCI)
	if orders < 500 {
		t.Logf("NOT RUN: 500 random orders (%d are), the service killed, stopped and upgraded, wrong input; `make soak-enforce` plays all", orders)
	}
	out := w.play(t, "enforce", func(o *lab.Options) {
		o.Install = withDriver(repo(t), orders)
		o.Timeout = 2 * time.Hour
	})
	tl := readTimeline(t, filepath.Join(out, "trace.json"))
	killed := 0
	for _, f := range tl.Findings {
		switch {
		case f.Guest == "launcher0" && f.Kind == timeline.Held && f.Outcome == event.HoldGone:
			killed++ // the driver's own kill -9 of a held start
		case f.Race || f.Failed():
			t.Errorf("%s: %s on %s", f.Guest, f.Kind, f.Disk)
		}
	}
	if killed != 1 {
		t.Errorf("%d findings say that the held start of launcher0 was killed, want 1", killed)
	}
	held := 0
	for _, g := range tl.Guests {
		for _, h := range g.Holds {
			held++
			if h.Released == nil || h.Outcome == "denied" {
				t.Errorf("%s: %+v", g.Name, h)
			}
		}
		for _, d := range g.Disks {
			for _, u := range d.Uses[:min(len(d.Uses), 1)] {
				// A margin can be uncertain where udev tells late what it has done.
				if u.Errno != 0 || u.Margin == nil || u.Negative() {
					t.Errorf("%s opened %s: %s, margin %+v", g.Name, d.Path, u.Error, u.Margin)
				}
			}
		}
	}
	if held < 200 {
		t.Errorf("%d holds are recorded, of 200 guests at least", held)
	}
	t.Logf("%d guests, %d holds", len(tl.Guests), held)
}

// withDriver installs bootrace, and the driver of the scenario under its own name
// and under that of a guest's program.
func withDriver(repo string, orders int) lab.Install {
	install := lab.MakeInstall(repo)
	return func(ctx context.Context, root string) error {
		if err := install(ctx, root); err != nil {
			return err
		}
		driver := filepath.Join(root, "usr/local/lib/enforce/driver")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", driver, "./kernels/scenarios/enforce/driver")
		build.Dir, build.Env = repo, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build the driver: %w: %s", err, out)
		}
		guest := filepath.Join(root, "usr/local/qemu-lab/bin/qemu-system-x86_64")
		if err := os.MkdirAll(filepath.Dir(guest), 0o755); err != nil {
			return err
		}
		data, err := os.ReadFile(driver)
		if err != nil {
			return err
		}
		if err := os.WriteFile(guest, data, 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(root, "usr/local/lib/enforce/orders"), fmt.Appendln(nil, orders), 0o644)
	}
}
