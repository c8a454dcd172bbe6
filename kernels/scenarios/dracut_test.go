package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/check"
)

// A host with dracut's initramfs: bootrace starts in it, sees the volume group
// come up there, and is the service after the switch of root. The second script
// holds the processes and units against that.
func TestDracut(t *testing.T) {
	out, _ := play(t, "dracut", func(o *lab.Options) {
		o.Packages = []string{"dracut", "initramfs-tools-"}
		o.Install = lab.MakeInstall(repo(t), "INITRAMFS=no", "DRACUT=yes")
		o.Append = "rd.auto" // dracut leaves volume groups alone otherwise
	})
	tl := readTimeline(t, filepath.Join(out, "trace.json"))
	if !tl.Complete || len(tl.Losses) > 0 {
		t.Errorf("the record is not complete: %+v, losses %+v", tl.Incomplete, tl.Losses)
	}
	for _, name := range []string{"vg0-a", "vg0-b"} {
		m := mappingNamed(t, tl, name)
		life := m.Lives[0]
		if len(m.Lives) != 1 || life.Backfilled || life.Created == nil || life.Live == nil {
			t.Errorf("%s was not seen being created: %+v", name, m.Lives)
			continue
		}
		if window := life.Live.At.Sub(life.Live.From); window > maxWindow {
			t.Errorf("%s went live within %v, want a window of at most %v", name, window, maxWindow)
		}
	}
	journal, err := os.ReadFile(filepath.Join(out, "journal.txt"))
	if err != nil {
		t.Fatal(err)
	}
	// In this order: its start, the activation, the switch.
	at := 0
	for _, line := range []string{"Started bootrace-early.service", "device-mapper: ioctl:", "now active", "Starting initrd-switch-root.service"} {
		i := strings.Index(string(journal[at:]), line)
		if i < 0 {
			t.Fatalf("not in the journal, or too early: %q", line)
		}
		at += i
	}
	if item := readReport(t, out, "check").item(t, "early start"); item.Grade != check.Good {
		t.Errorf("check says %+v", item)
	}
}
