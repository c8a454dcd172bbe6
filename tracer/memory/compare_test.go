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
