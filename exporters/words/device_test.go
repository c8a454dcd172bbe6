package words

import (
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/memory"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Each kind has a noun: "the volume did not exist".
func TestNouns(t *testing.T) {
	for _, kind := range blockdev.Kinds() {
		if nouns[kind] == "" {
			t.Errorf("nouns has none for devices of the kind %q", string(kind))
		}
	}
}

// A device is called what it is, and its state is one that its kind can have.
func TestDeviceWords(t *testing.T) {
	lvm := "LVM-" + strings.Repeat("a", 64)
	ready := &timeline.Instant{At: 20e9, From: 20e9}
	for _, c := range []struct {
		f    timeline.Finding
		want string
	}{
		{timeline.Finding{DeviceKind: blockdev.Mapping, Mapping: lvm, Disk: "/dev/vg/a", State: "absent"}, "but the volume did not exist"},
		{timeline.Finding{DeviceKind: blockdev.Mapping, Mapping: "dm_1@5", Disk: "/dev/mapper/dm_1", State: "created"}, "but the mapping had no table yet"},
		{timeline.Finding{DeviceKind: blockdev.Array, Disk: "/dev/md0", State: "created"}, "but the array did not run yet"},
		{timeline.Finding{DeviceKind: blockdev.Zvol, Disk: "/dev/zvol/tank/a", State: "absent"}, "but the ZFS volume did not exist"},
		{timeline.Finding{DeviceKind: blockdev.RBD, Disk: "/dev/rbd/p/a", State: "absent"}, "but the rbd image did not exist"},
		{timeline.Finding{DeviceKind: blockdev.NVMe, Disk: "/dev/nvme0n1", State: "absent"}, "but the disk did not exist"},
		{timeline.Finding{DeviceKind: blockdev.Loop, Disk: "/dev/loop0", State: "created"}, "but the loop device had nothing behind it yet"},
		{timeline.Finding{DeviceKind: memory.KindFile, Disk: "/srv/a.qcow2", State: "absent"}, "but the file did not exist"},
		{timeline.Finding{DeviceKind: timeline.KindMount, MappingName: "/srv/images", Disk: "/srv/images/a.qcow2", State: "absent", Ready: ready}, "but its file system was not mounted yet (/srv/images)"},
		{timeline.Finding{Disk: "/dev/zvol/tank/a", State: "absent"}, "but the ZFS volume did not exist"}, // of an older version
		{timeline.Finding{Disk: "/srv/a.qcow2", State: "absent"}, "but the file did not exist"},
	} {
		c.f.Kind, c.f.Guest = timeline.Missing, "g"
		if got := toldOf(&c.f); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s", c.f.Disk, got)
		}
	}
}
