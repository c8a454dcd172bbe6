package timeline

import (
	"slices"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
)

// TestUnknownDisks: where a guest may have disks that nobody knows of, its
// timeline says so, and a guest whose disks are all known has no such doubt.
func TestUnknownDisks(t *testing.T) {
	for args, want := range map[string]string{
		"crosvm run vmlinux":                             "not understood",
		"/opt/acme/vmm --volume=/dev/vg/a":               "not understood",
		"qemu-kvm -hda /dev/vg/a -readconfig /etc/x":     "-readconfig /etc/x",
		"firecracker --api-sock /run/x":                  "by its API",
		"qemu-kvm -hda /dev/vg/a":                        "",
		"cloud-hypervisor --kernel x --disk path=/dev/a": "",
	} {
		words := strings.Fields(args)
		b := NewBuilder(Boot{}, Options{})
		b.Add(&event.Event{At: 1e9, Kind: event.Exec, Proc: &event.Proc{PID: 7}, Exec: &event.ExecInfo{Filename: words[0], Args: words}})
		guests := b.Timeline().Guests
		if len(guests) != 1 || (guests[0].Unknown == "") != (want == "") || !strings.Contains(guests[0].Unknown, want) {
			t.Errorf("%s: %+v", args, guests)
		}
	}
}

// What was lost of one user is missing in the record of his guests, and of nobody
// else's; of opens by who is no guest, in nobody's.
func TestLossOfOneUser(t *testing.T) {
	lossOf := func(what string, uid uint32) []bool {
		b := NewBuilder(Boot{}, Options{})
		source := event.SourceInfo{Name: "ebpf", State: "attached"}
		for _, ability := range []string{"exec", "exit", "open", "dm", "uevent", "udev"} {
			source.Abilities = append(source.Abilities, event.Ability{Name: ability, OK: true})
		}
		b.Add(&event.Event{At: 1, Kind: event.Source, Source: &source})
		for pid, user := range []uint32{0, 64055, 100700} {
			b.Add(&event.Event{At: 1e9, Kind: event.Exec, Proc: &event.Proc{PID: pid + 1, UID: user},
				Exec: &event.ExecInfo{Filename: "kvm", Args: []string{"kvm", "-hda", "/dev/vg/a"}}})
		}
		b.Add(&event.Event{At: 3e9, From: 5e8, Kind: event.Loss, Loss: &event.LossInfo{Source: "ebpf", What: what, Count: 7, UID: uid}})
		var doubted []bool
		for _, v := range b.Timeline().Verdicts {
			doubted = append(doubted, slices.ContainsFunc(v.Unknown, func(why string) bool { return strings.Contains(why, "lost 7 events") }))
		}
		return doubted
	}
	for _, c := range []struct {
		what string
		uid  uint32
		want []bool
	}{
		{"open", 0, []bool{true, true, true}},
		{"open", 64055, []bool{false, true, false}},
		{"guest", 64055, []bool{false, true, false}},
		{"open", 1000, []bool{false, false, false}},
		{"open", 100000, []bool{false, false, true}},
		{"look", 0, []bool{false, false, false}},
		{"look", 64055, []bool{false, false, false}},
		{"way", 64055, []bool{false, true, false}},
		{"mount", 64055, []bool{false, false, false}},
	} {
		if got := lossOf(c.what, c.uid); !slices.Equal(got, c.want) {
			t.Errorf("%s of user %d: %v, want %v", c.what, c.uid, got, c.want)
		}
	}
}
