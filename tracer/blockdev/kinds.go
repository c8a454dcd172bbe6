package blockdev

import (
	"maps"
	"slices"
)

// traits are what others ask of a kind. What is left out is no, or none.
type traits struct {
	name    string   // see String
	folders []string // of /dev, in which udev's rules make links to devices of this kind

	late, announcesUse, pullable, forGuests, plainDisk, removable bool // see the methods
}

// kinds has all of them. The folders are those of Ceph's 50-rbd.rules, OpenZFS's
// 60-zvol.rules, drbd-utils' 65-drbd.rules, mdadm's 63-md-raid-arrays.rules and
// bcache-tools' 69-bcache.rules.
var kinds = map[Kind]traits{
	Mapping:   {name: "mapping", forGuests: true},
	Array:     {name: "md array", folders: []string{"md"}, late: true, announcesUse: true},
	Loop:      {name: "loop device", late: true, announcesUse: true},
	NBD:       {name: "nbd device", late: true, pullable: true},
	NVMe:      {name: "NVMe disk", plainDisk: true, pullable: true},
	SCSI:      {name: "SCSI disk", plainDisk: true, pullable: true},
	Virtio:    {name: "disk", plainDisk: true, pullable: true},
	Xen:       {name: "disk", plainDisk: true, pullable: true},
	RBD:       {name: "rbd image", folders: []string{"rbd", "rbd-pool"}, forGuests: true},
	DRBD:      {name: "DRBD device", folders: []string{"drbd"}, forGuests: true},
	Zvol:      {name: "ZFS volume", folders: []string{"zvol"}, forGuests: true},
	Bcache:    {name: "bcache device", folders: []string{"bcache"}},
	Zram:      {name: "zram device", late: true},
	MMC:       {name: "disk", plainDisk: true, pullable: true},
	Pmem:      {name: "disk", plainDisk: true, pullable: true},
	Optical:   {name: "optical", removable: true},
	Floppy:    {name: "floppy", removable: true},
	Partition: {name: "partition", pullable: true},
	Other:     {name: "disk", folders: []string{"disk", "storpool"}, pullable: true},
}

// Kinds lists all kinds.
func Kinds() []Kind { return slices.Sorted(maps.Keys(kinds)) }

// String is what people call such a device: "NVMe disk".
func (k Kind) String() string {
	if t, ok := kinds[k]; ok {
		return t.name
	}
	return string(k)
}

// Late reports whether devices of this kind exist before something is behind
// them, and say so through SYSTEMD_READY. Others have that property for reasons
// that are not a guest's: a multipath map claims the disk, or a btrfs inside
// it waits for more devices.
func (k Kind) Late() bool { return kinds[k].late }

// AnnouncesUse reports whether the kernel announces with "change" that devices
// of this kind have something behind them now (loop_configure in
// drivers/block/loop.c, do_md_run in drivers/md/md.c). nbd does so since Linux
// 4.12, zram never.
func (k Kind) AnnouncesUse() bool { return kinds[k].announcesUse }

// Pullable reports whether a device of this kind can go while somebody has it
// open: hardware, and what is on the other side of a network.
func (k Kind) Pullable() bool { return kinds[k].pullable }

// ForGuests reports whether devices of this kind are there for guests, as a rule,
// and not for the host itself.
func (k Kind) ForGuests() bool { return kinds[k].forGuests }

// PlainDisk reports whether a device of this kind is a disk by itself. The same disk
// can be one of several such kinds: it moves from SATA to a USB case, or its own host
// gives it another bus.
func (k Kind) PlainDisk() bool { return kinds[k].plainDisk }

// Removable reports whether media come and go in a device of this kind, so that
// nobody waits for one.
func (k Kind) Removable() bool { return kinds[k].removable }
