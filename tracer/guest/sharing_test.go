package guest

import (
	"strings"
	"testing"
)

// A disk that guests share on purpose is told by its lock and its device.
func TestSharing(t *testing.T) {
	for args, want := range map[string][2]bool{ // unlocked, share-rw
		"-drive file=/dev/vg/q,format=raw,file.locking=off,if=none,id=q -device scsi-hd,drive=q,share-rw=on":                                                  {true, true},
		"-drive file=/dev/vg/q,format=raw,if=none,id=q -device virtio-blk-pci,drive=q,share-rw=on":                                                            {false, true},
		"-drive file=/dev/vg/q,format=raw,if=none,id=q -device virtio-blk-pci,drive=q,share-rw=off":                                                           {false, false},
		"-drive file=/dev/vg/q,format=raw,file.locking=auto":                                                                                                  {false, false},
		"-blockdev driver=raw,node-name=f,file.driver=host_device,file.filename=/dev/vg/q,file.locking=off -device scsi-hd,drive=f":                           {true, false},
		"-blockdev driver=host_device,node-name=p,filename=/dev/vg/q,locking=off -blockdev driver=raw,node-name=f,file=p -device scsi-hd,drive=f,share-rw=on": {true, true},
	} {
		g := Parse(append([]string{"qemu-system-x86_64"}, strings.Fields(args)...))
		if len(g.Disks) != 1 {
			t.Errorf("%s: %d disks", args, len(g.Disks))
			continue
		}
		if d := g.Disks[0]; d.Unlocked != want[0] || d.ShareRW != want[1] {
			t.Errorf("%s: unlocked %v, share-rw %v, want %v", args, d.Unlocked, d.ShareRW, want)
		}
	}
}
