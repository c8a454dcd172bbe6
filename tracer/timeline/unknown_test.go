package timeline

import (
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
