package words

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// What a guest last ran on is told with both sizes, and where nothing is known
// nothing is said.
func TestTellChanges(t *testing.T) {
	last := &timeline.Last{BootID: "0badcafe-1111", Path: "/dev/mapper/dm_x", Name: "dm_x", Size: 3 << 29}
	f := timeline.Finding{Guest: "vm1", Disk: "/dev/vg/x", At: 12e9, MappingName: "vg-x", Size: 1 << 30, Last: last}
	for kind, want := range map[string]string{
		"substituted": "guest vm1 opened /dev/vg/x at 12.000 s; it led to another device than this guest should run on: vg-x, 1.0 GiB (1073741824 bytes); in boot 0badcafe it ran on dm_x by /dev/mapper/dm_x, 1.5 GiB (1610612736 bytes).",
		"shrunk": "guest vm1 opened /dev/vg/x at 12.000 s; the device vg-x is smaller than what this guest last ran on: 1.0 GiB (1073741824 bytes) instead of 1.5 GiB (1610612736 bytes); " +
			"in boot 0badcafe it ran on dm_x by /dev/mapper/dm_x, 1.5 GiB (1610612736 bytes).",
		"vanished": "guest vm1 opened /dev/vg/x at 12.000 s, and ran on vg-x; the mapping dm_x that it last ran on by /dev/mapper/dm_x, of 1.5 GiB (1610612736 bytes), did not exist.",
	} {
		f.Kind = kind
		if got := toldOf(&f); got != want {
			t.Errorf("%s:\n got %s\nwant %s", kind, got, want)
		}
	}
	f = timeline.Finding{
		Kind: "vanished", Guest: "vm1", Disk: "/dev/vg/x", At: 12e9,
		Last: &timeline.Last{UUID: "LVM-u"},
	}
	f.Last.Came = &timeline.Instant{At: 20e9, From: 20e9}
	if got, want := toldOf(&f), "guest vm1 opened /dev/vg/x at 12.000 s, and ran on a device that is not known; the mapping LVM-u that it last ran on did not exist; it came at 20.000 s."; got != want {
		t.Errorf("got %s", got)
	}
	f.Kind, f.Last, f.Reason = "substituted", nil, "so"
	if got, want := toldOf(&f), "guest vm1 opened /dev/vg/x at 12.000 s; it led to another device than this guest should run on: a device that is not known: so."; got != want {
		t.Errorf("got %s", got)
	}
	disk := timeline.Last{BootID: "0badcafe-1111", Path: "/dev/sdb", Name: "sdb", Kind: "scsi", Device: "SCSI disk sdb (serial:A)", Size: 1 << 30}
	for _, tc := range []struct {
		f    timeline.Finding
		want string
	}{
		{timeline.Finding{Kind: "substituted", Disk: "/dev/sdb", MappingName: "sdb", Device: "SCSI disk sdb (serial:B)", Last: &disk},
			"guest vm1 opened /dev/sdb at 12.000 s; it led to another device than this guest should run on: SCSI disk sdb (serial:B); " +
				"in boot 0badcafe it ran on SCSI disk sdb (serial:A) by /dev/sdb, 1.0 GiB (1073741824 bytes)."},
		{timeline.Finding{Kind: "vanished", Disk: "/dev/sdb", MappingName: "sdb", Device: "SCSI disk sdb (serial:B)", Last: &disk},
			"guest vm1 opened /dev/sdb at 12.000 s, and ran on SCSI disk sdb (serial:B); the SCSI disk sdb (serial:A) that it last ran on by /dev/sdb, of 1.0 GiB (1073741824 bytes), did not exist."},
		{timeline.Finding{Kind: "renamed", Disk: "/dev/vg/old", MappingName: "vg-new", NowPath: "/dev/vg/new", Error: "ENOENT"},
			"guest vm1 opened /dev/vg/old at 12.000 s (ENOENT); what it meant is there under another name: vg-new, as /dev/vg/new."},
		{timeline.Finding{Kind: "pulled", Disk: "/dev/vg/lv", MappingName: "vg-lv", Beneath: "/dev/sdb"},
			"/dev/vg/lv of guest vm1 was lost at 12.000 s, while the guest ran: /dev/sdb beneath it went. Its reads and writes fail from then on."},
	} {
		tc.f.Guest, tc.f.At = "vm1", 12e9
		if got := toldOf(&tc.f); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.f.Kind, got, tc.want)
		}
	}
	f = timeline.Finding{Kind: "backing-missing", Guest: "vm1", Disk: "/dev/vg/b", BackingOf: "/dev/vg/x", At: 12e9, State: "absent", Error: "ENOENT"}
	if got, want := toldOf(&f), "guest vm1 opened /dev/vg/b, a backing file of /dev/vg/x, at 12.000 s, but the volume did not exist (ENOENT), and it never became ready in this boot."; got != want {
		t.Errorf("got %s", got)
	}
}

func toldOf(f *timeline.Finding) string {
	t := Teller{Signs: ASCII, Name: func(s string, _ int) string { return s }}
	var p Paragraph
	p.tell(" "+textOf(f), t.says(f))
	return strings.TrimSpace(p.String())
}

// What stood in the way is told as it was: a node without anything behind it is there, a
// suspended mapping has its table, and a file is not made ready by anybody.
func TestHowItStood(t *testing.T) {
	for _, tt := range []struct {
		f    timeline.Finding
		want string
	}{
		{timeline.Finding{Kind: timeline.NeverReady, DeviceKind: blockdev.NBD, State: "absent", Errno: int(unix.ENXIO), Error: "ENXIO", Disk: "/dev/nbd0"},
			"guest vm1 opened /dev/nbd0 at 12.000 s, but the nbd device had nothing behind its node (ENXIO), and it never became ready in this boot."},
		{timeline.Finding{Kind: timeline.NotLive, DeviceKind: blockdev.Mapping, State: "suspended", Disk: "/dev/vg/a"},
			"guest vm1 opened /dev/vg/a at 12.000 s: the volume was suspended, so that all it read and wrote had to wait."},
		{timeline.Finding{Kind: timeline.NeverReady, DeviceKind: timeline.KindMount, State: "live", Errno: int(unix.ENOENT), Error: "ENOENT", Disk: "/srv/a.img", MappingName: "/srv"},
			"guest vm1 opened /srv/a.img at 12.000 s, but its file system was mounted and the file not there (/srv) (ENOENT), and nobody put it there later in this boot."},
	} {
		tt.f.Guest, tt.f.At = "vm1", 12e9
		if got := toldOf(&tt.f); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}
