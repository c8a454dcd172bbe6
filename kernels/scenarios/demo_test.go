package scenarios

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// maxWindow is how uncertain an activation's instant may be. It is exact once
// the probe in dm_mod is attached; until then, right after the module is
// loaded, the request's entry and exit are the window.
const maxWindow = 100 * time.Millisecond

// The host of the demo: traced from the initramfs on, over a real reboot.
func TestDemo(t *testing.T) {
	out, _ := play(t, "demo", nil)
	tl := readTimeline(t, filepath.Join(out, "trace.json"))

	if !tl.Complete || len(tl.Losses) > 0 {
		t.Errorf("the record is not complete: %+v, losses %+v", tl.Incomplete, tl.Losses)
	}
	if diff := cmp.Diff([]string{"web-a missing"}, kinds(tl)); diff != "" {
		t.Fatalf("findings (-want +got):\n%s", diff)
	}
	checkMissing(t, tl, tl.Findings[0])

	shop := guestNamed(t, tl, "shop-c")
	i := slices.IndexFunc(shop.Disks, func(d timeline.Disk) bool { return d.Path == "/dev/vg0/template-c" })
	if i < 0 {
		t.Fatalf("the backing volume is not among shop-c's disks: %+v", shop.Disks)
	}
	if d := shop.Disks[i]; d.BackingOf != "/dev/vg0/shop-c" || d.Mapping == "" || len(d.Uses) == 0 {
		t.Errorf("the backing volume: %+v", d)
	}

	for _, name := range []string{"vg0-db--b", "vg0-template--c", "vg0-shop--c", "vg0-web--a"} {
		m := mappingNamed(t, tl, name)
		life := m.Lives[0]
		if life.Backfilled || life.Created == nil || life.Live == nil {
			t.Errorf("%s was not seen being created: %+v", name, life)
			continue
		}
		if window := life.Live.At.Sub(life.Live.From); window > maxWindow {
			t.Errorf("%s went live within %v, want a window of at most %v", name, window, maxWindow)
		}
	}
	for _, name := range []string{"db-b", "shop-c"} {
		for _, d := range guestNamed(t, tl, name).Disks {
			if len(d.Uses) == 0 || d.Uses[0].Margin == nil || !d.Uses[0].Positive() {
				t.Errorf("%s: %s has no positive margin: %+v", name, d.Path, d.Uses)
			}
		}
	}
}

func checkMissing(t *testing.T, tl *timeline.Timeline, f *timeline.Finding) {
	t.Helper()
	if !f.Race || f.Margin == nil || !f.Negative() {
		t.Errorf("the margin is not negative: %+v", f)
	}
	if f.Ready == nil || f.Ready.At <= f.At {
		t.Errorf("ready at %v, opened at %v", f.Ready, f.At)
	}
	if f.Disk != "/dev/vg0/web-a" || f.MappingName != "vg0-web--a" || f.Error != "ENOENT" || len(f.Evidence) == 0 {
		t.Errorf("the finding is not told in full: %+v", f)
	}
	if g := guestNamed(t, tl, "web-a"); g.Exit == nil || g.Exit.Status != 1 {
		t.Errorf("web-a's end: %+v, want status 1", g.Exit)
	}
}

// The same host without the early start: what came up in the initramfs is
// found, not seen, and the timeline says so.
func TestDemoWithoutInitramfs(t *testing.T) {
	out, _ := play(t, "demo", func(o *lab.Options) { o.Install = lab.MakeInstall(repo(t), "INITRAMFS=no") })
	tl := readTimeline(t, filepath.Join(out, "trace.json"))

	if tl.Complete || tl.CompleteFrom == nil {
		t.Errorf("complete %v, from %v: tracing began after the activation", tl.Complete, tl.CompleteFrom)
	}
	if diff := cmp.Diff([]string{"web-a missing"}, kinds(tl)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	for _, name := range []string{"vg0-db--b", "vg0-shop--c"} {
		if life := mappingNamed(t, tl, name).Lives[0]; !life.Backfilled || life.Created != nil {
			t.Errorf("%s is not marked as found: %+v", name, life)
		}
	}
	for _, d := range guestNamed(t, tl, "db-b").Disks {
		if m := d.Uses[0].Margin; m == nil || !m.AtLeast {
			t.Errorf("db-b: the margin is not marked as a lower bound: %+v", m)
		}
	}
}
