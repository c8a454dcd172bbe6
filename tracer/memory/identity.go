package memory

import (
	"cmp"
	"strings"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
)

// KindFile is event.MemoryDisk.DeviceKind of a file.
const KindFile = "file"

// relation says whether two records speak of one disk.
type relation uint8

const (
	unknown relation = iota // nothing tells
	same
	other
)

// SameDisk reports whether two records certainly speak of one disk.
func SameDisk(a, b *event.MemoryDisk) bool { return relate(a, b) == same }

// Describe names a disk for people: "mapping vg-a", "SCSI disk sdb
// (wwn:0x5000c500a1b2c3d4)", "file /srv/a on 1e6f...".
func Describe(d *event.MemoryDisk) string {
	switch {
	case isMapping(d):
		return "mapping " + cmp.Or(d.Name, d.UUID)
	case d.DeviceKind == KindFile && d.UUID != "":
		return "file " + d.Path + " on file system " + d.UUID
	case d.DeviceKind == KindFile:
		return "file " + d.Path
	case d.UUID != "":
		return blockdev.Kind(d.DeviceKind).String() + " " + d.Name + " (" + d.UUID + ")"
	case d.Name != "":
		return blockdev.Kind(d.DeviceKind).String() + " " + d.Name
	}
	return "a device that is no mapping"
}

// Key is equal for two records of one mapping, and for two of one other device
// that has an identity. It is made of the UUID, and of the name where a mapping
// has none: a mapping that was renamed without a UUID is another one. It is
// empty where nothing tells the disk from others: a device's kernel name may be
// another's in the next boot.
func Key(d *event.MemoryDisk) string {
	if id, ok := devmap.ParseLVMUUID(d.UUID); ok {
		return "lv " + id.LV + " " + id.Layer
	}
	switch {
	case d.UUID != "":
		return "uuid " + d.UUID
	case isMapping(d):
		return "name " + d.Name
	}
	return ""
}

// isMapping: what an older program remembered has no kind, and is always one.
func isMapping(d *event.MemoryDisk) bool {
	return (d.DeviceKind == "" || d.DeviceKind == string(blockdev.Mapping)) && (d.Name != "" || d.UUID != "")
}

func relate(a, b *event.MemoryDisk) relation {
	switch {
	case a.DeviceKind == KindFile && b.DeviceKind == KindFile:
		return relateFiles(a, b)
	case a.DeviceKind == KindFile || b.DeviceKind == KindFile:
		return other
	case isMapping(a) && isMapping(b):
		if Key(a) == Key(b) && (a.UUID != "" || sameTable(a.Table, b.Table)) {
			return same
		}
		return other
	case isMapping(a):
		return relateMultipath(a, b)
	case isMapping(b):
		return relateMultipath(b, a)
	}
	return relateDevices(a, b)
}

// relateFiles compares two files. An image is often replaced under its name: by
// a restore, by qemu-img convert, or by whatever writes a new file and renames
// it. That is no other disk, and its size tells whether something is missing. A
// file under that name on another file system is one: the mount did not come,
// or another one did.
func relateFiles(a, b *event.MemoryDisk) relation {
	path := clean(a.Path) == clean(b.Path)
	switch {
	case a.UUID == "" || b.UUID == "":
		return unknown
	case a.UUID != b.UUID:
		return other
	case path, a.Inode != 0 && a.Inode == b.Inode:
		return same
	case a.Inode == 0 || b.Inode == 0:
		return unknown
	}
	return other
}

// relateMultipath compares a mapping with a device that is none: they are one
// disk where multipathd has taken it over since, or no longer does. Its mappings
// have the uuid "mpath-" and the SCSI identifier, which is udev's ID_SERIAL: a
// type, 3 for NAA, and the number.
func relateMultipath(m, d *event.MemoryDisk) relation {
	id, ok := strings.CutPrefix(m.UUID, "mpath-")
	if !ok {
		return other
	}
	tag, value, _ := strings.Cut(d.UUID, ":")
	switch tag {
	case "":
		return unknown
	case "serial":
		if id == value {
			return same
		}
	case "wwn":
		if naa, ok := strings.CutPrefix(id, "3"); ok {
			return relateWWN("naa."+naa, value)
		}
		return unknown
	}
	return other
}

// relateDevices compares two devices by what identifies them. Where one has
// nothing, only different kinds tell that they are two.
func relateDevices(a, b *event.MemoryDisk) relation {
	tagA, valueA, _ := strings.Cut(a.UUID, ":")
	tagB, valueB, _ := strings.Cut(b.UUID, ":")
	switch plain := plainDisk(a) && plainDisk(b); {
	case a.UUID != "" && a.UUID == b.UUID:
		return same
	case tagA == "wwn" && tagB == "wwn":
		return relateWWN(valueA, valueB)
	case plain && (tagA == "" || tagA != tagB):
		return unknown // udev's rules of today may know more of a disk, or less
	case a.UUID != "" && b.UUID != "":
		return other
	case plain, a.DeviceKind == b.DeviceKind, vague(a), vague(b):
		return unknown
	}
	return other
}

// plainDisk reports whether a device is a disk by itself, as far as its kind tells.
func plainDisk(d *event.MemoryDisk) bool {
	return blockdev.Kind(d.DeviceKind).PlainDisk() || vague(d)
}

func vague(d *event.MemoryDisk) bool {
	return d.DeviceKind == "" || d.DeviceKind == string(blockdev.Other)
}

// relateWWN compares two world wide names. udev and the kernel write the same one
// in two ways (0x5000c500..., naa.5000c500...), and udev's short form of a long
// one (ID_WWN) is common to all volumes of some arrays.
func relateWWN(a, b string) relation {
	typeA, a := wwn(a)
	typeB, b := wwn(b)
	switch {
	case typeA != typeB:
		return unknown
	case a == b:
		return same
	case strings.HasPrefix(a, b) || strings.HasPrefix(b, a):
		return unknown
	}
	return other
}

func wwn(text string) (kind, value string) {
	text = strings.ToLower(text)
	if rest, ok := strings.CutPrefix(text, "0x"); ok {
		return "naa", rest
	}
	kind, value, ok := strings.Cut(text, ".")
	if !ok {
		return "", text
	}
	return kind, value
}
