package scenarios

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/timeline"
)

// Each way in which a volume can fail a guest on a single host: exactly these
// findings, and exactly these verdicts with the settings of LVM behind them.
func TestCauses(t *testing.T) { testCauses(t, asked()) }

func testCauses(t *testing.T, w watch) {
	out := w.play(t, "causes", nil)
	tl := readTimeline(t, filepath.Join(out, "trace.json"))
	checkCauses(t, tl)
	checkLateCauses(t, tl)
}

func checkCauses(t *testing.T, tl *timeline.Timeline) {
	t.Helper()
	// Every guest whose disk was not ready would have been held, in enforce mode.
	held := []string{
		"bare", "half", "leased", "noevents", "nogroup", "novolume", "off", "overlay", "plugged", "removed", "skipped",
		"slowudev", "suspended", "thin", "thinbad", "unlisted",
	}
	want := []string{
		" never-started",
		"bare never-ready", "half never-ready", "leased never-ready", "noevents never-ready", "nogroup never-ready",
		"notable not-live", "novolume never-ready", "off never-ready", "overlay backing-missing",
		"plugged missing", "removed removed", "rights open-error", "skipped never-ready", "slowudev link-late",
		"suspended not-live", "thin missing", "thinbad never-ready", "unlisted never-ready",
	}
	for _, guest := range held {
		want = append(want, guest+" would-hold")
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, kinds(tl)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	verdicts := []string{
		"/dev/vg0/looked never-activated [autoactivation-off]",
		"bare never-activated []",
		"crash neither []",
		"half never-activated [incomplete-group]",
		"leased never-activated [shared-group]",
		"locked in-use []",
		"noevents never-activated [event-activation-off]",
		"nogroup never-activated [no-such-group]",
		"notable half-activated []",
		"novolume never-activated [no-such-volume]",
		"off never-activated [autoactivation-off]",
		"overlay never-activated [autoactivation-off]",
		"plugged too-late []",
		"removed deactivated []",
		"rights permission []",
		"skipped never-activated [skip-flag]",
		"slowudev too-late [autoactivation-off]",
		"suspended too-late []",
		"thin too-late [autoactivation-off]",
		"thinbad never-activated [pool-failed]",
		"unlisted never-activated [auto-activation-list]",
	}
	if diff := cmp.Diff(verdicts, causes(tl)); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
}

// causes lists the verdicts as "guest cause settings", sorted; withheld ones
// with a question mark.
func causes(tl *timeline.Timeline) []string {
	var list []string
	for _, v := range tl.Verdicts {
		for _, c := range v.Causes {
			name := v.Guest
			if name == "" {
				name = strings.Join(c.Disks, " ")
			}
			s := fmt.Sprint(name, " ", c.Kind, " ", c.Settings)
			if c.Withheld != "" {
				s += "?"
			}
			list = append(list, s)
		}
	}
	slices.Sort(list)
	return list
}

// checkLateCauses looks at the accounts of what came late: down to the disk that
// was plugged in, through the pool that was checked, and into udev's queue.
func checkLateCauses(t *testing.T, tl *timeline.Timeline) {
	t.Helper()
	steps := map[string][]timeline.AccountStep{}
	for _, f := range tl.Findings {
		if f.Late != nil {
			steps[f.Guest] = f.Late.Steps
		}
	}
	find := func(guest, kind string) *timeline.AccountStep {
		for i := range steps[guest] {
			if s := &steps[guest][i]; s.Kind == kind {
				return s
			}
		}
		t.Errorf("%s: no step %s in %+v", guest, kind, steps[guest])
		return &timeline.AccountStep{}
	}
	if s := find("plugged", timeline.StepDisk); s.Detail != "/dev/vdd" {
		t.Errorf("plugged: waited for %q", s.Detail)
	}
	find("plugged", timeline.StepPV)
	if s := find("plugged", timeline.StepCreated); s.By == nil || !strings.Contains(strings.Join(s.By.Args, " "), "vgchange -aay --autoactivation event vgplug") {
		t.Errorf("plugged: created by %+v", s.By)
	}
	pool := slices.ContainsFunc(steps["thin"], func(s timeline.AccountStep) bool {
		return s.Kind == timeline.StepLayer && strings.HasSuffix(s.Detail, "-tpool") && s.To.Sub(s.From).Seconds() > 3
	})
	if !pool {
		t.Errorf("thin: the check of its pool is not in %+v", steps["thin"])
	}
	if s := find("slowudev", timeline.StepUdev); s.Behind == 0 {
		t.Errorf("slowudev: udev's queue is not in %+v", s)
	}
}

// The same, five times over.
func TestSoakCauses(t *testing.T) {
	inSoak(t)
	for n := range 5 {
		t.Run(fmt.Sprint(n+1), TestCauses)
	}
}
