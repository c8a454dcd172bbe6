package histories_test

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline/histories"
)

// Every history of the timeline's own tests can be loaded from its file.
func TestLoad(t *testing.T) {
	files, err := filepath.Glob("../testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories: %v", err)
	}
	for _, file := range files {
		h, err := histories.Load(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if h.Says == "" || len(h.Events) == 0 || h.Events[0].ID != 1 {
			t.Errorf("%s: %d events, %q", file, len(h.Events), h.Says)
		}
	}
}

// A plain text says what is right in its first lines, or in a file beside it.
func TestLoadPlain(t *testing.T) {
	for file, says := range map[string]string{
		"testdata/remark.txt":        "right: nothing happened\nand nobody came",
		"testdata/beside-events.txt": "right: it is told beside",
	} {
		h, err := histories.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if h.Says != says || len(h.Events) != 5 {
			t.Errorf("%s: %d events, %q, want 5, %q", file, len(h.Events), h.Says, says)
		}
	}
}

func TestParse(t *testing.T) {
	events, err := histories.Parse(`
0.1 sources
5 hold pid=100 guest=slow identity=name:slow disk=/dev/vg/lv reason=some_reason deadline=85
6..6.5 udev add sda dev=8:0 DM_MULTIPATH_DEVICE_PATH=1 SYSTEMD_READY=0 links=/dev/disk/by-id/a,/dev/disk/by-id/b
7 open pid=1 /dev/disk/by-path/pci-0000:00=1 EIO flags=O_RDWR,O_NONBLOCK
8 unknown later-kind
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 8 {
		t.Fatalf("%d events, want 8", len(events))
	}
	hold, udev, open := events[4].Hold, events[5], events[6].Open
	if hold.Reason != "some reason" || hold.Deadline.Seconds() != 85 || hold.Identity != "name:slow" {
		t.Errorf("hold: %+v", hold)
	}
	if udev.From.Seconds() != 6 || udev.At.Seconds() != 6.5 || udev.Dev.Props["SYSTEMD_READY"] != "0" || len(udev.Dev.Links) != 2 {
		t.Errorf("udev: %+v", udev)
	}
	if open.Path != "/dev/disk/by-path/pci-0000:00=1" || open.Errno != 5 || open.Flags != unix.O_RDWR|unix.O_NONBLOCK {
		t.Errorf("open: %+v", open)
	}
	if events[7].Kind != event.Kind("later-kind") {
		t.Errorf("unknown: %+v", events[7])
	}
}

// What makes no sense is told with its line, and does not pass for something
// else.
func TestErrors(t *testing.T) {
	for line, want := range map[string]string{
		"1":                          "want TIME KIND",
		"x exec pid=1":               "invalid duration",
		"1 exce pid=1":               `there is no kind "exce"`,
		"1 exec pid=one":             "pid=one is not a number",
		"1 uevent add sda dev=8":     "dev=8 is not MAJOR:MINOR",
		"1 open pid=1":               "a path is missing",
		"1 open pid=1 /dev/a ENONE":  "ENONE is not the name of an error",
		"1 open pid=1 /a flags=rw":   "flags=rw: use names of open(2)",
		"1 exit pid=1 stauts=1":      "stauts= means nothing here",
		"1 remembered path=/dev/a":   "there is no memory event before it",
		"1 member path=/dev/a":       "there is no image event before it",
		"1 dm_resume lv=a/b live=no": "live=no is not a time in seconds",
		"1 activate lv=a/b dev=253":  "dev=253 is not MAJOR:MINOR",
	} {
		if _, err := histories.Parse("\n" + line); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "line 2: ") {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0.1 sources\n1 activate lv=vg/a dev=253:0\n2 exec pid=1 args: qemu -name a")
	f.Add("1 memory pid=1 guest=a\n1 remembered path=/dev/a table=0_1_linear\n1 lvm config a=b\n1 mark mode text=trace")
	f.Add("1..2 backfill guest holds=/dev/a@8:0\n1 link /dev/a\n1 lvm a not-found\n1 open /dev/a EIO\n1 unknown x")
	f.Fuzz(func(t *testing.T, text string) {
		if events, err := histories.Parse(text); err == nil {
			for i := range events {
				if events[i].ID != uint64(i+1) || events[i].Kind == "" {
					t.Fatalf("event %d: %+v", i, events[i])
				}
			}
		}
	})
}
