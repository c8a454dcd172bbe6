package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/timeline"
)

// The first report, over a real reboot: a guest ran on a concatenation that LVM
// does not know, and comes up on its first part. Beside it, what else can have
// become of a guest's disk, and what is no alarm: guests grown, moved and
// snapped are in no finding.
func TestFirstReport(t *testing.T) {
	const template = "73bd7f2a-9779-46d6-885d-92783ac4f6b9"
	out, _ := play(t, "firstreport", nil)
	tl := readTimeline(t, filepath.Join(out, "trace.json"))
	want := []string{
		"asfile not-a-device",
		"asfile vanished",
		"denied open-error",
		"over backing-missing", "over would-hold",
		"recreated substituted",
		"recreated vanished",
		"reduced shrunk",
		"vm-" + template + " shrunk",
		"vm-" + template + " substituted",
		"vm-" + template + " vanished",
	}
	if diff := cmp.Diff(want, kinds(tl)); diff != "" {
		t.Fatalf("findings (-want +got):\n%s", diff)
	}
	checkTemplate(t, tl, template)
	checkChain(t, tl)

	mounted, err := os.ReadFile(filepath.Join(out, "mount.txt"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the guest's XFS on what is left: %s", strings.TrimSpace(string(mounted)))
	// On the repaired concatenation the guest is right again.
	repaired := readTimeline(t, filepath.Join(out, "repaired.json"))
	if diff := cmp.Diff(want, kinds(repaired)); diff != "" {
		t.Errorf("findings after the repair (-want +got):\n%s", diff)
	}
}

// checkTemplate: both sizes, and what the mapping that is gone was made of.
func checkTemplate(t *testing.T, tl *timeline.Timeline, template string) {
	t.Helper()
	const part, more = 320 << 20, 96 << 20
	for _, f := range tl.Findings {
		if f.Guest != "vm-"+template {
			continue
		}
		last := f.Last
		if f.Size != part || last == nil || last.Size != part+more {
			t.Errorf("%s: %d bytes instead of %+v", f.Kind, f.Size, last)
			continue
		}
		if f.Disk != "/dev/vgdata/"+template || last.Path != "/dev/mapper/dm_"+template || last.Name != "dm_"+template || len(last.Table) != 2 {
			t.Errorf("%s: %s instead of %+v", f.Kind, f.Disk, last)
		}
	}
}

// checkChain: the backing file that is missing was announced by the header, and
// that of the guest after a snapshot was found and followed.
func checkChain(t *testing.T, tl *timeline.Timeline) {
	t.Helper()
	for guest, backing := range map[string]string{"over": "/dev/vgdata/base", "snapped": "/dev/vgdata/snap_1"} {
		found := false
		for _, d := range guestNamed(t, tl, guest).Disks {
			if d.Path == backing {
				found = d.FromHeader && d.BackingOf == "/dev/vgdata/"+guest && len(d.Uses) > 0
			}
		}
		if !found {
			t.Errorf("%s: %s is not known as its backing file: %+v", guest, backing, guestNamed(t, tl, guest).Disks)
		}
	}
}
