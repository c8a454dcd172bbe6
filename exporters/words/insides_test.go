package words

import (
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// A disk without a known format is told in other words than one that could not be read.
func TestInsides(t *testing.T) {
	disk := func(path string, l event.InsideLayer, unknown ...string) timeline.Disk {
		return timeline.Disk{Path: path, Announced: true, Inside: &timeline.Inside{
			Layers: []event.InsideLayer{{Kind: "disk", Over: -1}, l}, Unknown: unknown,
		}}
	}
	tl := &timeline.Timeline{Inspect: "on", Guests: []*timeline.Guest{{Disks: []timeline.Disk{
		disk("/dev/vg0/raw", event.InsideLayer{Kind: "unknown", State: "unknown", Checked: []string{"the first 8192 bytes"}}, "unknown: no format"),
		disk("/dev/vg0/bad", event.InsideLayer{Kind: "unknown", State: "unknown", Why: "byte 0 can't be read"}, "/dev/vg0/bad: byte 0 can't be read"),
		disk("/dev/vg0/dirty", event.InsideLayer{Kind: "xfs", State: "dirty"}),
		disk("/dev/vg0/boot", event.InsideLayer{Kind: "fat", State: "dirty"}),
	}}}}
	p := (&Teller{Signs: ASCII, Name: func(s string, _ int) string { return s }}).Insides(tl)
	var text []string
	for _, w := range p.Words {
		for _, s := range w {
			text = append(text, s.Text)
		}
	}
	got := strings.Join(text, " ")
	for _, want := range []string{
		"On", "/dev/vg0/raw", "there is no file system that bootrace knows.", "Not everything inside", "/dev/vg0/bad", "can't be read", "/dev/vg0/dirty",
		"/dev/vg0/boot was in use when last written: the guest checks that at its start",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if n := strings.Count(got, "/dev/vg0/bad"); n != 1 {
		t.Errorf("the disk is named %d times: %q", n, got)
	}
	if strings.Contains(got, "no format") {
		t.Errorf("reasons of disks without a known format are told: %q", got)
	}
}
