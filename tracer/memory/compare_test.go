package memory

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
)

func uuid(vg, lv string) string {
	pad := func(s string) string { return s + strings.Repeat("0", 32-len(s)) }
	return "LVM-" + pad(vg) + pad(lv)
}

func TestCompare(t *testing.T) {
	type disks = []event.MemoryDisk
	on := func(path, lv string, size int64) event.MemoryDisk {
		return event.MemoryDisk{Path: path, UUID: uuid("vg", lv), Name: "vg-" + lv, Size: size}
	}
	with := func(d event.MemoryDisk, change func(*event.MemoryDisk)) event.MemoryDisk {
		change(&d)
		return d
	}
	concat := func(table ...string) event.MemoryDisk {
		return event.MemoryDisk{Path: "/dev/mapper/cat", Name: "cat", Size: 10, Table: table}
	}
	dev := func(kind, name, id string) event.MemoryDisk {
		return event.MemoryDisk{Path: "/disk", DeviceKind: kind, Name: name, UUID: id, Size: 10}
	}
	file := func(path, fs string, inode uint64, size int64) event.MemoryDisk {
		return event.MemoryDisk{Path: path, DeviceKind: KindFile, UUID: fs, Inode: inode, Size: size}
	}
	for _, tc := range []struct {
		name              string
		last, before, now disks
		gone              bool
		want              []string
	}{
		{name: "the same", last: disks{on("/dev/vg/a", "a", 10)}, now: disks{on("/dev/vg/a", "a", 10)}},
		{name: "grown", last: disks{on("/dev/vg/a", "a", 10)}, now: disks{on("/dev/vg/a", "a", 11)}},
		{name: "smaller", last: disks{on("/dev/vg/a", "a", 10)}, now: disks{on("/dev/vg/a", "a", 9)}, want: []string{"shrunk"}},
		{name: "a size that is not known", last: disks{on("/dev/vg/a", "a", 10)}, now: disks{on("/dev/vg/a", "a", 0)}},
		{name: "the group has another UUID", last: disks{on("/dev/vg/a", "a", 10)},
			now: disks{{Path: "/dev/vg/a", UUID: uuid("other", "a"), Size: 10}}},
		{name: "another volume of that name", last: disks{on("/dev/vg/a", "a", 10)}, now: disks{on("/dev/vg/a", "b", 10)},
			want: []string{"substituted"}},
		{name: "and the old one is gone", last: disks{on("/dev/vg/a", "a", 10)}, now: disks{on("/dev/vg/a", "b", 9)}, gone: true,
			want: []string{"substituted", "vanished", "shrunk"}},
		{name: "no mapping at all", last: disks{on("/dev/vg/a", "a", 10)}, now: disks{{Path: "/dev/vg/a", Size: 10}},
			want: []string{"substituted"}},
		{name: "a new disk", last: disks{on("/dev/vg/a", "a", 10)}, now: disks{on("/dev/vg/a", "a", 10), on("/dev/vg/b", "b", 10)}},
		{name: "unplugged", last: disks{on("/dev/vg/a", "a", 10), on("/dev/vg/b", "b", 10)}, now: disks{on("/dev/vg/b", "b", 10)}},
		{name: "two that were exchanged", last: disks{on("/dev/vg/a", "a", 10), on("/dev/vg/b", "b", 5)},
			now: disks{on("/dev/vg/a", "b", 5), on("/dev/vg/b", "a", 10)}},
		{name: "a commit that wrote to the backing file",
			last: disks{on("/dev/vg/a", "a", 10), with(on("/dev/vg/base", "base", 10), func(d *event.MemoryDisk) { d.BackingOf, d.Written = "/dev/vg/a", true })},
			now:  disks{with(on("/dev/vg/base", "base", 10), func(d *event.MemoryDisk) { d.ID = "x" })}},
		{name: "a fall back to the backing file",
			last: disks{with(on("/dev/vg/a", "a", 10), func(d *event.MemoryDisk) { d.ID = "hda" }), with(on("/dev/vg/base", "base", 10), func(d *event.MemoryDisk) { d.BackingOf = "/dev/vg/a" })},
			now:  disks{with(on("/dev/vg/base", "base", 10), func(d *event.MemoryDisk) { d.ID = "hda" })}, want: []string{"substituted: " + Fallback}},
		{name: "another backing file by the same name",
			last: disks{on("/dev/vg/a", "a", 10), with(on("/dev/vg/base", "base", 10), func(d *event.MemoryDisk) { d.BackingOf = "/dev/vg/a" })},
			now:  disks{on("/dev/vg/a", "a", 10), with(on("/dev/vg/base", "new", 10), func(d *event.MemoryDisk) { d.BackingOf = "/dev/vg/a" })}, want: []string{"substituted"}},
		{name: "other serial numbers", last: disks{with(on("/dev/vg/a", "a", 10), func(d *event.MemoryDisk) { d.Serial = "1" })},
			now: disks{with(on("/dev/vg/a", "b", 9), func(d *event.MemoryDisk) { d.Serial = "2" })}},
		{name: "repaired", last: disks{on("/dev/vg/a", "b", 9)}, before: disks{on("/dev/vg/a", "a", 10)}, now: disks{on("/dev/vg/a", "a", 10)}},
		{name: "half repaired", last: disks{on("/dev/vg/a", "b", 9)}, before: disks{on("/dev/vg/a", "a", 10)}, now: disks{on("/dev/vg/a", "a", 8)},
			want: []string{"substituted", "shrunk"}},
		{name: "a name and its table", last: disks{concat("0 5 linear /dev/mapper/vg-a 0", "5 5 linear 8:16 0")},
			now: disks{concat("0 5 linear /dev/mapper/vg-a 0", "5 5 linear 8:32 0")}},
		{name: "a table that grew", last: disks{concat("0 5 linear /dev/mapper/vg-a 0")},
			now: disks{concat("0 6 linear /dev/mapper/vg-a 0", "6 5 linear /dev/mapper/vg-b 0")}},
		{name: "a table of something else", last: disks{concat("0 5 linear /dev/mapper/vg-a 0")}, now: disks{concat("0 5 linear /dev/mapper/vg-b 0")},
			want: []string{"substituted: " + OtherTable}},
		{name: "a name that is a volume's now", last: disks{concat()}, now: disks{{Path: "/dev/mapper/cat", Name: "cat", UUID: uuid("vg", "cat"), Size: 10}},
			want: []string{"substituted"}},
		{name: "a table whose key is written with another word", last: disks{concat("0 5 crypt aes REDACTED 0 8:16 0")},
			now: disks{concat("0 5 crypt aes [redacted] 0 8:32 0")}},
		{name: "a disk by another name", last: disks{dev("scsi", "sdb", "wwn:0x5000c500a1b2c3d4")}, now: disks{dev("scsi", "sdc", "wwn:0x5000c500a1b2c3d4")}},
		{name: "another disk by the same name", last: disks{dev("scsi", "sdb", "serial:A")}, now: disks{dev("scsi", "sdb", "serial:B")}, want: []string{"substituted"}},
		{name: "what sysfs calls it, not udev", last: disks{dev("scsi", "sdb", "wwn:0x5000c500a1b2c3d4")}, now: disks{dev("scsi", "sdb", "wwn:naa.5000C500A1B2C3D4")}},
		{name: "a part of a world wide name", last: disks{dev("scsi", "sdb", "wwn:0x600508b1001c1234")}, now: disks{dev("scsi", "sdb", "wwn:0x600508b1001c12340000000000000001")}},
		{name: "other kinds of identity", last: disks{dev("scsi", "sdb", "serial:A")}, now: disks{dev("scsi", "sdb", "wwn:0x5000c500a1b2c3d4")}},
		{name: "nothing tells it any more", last: disks{dev("virtio", "vdb", "serial:A")}, now: disks{dev("virtio", "vdb", "")}},
		{name: "nothing ever told it, and smaller", last: disks{dev("nbd", "nbd0", "")}, now: disks{with(dev("nbd", "nbd0", ""), func(d *event.MemoryDisk) { d.Size = 1 })}},
		{name: "an array", last: disks{dev("md", "md127", "md:a:b")}, now: disks{dev("md", "md126", "md:a:c")}, want: []string{"substituted"}},
		{name: "an array that shrank", last: disks{dev("md", "md127", "md:a:b")}, now: disks{with(dev("md", "md0", "md:a:b"), func(d *event.MemoryDisk) { d.Size = 1 })}, want: []string{"shrunk"}},
		{name: "a disk in the place of an array", last: disks{dev("md", "md127", "md:a:b")}, now: disks{dev("scsi", "sdb", "")}, want: []string{"substituted"}},
		{name: "another image", last: disks{dev("rbd", "rbd0", "rbd:p/a")}, now: disks{dev("rbd", "rbd0", "rbd:p/b")}, want: []string{"substituted"}},
		{name: "multipathd took it over", last: disks{dev("scsi", "sdb", "wwn:0x600508b1001c1234")}, now: disks{{Path: "/disk", Name: "mpatha", UUID: "mpath-3600508b1001c1234", Size: 10}}},
		{name: "multipathd took it over, by serial", last: disks{{Path: "/disk", Name: "mpatha", UUID: "mpath-3600508b1", Size: 10}}, now: disks{dev("scsi", "sdb", "serial:3600508b1")}},
		{name: "another one's multipath", last: disks{dev("scsi", "sdb", "wwn:0x600508b1001c1234")}, now: disks{{Path: "/disk", Name: "mpatha", UUID: "mpath-3600508b1001c9999", Size: 10}},
			want: []string{"substituted"}},
		{name: "a mapping in the place of a disk", last: disks{dev("scsi", "sdb", "serial:A")}, now: disks{{Path: "/disk", Name: "crypt", UUID: "CRYPT-LUKS2-1", Size: 10}}, want: []string{"substituted"}},
		{name: "a file", last: disks{file("/srv/a", "fs1", 5, 10)}, now: disks{file("/srv/a", "fs1", 5, 11)}},
		{name: "a file that was replaced", last: disks{file("/srv/a", "fs1", 5, 10)}, now: disks{file("/srv/a", "fs1", 6, 10)}},
		{name: "a file that was replaced by a shorter one", last: disks{file("/srv/a", "fs1", 5, 10)}, now: disks{file("/srv/a", "fs1", 6, 9)}, want: []string{"shrunk"}},
		{name: "a file below the mount point", last: disks{file("/srv/a", "fs1", 5, 10)}, now: disks{file("/srv/a", "root", 5, 10)}, want: []string{"substituted: " + OtherFileSystem}},
		{name: "a file that was renamed", last: disks{with(file("/srv/a", "fs1", 5, 10), func(d *event.MemoryDisk) { d.ID = "x" })}, now: disks{with(file("/srv/b", "fs1", 5, 10), func(d *event.MemoryDisk) { d.ID = "x" })}},
		{name: "another file", last: disks{with(file("/srv/a", "fs1", 5, 10), func(d *event.MemoryDisk) { d.ID = "x" })}, now: disks{with(file("/srv/b", "fs1", 6, 10), func(d *event.MemoryDisk) { d.ID = "x" })},
			want: []string{"substituted"}},
		{name: "a file on what nothing tells", last: disks{file("/tmp/a", "", 5, 10)}, now: disks{file("/tmp/a", "", 6, 9)}},
		{name: "a snapshot of a file",
			last: disks{with(file("/srv/a", "fs1", 5, 0), func(d *event.MemoryDisk) { d.ID = "x" })},
			now: disks{with(file("/srv/a.snap", "fs1", 6, 0), func(d *event.MemoryDisk) { d.ID = "x" }),
				with(file("/srv/a", "fs1", 5, 0), func(d *event.MemoryDisk) { d.BackingOf = "/srv/a.snap" })}},
	} {
		var got []string
		exists := func(*event.MemoryDisk) bool { return !tc.gone }
		for _, c := range Compare(&event.MemoryInfo{Disks: tc.last, Before: tc.before}, tc.now, exists) {
			line := string(c.Kind)
			if c.Why != "" {
				line += ": " + c.Why
			}
			got = append(got, line)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
	if Compare(nil, disks{on("/dev/vg/a", "a", 1)}, nil) != nil {
		t.Error("a change without a memory")
	}
}

func TestNamedTable(t *testing.T) {
	name := func(dev event.Dev) string {
		if dev == (event.Dev{Major: 253, Minor: 4}) {
			return "vg-a"
		}
		return ""
	}
	got := NamedTable([]string{"0 8 linear 253:4 0", "8 8 linear 8:16 2048", "16 8 crypt x :32:logon:k 0 253:40 0"}, name)
	want := []string{"0 8 linear /dev/mapper/vg-a 0", "8 8 linear 8:16 2048", "16 8 crypt x :32:logon:k 0 253:40 0"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Of a disk that nothing identifies it is said that it can't be compared, and why;
// that is no change.
func TestUncompared(t *testing.T) {
	nbd := event.MemoryDisk{Path: "/dev/nbd0", DeviceKind: "nbd", Name: "nbd0", Size: 8}
	small := nbd
	small.Size = 4
	serial := event.MemoryDisk{Path: "/dev/vdb", DeviceKind: "virtio", Name: "vdb", UUID: "serial:A"}
	blank := event.MemoryDisk{Path: "/dev/vdb", DeviceKind: "virtio", Name: "vdb"}
	file := event.MemoryDisk{Path: "/srv/a/b.raw", DeviceKind: KindFile, UUID: "u", Mount: "/srv/a"}
	lost := event.MemoryDisk{Path: "/srv/a/b.raw", DeviceKind: KindFile}
	rootFile := event.MemoryDisk{Path: "/srv/a/b.raw", DeviceKind: KindFile, Mount: "/"}
	for _, tt := range []struct {
		last, now event.MemoryDisk
		why       string
	}{
		{nbd, nbd, "nothing identifies the device over reboots"},
		{nbd, small, "nothing identifies the device over reboots, and it is smaller than that was"},
		{serial, blank, "nothing identifies the device in this boot, where it was serial:A before"},
		{blank, serial, "what it was before had nothing to identify it, and it is serial:A now"},
		{file, lost, "nothing identifies its file system in this boot, where it was u before"},
		{serial, serial, ""},
		{file, file, ""},
		{rootFile, lost, ""},
	} {
		last := event.MemoryInfo{Disks: []event.MemoryDisk{tt.last}}
		list := Uncompared(&last, []event.MemoryDisk{tt.now})
		switch {
		case tt.why == "" && len(list) > 0, tt.why != "" && (len(list) != 1 || list[0].Why != tt.why):
			t.Errorf("%+v, then %+v: %+v, want %q", tt.last, tt.now, list, tt.why)
		case tt.why != "" && len(Compare(&last, []event.MemoryDisk{tt.now}, func(*event.MemoryDisk) bool { return true })) > 0:
			t.Errorf("%+v, then %+v: it is an alarm, too", tt.last, tt.now)
		}
	}
	if Uncompared(nil, []event.MemoryDisk{nbd}) != nil {
		t.Error("without a memory there is nothing to compare")
	}
}
