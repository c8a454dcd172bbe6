// Package blockdev says what the kernel's and udev's words about a block device
// mean: what kind of device it is, whether it can be used, how far udev is with
// it, what identifies it over reboots, and which device a path can mean by its
// name alone.
//
// The timeline, which judges a boot that is over, and readiness, which decides
// now whether a guest may start, both ask here. So the page and the hold agree.
//
// A block device goes through up to three stages before a guest can open it.
// The kernel announces it (uevent "add"); some kinds have nothing behind them
// yet: a loop device without a file, an md array without members, an nbd device
// without a server, a mapping without a table. Then it becomes usable, which
// most of these kinds announce with "change". And udev runs its rules for the
// announcement and makes the links in /dev.
package blockdev

import (
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
)

// Kind is a kind of block device.
type Kind string

// The kinds, each with a line in kinds (kinds.go) that says what is asked of it. What has
// no kind of its own here is Other: it is followed all the same, by its uevents and its
// size.
const (
	Mapping   Kind = "mapping" // of device-mapper: dm-3
	Array     Kind = "md"      // of Linux software RAID: md127
	Loop      Kind = "loop"    // a file as a device: loop0
	NBD       Kind = "nbd"     // network block device: nbd0
	NVMe      Kind = "nvme"    // a namespace, local or over a fabric: nvme0n1
	SCSI      Kind = "scsi"    // SCSI, SAS, SATA, USB, iSCSI, Fibre Channel: sda
	Virtio    Kind = "virtio"  // vda
	Xen       Kind = "xen"     // xvda
	RBD       Kind = "rbd"     // Ceph: rbd0
	DRBD      Kind = "drbd"    // drbd1000
	Zvol      Kind = "zvol"    // ZFS volume: zd0
	Bcache    Kind = "bcache"  // bcache0
	Zram      Kind = "zram"    // zram0
	MMC       Kind = "mmc"     // mmcblk0
	Pmem      Kind = "pmem"    // persistent memory: pmem0
	Optical   Kind = "optical" // sr0: media come and go
	Floppy    Kind = "floppy"  // fd0
	Partition Kind = "partition"
	Other     Kind = "block"
)

// form is a kernel name: a prefix, and what may follow it.
type form struct {
	prefix string
	rest   func(string) bool
	kind   Kind
	// split is how a partition is told from its disk: "p" where a disk's own name
	// ends in a digit, empty for letters, "-" where there are none.
	split string
}

const (
	afterP     = "p"
	afterName  = ""
	undivided  = "-"
	maxOrdinal = 1 << 20 // MINORBITS, include/linux/kdev_t.h
)

// forms are the names that the kernel gives (add_disk callers in drivers/block,
// drivers/md, drivers/nvme, drivers/scsi/sd.c; zd: OpenZFS zvol_os.c).
var forms = []form{
	{"dm-", digits, Mapping, undivided},
	{"md", digits, Array, afterP},
	{"md_", anything, Array, undivided}, // mdadm with CREATE names=yes; since Linux 2.6.29
	{"loop", digits, Loop, afterP},
	{"nbd", digits, NBD, afterP},
	{"nvme", namespace, NVMe, afterP},
	{"sd", letters, SCSI, afterName},
	{"vd", letters, Virtio, afterName},
	{"xvd", letters, Xen, afterName},
	{"hd", letters, Other, afterName},
	{"dasd", letters, Other, afterName},
	{"fio", letters, Other, afterName},
	{"rssd", letters, Other, afterName},
	{"ubd", letters, Other, afterName},
	{"rbd", digits, RBD, afterP},
	{"drbd", digits, DRBD, afterP},
	{"zd", digits, Zvol, afterP},
	{"bcache", digits, Bcache, afterP},
	{"zram", digits, Zram, afterP},
	{"mmcblk", digits, MMC, afterP},
	{"pmem", digits, Pmem, afterP},
	{"ublkb", digits, Other, afterP},
	{"ploop", digits, Other, afterP},
	{"nullb", digits, Other, afterP},
	{"ram", digits, Other, afterP},
	{"sr", digits, Optical, afterP},
	{"fd", digits, Floppy, undivided},
}

// KindOf returns the kind of the device with this kernel name, such as md127 or
// nvme0n1p2. ok is false for a name of no known form: Kind is Other then.
func KindOf(name string) (kind Kind, ok bool) {
	for _, f := range forms {
		rest, found := strings.CutPrefix(name, f.prefix)
		switch {
		case !found:
		case f.rest(rest):
			return f.kind, true
		case f.partition(rest):
			return Partition, true
		}
	}
	return Other, false
}

func (f *form) partition(rest string) bool {
	if f.split == undivided {
		return false
	}
	number := strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz")
	disk := strings.TrimSuffix(rest, number)
	if f.split == afterP {
		at := strings.LastIndex(rest, "p")
		if at < 0 {
			return false
		}
		disk, number = rest[:at], rest[at+1:]
	}
	return f.rest(disk) && digits(number)
}

func digits(s string) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	return err == nil && n < maxOrdinal && s[0] != '+'
}

func letters(s string) bool {
	return s != "" && len(s) <= 8 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == ""
}

func anything(s string) bool { return s != "" }

// namespace: the controller, and the namespace behind an n. A path of a
// multipath namespace (nvme0c1n1) has no node.
func namespace(s string) bool {
	controller, id, ok := strings.Cut(s, "n")
	return ok && digits(controller) && digits(id)
}

// DeviceKind returns the kind of the device that d is about.
func DeviceKind(d *event.DevInfo) Kind {
	if d.Type == "partition" {
		return Partition
	}
	if strings.HasPrefix(d.Name, "dm-") || d.Name == "" && d.Props["DM_NAME"] != "" {
		return Mapping
	}
	kind, _ := KindOf(d.Name)
	return kind
}

// Attributes of event.DevInfo that are read here: paths below the device's
// folder in sysfs.
const (
	AttrSize       = "size" // in bytes
	AttrArrayState = "md/array_state"
	AttrBacking    = "loop/backing_file"
	AttrPID        = "pid" // of nbd's client
	AttrWWID       = "wwid"
	AttrDeviceWWID = "device/wwid"
	AttrPool       = "rbd/pool"
	AttrPoolNS     = "rbd/pool_ns"
	AttrImage      = "rbd/name"
	AttrSnap       = "rbd/snap"
)

// Size returns the device's size in bytes, -1 where d does not tell.
func Size(d *event.DevInfo) int64 {
	text, ok := d.Attrs[AttrSize]
	if !ok {
		return -1
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// Usable says whether there is something behind a device that exists.
type Usable uint8

// The answers.
const (
	NotKnown Usable = iota
	Empty           // there is not: I/O fails, or the size is 0
	InUse           // there is
)

// UsableBy says what d tells of it. Of mappings device-mapper itself has to be
// asked, and the answer is NotKnown.
//
// The kernel announces most devices when they can be used. Those that exist
// before they have something behind them show it by their size and by an
// attribute of their own (Documentation/ABI/testing/sysfs-block*,
// Documentation/admin-guide/md.rst). Where these were not read, udev's rules have
// looked at them: SYSTEMD_READY=0 (99-systemd.rules, 63-md-raid-arrays.rules).
func UsableBy(d *event.DevInfo) Usable {
	kind := DeviceKind(d)
	if kind == Mapping {
		return NotKnown
	}
	if state, ok := d.Attrs[AttrArrayState]; ok && !ArrayRuns(state) {
		return Empty
	}
	switch size := Size(d); {
	case size == 0, Secondary(d):
		return Empty
	case size > 0:
		return InUse
	case kind.Late() && d.Props["SYSTEMD_READY"] == "0":
		return Empty
	case kind.Late() && d.Links == nil && d.Action == "add":
		return NotKnown
	}
	return InUse
}

// ArrayRuns reports whether an md array in this state serves I/O
// (Documentation/admin-guide/md.rst, array_state).
func ArrayRuns(state string) bool {
	switch state {
	case "readonly", "read-auto", "clean", "active", "write-pending", "active-idle":
		return true
	}
	return false
}

// Announces reports whether d is the kernel's own announcement of something
// that happened, and not one that somebody asked for (udevadm trigger marks it
// since Linux 4.13).
func Announces(d *event.DevInfo) bool {
	_, synthetic := d.Props["SYNTH_UUID"]
	return !synthetic
}
