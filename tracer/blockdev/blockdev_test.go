package blockdev

import (
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
)

func TestKindOf(t *testing.T) {
	for name, want := range map[string]Kind{
		"dm-3": Mapping, "md127": Array, "md_home": Array, "md0p2": Partition, "loop0": Loop, "loop7p1": Partition,
		"nbd0": NBD, "nbd15p3": Partition, "nvme0n1": NVMe, "nvme10n2p3": Partition, "sda": SCSI, "sdaa": SCSI, "sda1": Partition, "sdab12": Partition,
		"vda": Virtio, "vdb1": Partition, "xvda": Xen, "xvda2": Partition, "rbd0": RBD, "rbd3p1": Partition, "drbd1000": DRBD,
		"zd0": Zvol, "zd16p1": Partition, "bcache0": Bcache, "bcache0p1": Partition, "zram0": Zram, "mmcblk0": MMC, "mmcblk0p1": Partition,
		"pmem0": Pmem, "sr0": Optical, "fd0": Floppy, "ublkb0": Other, "fioa": Other, "dasda1": Partition,
	} {
		if kind, ok := KindOf(name); kind != want || !ok {
			t.Errorf("KindOf(%q) = %v, %v; want %v", name, kind, ok, want)
		}
	}
	for _, name := range []string{"", "sd", "sd1", "md", "mdx", "dm-", "dm-x", "loop", "loop-control", "nvme0", "nvme0c1n1", "kvm", "null", "fdset", "sgx_vepc", "vfio", "vhost-net", "sda1p", "nbd0p", "loop+1"} {
		if kind, ok := KindOf(name); ok {
			t.Errorf("KindOf(%q) = %v: it is no block device's name", name, kind)
		}
	}
}

func TestMeaningOf(t *testing.T) {
	for name, want := range map[string]Meaning{
		"/dev/sdb":                              {Kind: SCSI, Node: "sdb"},
		"/dev/nvme1n1":                          {Kind: NVMe, Node: "nvme1n1"},
		"/dev/disk/by-id/nvme-abc":              {Kind: Other},
		"/dev/zvol/tank/vm-101-disk-0":          {Kind: Zvol},
		"/dev/rbd/rbd/vm-1":                     {Kind: RBD},
		"/dev/md/r1":                            {Kind: Array},
		"/dev/drbd/by-res/r0/0":                 {Kind: DRBD},
		"/dev/drbd1000":                         {Kind: DRBD, Node: "drbd1000"},
		"/dev/vg0/web":                          {Kind: Mapping},
		"/dev/mapper/vg0-web":                   {Kind: Mapping},
		"/dev/dm-4":                             {Kind: Mapping, Node: "dm-4"},
		"/dev/disk/by-id/dm-name-vg--one-lv--a": {Kind: Other},
	} {
		m, ok := MeaningOf(name)
		if !ok || m.Kind != want.Kind || m.Node != want.Node {
			t.Errorf("MeaningOf(%q) = %+v, %v; want %+v", name, m, ok, want)
		}
	}
	for _, name := range []string{"/srv/images/a.qcow2", "/dev", "/dev/", "/dev/kvm", "/dev/net/tun", "disk.img", "/dev/disk", "/var/lib/one/datastores/0/42/disk.0"} {
		if m, ok := MeaningOf(name); ok {
			t.Errorf("MeaningOf(%q) = %+v: its name says nothing", name, m)
		}
	}
}

func TestUsableBy(t *testing.T) {
	for _, c := range []struct {
		what string
		d    event.DevInfo
		want Usable
	}{
		{"a disk with a size", event.DevInfo{Name: "sdb", Action: "add", Attrs: map[string]string{AttrSize: "1048576"}}, InUse},
		{"a disk, nothing read", event.DevInfo{Name: "sdb", Action: "add"}, InUse},
		{"a path of multipath", event.DevInfo{Name: "sdb", Action: "add", Props: map[string]string{"SYSTEMD_READY": "0"}}, InUse},
		{"a loop device without a file", event.DevInfo{Name: "loop0", Action: "add", Attrs: map[string]string{AttrSize: "0"}}, Empty},
		{"a loop device, by udev", event.DevInfo{Name: "loop0", Action: "add", Props: map[string]string{"SYSTEMD_READY": "0"}}, Empty},
		{"an array that waits for members", event.DevInfo{Name: "md127", Action: "change", Attrs: map[string]string{AttrSize: "4096", AttrArrayState: "inactive"}}, Empty},
		{"an array that runs", event.DevInfo{Name: "md127", Action: "change", Attrs: map[string]string{AttrSize: "4096", AttrArrayState: "read-auto"}}, InUse},
		{"an array's creation, nothing read", event.DevInfo{Name: "md127", Action: "add"}, NotKnown},
		{"a mapping", event.DevInfo{Name: "dm-0", Action: "add", Attrs: map[string]string{AttrSize: "4096"}}, NotKnown},
	} {
		if got := UsableBy(&c.d); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

func TestIdentity(t *testing.T) {
	for _, c := range []struct {
		d    event.DevInfo
		want string
	}{
		{event.DevInfo{Name: "sdb", Props: map[string]string{"ID_WWN": "0x5000c500a1b2c3d4", "ID_SERIAL": "x"}}, "wwn:0x5000c500a1b2c3d4"},
		{event.DevInfo{Name: "vdb", Props: map[string]string{"ID_SERIAL": "lab-disk-1"}}, "serial:lab-disk-1"},
		{event.DevInfo{Name: "nvme0n1", Attrs: map[string]string{AttrWWID: "uuid.1"}}, "wwn:uuid.1"},
		{event.DevInfo{Name: "rbd0", Attrs: map[string]string{AttrPool: "rbd", AttrImage: "vm-1", AttrSnap: "-"}}, "rbd:rbd/vm-1"},
		{event.DevInfo{Name: "rbd0", Links: []string{"/dev/rbd/rbd/vm-1"}}, "rbd:rbd/vm-1"},
		{event.DevInfo{Name: "zd0", Links: []string{"/dev/tank/a", "/dev/zvol/tank/a"}}, "zvol:tank/a"},
		{event.DevInfo{Name: "md127", Props: map[string]string{"MD_UUID": "a:b:c:d"}}, "md:a:b:c:d"},
		{event.DevInfo{Name: "nbd0", Props: map[string]string{"ID_SERIAL": "x"}}, ""},
		{event.DevInfo{Name: "sda1", Type: "partition", Props: map[string]string{"ID_SERIAL": "disk's", "ID_PART_ENTRY_UUID": "u"}}, "part:u"},
	} {
		if got := Identity(&c.d); got != c.want {
			t.Errorf("Identity(%s) = %q, want %q", c.d.Name, got, c.want)
		}
	}
}
