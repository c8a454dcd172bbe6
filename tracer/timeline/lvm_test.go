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
