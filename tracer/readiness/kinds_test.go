package readiness

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/mounts"
	"github.com/bootrace/bootrace/tracer/udev"
	"github.com/bootrace/bootrace/tracer/view"
)

func attrs(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

// Each case makes a host, and says what a guest on path waits for there, empty
// where its start goes on.
func TestKinds(t *testing.T) {
	dev := event.Dev{Major: 7, Minor: 1}
	known := func(h *world, props ...string) { h.records[dev] = &udev.Record{Initialized: 1, Props: attrs(props...)} }
	const size = "1048576"
	for _, tc := range []struct {
		name   string
		path   string
		memory []event.MemoryDisk
		read   bool // the guest only reads
		make   func(h *world)
		want   Kind
	}{
		{name: "a SCSI disk", path: "/dev/sdb", make: func(h *world) { h.disk("sdb", dev, attrs("size", size)); known(h) }},
		{name: "a SCSI disk that udev has not seen", path: "/dev/sdb", make: func(h *world) { h.disk("sdb", dev, attrs("size", size)) }, want: Udev},
		{name: "no udev on this host", path: "/dev/sdb", make: func(h *world) { h.disk("sdb", dev, attrs("size", size)); h.noUdev = true }},
		{name: "a path of multipath", path: "/dev/sdb", make: func(h *world) {
			h.disk("sdb", dev, attrs("size", size))
			known(h, "SYSTEMD_READY", "0", "DM_MULTIPATH_DEVICE_PATH", "1")
		}},
		{name: "a link that udev will make", path: "/dev/disk/by-id/wwn-0x5000", make: func(*world) {}, want: Missing},
		{name: "a link of udev", path: "/dev/disk/by-id/wwn-0x5000", make: func(h *world) {
			h.disk("sdb", dev, attrs("size", size))
			known(h)
			h.link("/dev/disk/by-id/wwn-0x5000", "/dev/sdb")
		}},
		{name: "an array that waits for members", path: "/dev/md127", make: func(h *world) {
			h.disk("md127", dev, attrs("size", "0", blockdev.AttrArrayState, "inactive"))
			known(h, "SYSTEMD_READY", "0")
		}, want: Empty},
		{name: "an array that runs", path: "/dev/md127", make: func(h *world) {
			h.disk("md127", dev, attrs("size", size, blockdev.AttrArrayState, "active-idle"))
			known(h)
		}},
		{name: "an array whose start udev has not handled", path: "/dev/md127", make: func(h *world) {
			h.disk("md127", dev, attrs("size", size, blockdev.AttrArrayState, "clean"))
			known(h, "SYSTEMD_READY", "0")
		}, want: Udev},
		{name: "an array by name", path: "/dev/md/r1", make: func(*world) {}, want: Missing},
		{name: "a loop device without a file", path: "/dev/loop0", make: func(h *world) { h.disk("loop0", dev, attrs("size", "0")); known(h) }, want: Empty},
		{name: "an nbd device without a server", path: "/dev/nbd0", make: func(h *world) { h.disk("nbd0", dev, attrs("size", "0")); known(h) }, want: Empty},
		{name: "zram before it is set up", path: "/dev/zram0", make: func(h *world) { h.disk("zram0", dev, attrs("size", "0")); known(h) }, want: Empty},
		{name: "a zvol", path: "/dev/zvol/tank/vm-1", make: func(*world) {}, want: Missing},
		{name: "an rbd image", path: "/dev/rbd/rbd/vm-1", make: func(*world) {}, want: Missing},
		{name: "an NVMe namespace", path: "/dev/nvme1n1", make: func(*world) {}, want: Missing},
		{name: "DRBD", path: "/dev/drbd1000", make: func(*world) {}, want: Missing},
		{name: "DRBD 8, secondary", path: "/dev/drbd1000", make: func(h *world) {
			h.disk("drbd1000", dev, attrs("size", size, "ro", "1", "drbd/version", "8.4.11"))
			known(h)
		}, want: Secondary},
		{name: "DRBD 9 promotes by itself", path: "/dev/drbd1000", make: func(h *world) {
			h.disk("drbd1000", dev, attrs("size", size, "ro", "1", "drbd/version", "9.1.4"))
			known(h)
		}},
		{name: "an optical drive without a medium", path: "/dev/sr0", make: func(h *world) { h.disk("sr0", dev, attrs("size", "0")); known(h) }},
		{name: "no optical drive", path: "/dev/sr0", make: func(*world) {}},
		{name: "no floppy", path: "/dev/fd0", make: func(*world) {}},
		{name: "a node without a device", path: "/dev/sdb", make: func(h *world) { h.disk("sdb", dev, nil); delete(h.disks, dev) }, want: Missing},

		{name: "a foreign link that is not there", path: "/var/lib/one/0/disk.0", make: func(*world) {}},
		{name: "a foreign link that is not there, remembered", path: "/var/lib/one/0/disk.0",
			memory: []event.MemoryDisk{{Path: "/var/lib/one/0/disk.0", Name: "vg0-web", UUID: "LVM-x"}}, make: func(*world) {}, want: Missing},
		{name: "a foreign link that is not there, its volume is", path: "/var/lib/one/0/disk.0",
			memory: []event.MemoryDisk{{Path: "/var/lib/one/0/disk.0", Name: "vg0-web"}},
			make:   func(h *world) { h.activate(1, "vg0-web", lv) }, want: Link},
		{name: "a foreign link to a disk, remembered", path: "/images/disk.0",
			memory: []event.MemoryDisk{{Path: "/images/disk.0", DeviceKind: "scsi", Name: "sdb", UUID: "wwn:0x5"}}, make: func(*world) {}, want: Missing},
		{name: "a medium is not waited for, whatever is remembered", path: "/images/cd",
			memory: []event.MemoryDisk{{Path: "/images/cd", DeviceKind: "optical", Name: "sr0"}}, make: func(*world) {}},

		{name: "a file, remembered and missing", path: "/srv/images/a", memory: []event.MemoryDisk{{Path: "/srv/images/a", DeviceKind: "file", Mount: "/"}},
			make: func(*world) {}, want: Missing},
		{name: "a file on a remembered mount", path: "/srv/images/a", memory: []event.MemoryDisk{{Path: "/srv/images/a", DeviceKind: "file", Mount: "/srv/images"}},
			make: func(*world) {}, want: Mount},
		{name: "a file under a remembered mount", path: "/srv/images/a", memory: []event.MemoryDisk{{Path: "/srv/images/a", DeviceKind: "file", Mount: "/srv/images"}},
			make: func(h *world) { h.nodes["/srv/images/a"] = view.Place{} }, want: Mount},
		{name: "a file on its mount", path: "/srv/images/a", memory: []event.MemoryDisk{{Path: "/srv/images/a", DeviceKind: "file", Mount: "/srv/images"}},
			make: func(h *world) {
				h.nodes["/srv/images/a"] = view.Place{}
				h.mounted = append(h.mounted, mounts.Mounted{Point: "/srv/images", FSType: "xfs"})
			}},
		{name: "a file that is gone from its mount", path: "/srv/images/a", memory: []event.MemoryDisk{{Path: "/srv/images/a", DeviceKind: "file", Mount: "/srv/images"}},
			make: func(h *world) {
				h.mounted = append(h.mounted, mounts.Mounted{Point: "/srv/images", FSType: "xfs"})
			}, want: Missing},
		{name: "a file on a mount of fstab", path: "/srv/images/a", make: func(h *world) { h.plans = []string{"/srv"} }, want: Mount},
		{name: "a file beside a mount of fstab", path: "/srv/images2/a", make: func(h *world) { h.plans = []string{"/srv/images"} }},
		{name: "a new file below a mount of fstab that is there", path: "/srv/images/a", make: func(h *world) {
			h.plans = []string{"/srv/images"}
			h.mounted = append(h.mounted, mounts.Mounted{Point: "/srv/images", FSType: "nfs4"})
		}},
		{name: "automount", path: "/srv/images/a", make: func(h *world) {
			h.plans = []string{"/srv/images"}
			h.mounted = append(h.mounted, mounts.Mounted{Point: "/srv/images", FSType: "autofs"})
		}},
		{name: "a file that exists although a mount is planned over it", path: "/srv/image", make: func(h *world) { h.plans = []string{"/srv"} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			tc.make(h)
			h.deliver()
			disk := Path(tc.path)
			disk.ReadOnly = tc.read
			var want []string
			if tc.want != "" {
				want = []string{string(tc.want) + " " + tc.path}
			}
			if diff := cmp.Diff(want, judgeRequest(h, &Request{Disks: []guest.Image{disk}, Memory: tc.memory})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// uevent announces something of a device that is no mapping; it returns the
// sequence number for udev's answer.
func (h *world) tell(kind event.Kind, action string, dev event.Dev, seq uint64) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seq == 0 {
		h.seq++
		seq = h.seq
	}
	d := h.disks[dev]
	d.Action, d.Dev, d.Seq = action, &dev, seq
	h.queue = append(h.queue, event.Event{Kind: kind, At: h.now(), Dev: &d})
	return seq
}

// A loop device: announced without a file, given one, taken away, given another.
// What udev has handled of the first does not count for the second.
func TestLoopDevice(t *testing.T) {
	h := newHost(t)
	var now event.Time = 1
	h.now = func() event.Time { return now }
	dev := event.Dev{Major: 7}
	expect := func(step string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, judge(h, "/dev/loop0")); diff != "" {
			t.Errorf("%s: %s", step, diff)
		}
	}
	h.disk("loop0", dev, attrs("size", "0"))
	added := h.tell(event.Uevent, "add", dev, 0)
	h.tell(event.Udev, "add", dev, added)
	h.records[dev] = &udev.Record{Initialized: 1, Props: attrs("SYSTEMD_READY", "0")}
	expect("added", "empty /dev/loop0")
	for range 2 {
		h.disk("loop0", dev, attrs("size", "4096"))
		expect("set up, not announced", "udev /dev/loop0")
		set := h.tell(event.Uevent, "change", dev, 0)
		expect("announced", "udev /dev/loop0")
		h.records[dev] = &udev.Record{Initialized: 1}
		h.tell(event.Udev, "change", dev, set)
		expect("handled")
		h.tell(event.Uevent, "change", dev, 0)
		expect("asked about again")
		h.disk("loop0", dev, attrs("size", "0"))
		expect("taken down, not announced", "empty /dev/loop0")
		h.tell(event.Uevent, "change", dev, 0)
		expect("taken down", "empty /dev/loop0")
	}
	// A kernel that announces nothing when the device is set up.
	h.disk("loop0", dev, attrs("size", "4096"))
	expect("set up in silence", "udev /dev/loop0")
	now = now.Add(unspoken - time.Millisecond)
	expect("set up in silence, a moment later", "udev /dev/loop0")
	now = now.Add(time.Millisecond)
	expect("set up in silence, long ago")
}

// Who waits for a mount is woken by any, and by nothing else.
func TestWaitsForMount(t *testing.T) {
	h := newHost(t)
	h.plans = []string{"/srv/images"}
	w := h.tracker.watch(Request{Disks: []guest.Image{Path("/srv/images/a")}}, h)
	defer w.Close()
	<-w.Changed()
	h.mu.Lock()
	h.mounted = append(h.mounted, mounts.Mounted{Point: "/srv/images"})
	h.nodes["/srv/images/a"] = view.Place{}
	h.mu.Unlock()
	h.tracker.wake([]key{mountKey})
	if v, err := w.Wait(t.Context()); err != nil || !v.Ready {
		t.Errorf("%+v, %v", v, err)
	}
}
