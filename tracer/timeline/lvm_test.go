package timeline

import (
	"slices"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
)

// What keeps a volume from being activated is that it failed. LVM is asked with
// --readonly, and then calls the health of every RAID volume unknown; the other
// words are of volumes that come up.
func TestHealth(t *testing.T) {
	for health, want := range map[string][]string{
		"": nil, "unknown": nil, "refresh needed": nil, "mismatches exist": nil, "writemostly": nil,
		"metadata_read_only": nil, "failed": {SettingUnhealthy},
	} {
		v := event.LVMInfo{VG: "vg0", LV: "raid", GroupFound: true, Found: true, Health: health}
		if got := Settings(&v, nil); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", health, got, want)
		}
	}
	v := event.LVMInfo{VG: "vg0", LV: "raid", GroupFound: true, Found: true, Health: "partial", MissingPVs: 1}
	if got := Settings(&v, nil); !slices.Equal(got, []string{SettingIncomplete}) {
		t.Errorf("a leg that is gone: %q", got)
	}
}

// A filter is set only if it can reject something, and what it does to a disk
// that has only its own name yet is told by the first pattern that matches.
func TestFilter(t *testing.T) {
	for value, want := range map[string]struct{ set, rejects bool }{
		``:                                 {},
		`["a|.*|"]`:                        {},
		`["a/.*/"]`:                        {},
		`["r|.*|"]`:                        {true, true},
		`["r|/dev/drbd|"]`:                 {set: true},
		`["a|^/dev/sd|","r|.*|"]`:          {set: true},
		`["a|/dev/disk/by-id/|","r|.*|"]`:  {true, true},
		`[ "a(by-path)", "r{/dev/sd.*}" ]`: {true, true},
		`["a|(|","r|.*|"]`:                 {set: true}, // no expression: nothing can be told
		`["r|`:                             {},
		`["r"]`:                            {},
	} {
		config := map[string]string{configFilter: value}
		if got := filterOf(config) != ""; got != want.set {
			t.Errorf("%s: set %v", value, got)
		}
		if got := compile(patterns(value)).rejects("/dev/sdb"); got != want.rejects {
			t.Errorf("%s: rejects %v", value, got)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(`["a|by-path|","r|.*|"]`)
	f.Fuzz(func(_ *testing.T, value string) {
		filterOf(map[string]string{configFilter: value})
		compile(patterns(value)).rejects("/dev/sdb")
	})
}
