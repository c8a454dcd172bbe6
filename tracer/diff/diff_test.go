package diff

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// vm is a guest with one disk.
func vm(name, path, mapping string, size int64, margin event.Duration, status int) *timeline.Guest {
	g := &timeline.Guest{ID: name, Identity: "uuid:" + name, Name: name, Exec: timeline.Instant{At: 5e9}}
	g.Disks = []timeline.Disk{{Path: path, Mapping: mapping, Uses: []timeline.Use{{
		Mapping: mapping, Size: size, Margin: &timeline.Margin{NS: margin},
	}}}}
	if status != 0 {
		g.Exit = &timeline.Exit{ExitInfo: event.ExitInfo{Status: status}}
	}
	return g
}

func volume(name string, minor uint32, size int64, ready event.Time, table ...string) *timeline.Mapping {
	return &timeline.Mapping{ID: "LVM-" + name, UUID: "LVM-" + name, Name: name, Lives: []*timeline.Life{{
		Dev: event.Dev{Major: 253, Minor: minor}, Size: size, Table: table,
		Paths: []timeline.Path{{Path: "/dev/" + name, Ready: &timeline.Instant{At: ready}}},
	}}}
}

func TestCompare(t *testing.T) {
	before := &timeline.Timeline{
		Mappings: []*timeline.Mapping{
			volume("a", 0, 100, 1e9, "0 10 linear 8:0 0"), volume("b", 1, 100, 2e9), volume("c", 2, 100, 3e9), volume("gone", 3, 100, 4e9),
			volume("cat", 4, 200, 5e9, "0 10 linear 253:0 0"),
			{ID: "p", UUID: "LVM-p-tpool", Name: "p-tpool", Layer: "tpool", Lives: []*timeline.Life{{}}},
		},
		Guests: []*timeline.Guest{
			vm("web", "/dev/a", "LVM-a", 100, 2e9, 0), vm("db", "/dev/cat", "LVM-cat", 200, 2e9, 0), vm("old", "/dev/b", "LVM-b", 100, 2e9, 0),
		},
		Findings: []*timeline.Finding{{Kind: "near-miss", Guest: "web", Disk: "/dev/a"}, {Kind: "missing", Guest: "x", Disk: "/dev/x", Withheld: "lost"}},
	}
	after := &timeline.Timeline{
		Mappings: []*timeline.Mapping{
			volume("b", 0, 100, 1e9), volume("a", 1, 100, 2e9, "0 10 linear 8:0 0"), volume("c", 2, 150, 3e9),
			volume("cat", 4, 200, 5e9, "0 10 linear 253:1 0"), volume("new", 5, 100, 6e9),
		},
		Guests: []*timeline.Guest{
			vm("web", "/dev/a", "LVM-a", 100, -2e9, 1), vm("db", "/dev/cat", "LVM-a", 100, 2e9, 0), vm("young", "/dev/b", "LVM-b", 100, 2e9, 0),
		},
		Findings: []*timeline.Finding{{Kind: "missing", Guest: "web", Disk: "/dev/a"}},
	}
	d := Compare(before, after)
	var got []string
	for _, m := range d.Mappings {
		got = append(got, fmt.Sprint("mapping ", m.Name, " ", m.Changes))
	}
	for _, g := range d.Guests {
		got = append(got, fmt.Sprint("guest ", g.Guest, " ", g.Changes))
		for _, disk := range g.Disks {
			got = append(got, fmt.Sprint("disk ", disk.Path, " ", disk.Changes))
		}
	}
	for _, f := range d.Findings {
		got = append(got, fmt.Sprint("finding ", f.Kind, " ", f.Before, f.After))
	}
	want := []string{
		"mapping b [minor order]", "mapping a [minor]", "mapping c [size]", "mapping cat []", "mapping new [came]", "mapping gone [went]",
		"guest web [exit]", "disk /dev/a [margin]", "guest db []", "disk /dev/cat [mapping size]",
		"guest young [came]", "disk /dev/b []", "guest old [went]", "disk /dev/b []",
		"finding missing false true", "finding near-miss true false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if d.Same() || !Compare(before, before).Same() {
		t.Error("a boot is equal to itself and to no other")
	}
}

// One that moved to the end is the one that moved, not all others.
func TestMoved(t *testing.T) {
	got := moved([]string{"a", "b", "c", "d", "x"}, []string{"y", "b", "c", "d", "a"})
	if diff := cmp.Diff(map[string]bool{"a": true}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
