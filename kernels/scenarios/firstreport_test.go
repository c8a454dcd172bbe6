package scenarios

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/service"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// The first report, over a real reboot: a guest ran on a concatenation that LVM
// does not know, and comes up on its first part. Beside it, what else can have
// become of a guest's disk, and what is no alarm: guests grown, moved and
// snapped are in no finding.
func TestFirstReport(t *testing.T) { testFirstReport(t, asked()) }

func testFirstReport(t *testing.T, w watch) {
	const template = "73bd7f2a-9779-46d6-885d-92783ac4f6b9"
	out := w.play(t, "firstreport", nil)
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
		"vm-" + template + " truncated",
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
	checkTemplateHeld(t, out, template)
	checkTemplateInside(t, out, tl, template)
	// Released by hand it ran on what is left once more, which is found once more. On
	// the repaired concatenation it is right again, and is not held.
	repaired := readTimeline(t, filepath.Join(out, "repaired.json"))
	// The start that was held for what is inside was never executed.
	for _, kind := range []string{"held", "held", "shrunk", "substituted", "truncated", "truncated", "vanished"} {
		want = append(want, "vm-"+template+" "+kind)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, kinds(repaired)); diff != "" {
		t.Errorf("findings after the repair (-want +got):\n%s", diff)
	}
	var ends []string
	for _, g := range repaired.Guests {
		for _, h := range g.Holds {
			ends = append(ends, g.Name+" "+string(h.Outcome)+" "+string(h.Reason))
		}
	}
	if diff := cmp.Diff([]string{"vm-" + template + " allowed by hand", "vm-" + template + " gone killed"}, ends); diff != "" {
		t.Errorf("holds (-want +got):\n%s", diff)
	}
}

// checkTemplateHeld: with identity: hold the status says why the guest does not
// start on what is left of its disk, and what to do.
func checkTemplateHeld(t *testing.T, out, template string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(out, "held.json"))
	if err != nil {
		t.Fatal(err)
	}
	var st service.Status
	if err := json.Unmarshal(data, &st); err != nil || st.Hold == nil || len(st.Hold.Holds) != 1 {
		t.Fatalf("not one hold: %v, %s", err, data)
	}
	held := st.Hold.Holds[0]
	var doubts []string
	for _, d := range held.Doubts {
		doubts = append(doubts, d.Kind)
	}
	slices.Sort(doubts)
	if diff := cmp.Diff([]string{"shrunk", "substituted", "vanished"}, doubts); diff != "" {
		t.Errorf("doubts (-want +got):\n%s", diff)
	}
	if held.Guest != "vm-"+template || held.OnTimeout != "deny" {
		t.Errorf("hold: %+v", held)
	}
	text, err := os.ReadFile(filepath.Join(out, "held.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"dm_" + template, "416 MiB", "320 MiB", "bootrace release"} {
		if !strings.Contains(string(text), words) {
			t.Errorf("the status does not say %q: %s", words, text)
		}
	}
}

// checkTemplateInside: what is inside the disk says itself that a part is missing, with
// both sizes, before the guest starts; with filesystem: hold the status says so.
func checkTemplateInside(t *testing.T, out string, tl *timeline.Timeline, template string) {
	t.Helper()
	const part, more = 320 << 20, 96 << 20
	for _, f := range tl.Findings {
		if f.Guest == "vm-"+template && f.Kind == timeline.Truncated {
			if in := f.Inside; in == nil || in.Layer != "xfs" || in.Needs != part+more || in.Has != part {
				t.Errorf("inside: %+v", in)
			}
		}
	}
	proved := false
	for _, v := range tl.Verdicts {
		for _, c := range v.Causes {
			if v.Guest == "vm-"+template && c.Kind == timeline.CauseAnotherDevice {
				proved = c.Inside != nil && c.Inside.Needs == part+more
			}
		}
	}
	if !proved {
		t.Error("another device is not proved from inside")
	}
	data, err := os.ReadFile(filepath.Join(out, "inside.json"))
	if err != nil {
		t.Fatal(err)
	}
	var st service.Status
	if err := json.Unmarshal(data, &st); err != nil || st.Hold == nil || len(st.Hold.Holds) != 1 {
		t.Fatalf("not one hold: %v, %s", err, data)
	}
	held := st.Hold.Holds[0]
	if held.Guest != "vm-"+template || held.OnTimeout != "deny" || len(held.Doubts) != 1 || held.Doubts[0].Kind != timeline.Truncated ||
		!strings.Contains(held.Doubts[0].Text, "needs 416 MiB and has 320 MiB: short by 96 MiB") {
		t.Errorf("hold: %+v", held)
	}
}

// checkTemplate: both sizes, and what the mapping that is gone was made of.
func checkTemplate(t *testing.T, tl *timeline.Timeline, template string) {
	t.Helper()
	const part, more = 320 << 20, 96 << 20
	for _, f := range tl.Findings {
		if f.Guest != "vm-"+template || f.Kind == timeline.Truncated {
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
