package blockdev

import (
	"cmp"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
)

// Identity returns what tells the device from all others over reboots, whatever
// its number and its place: "KIND:VALUE". It is empty where d does not tell, as
// for a device that has none (nbd, zram) or whose announcement udev has not
// handled. A mapping is told by its dm UUID or its name, which package memory
// has its own rules for: here its UUID counts.
func Identity(d *event.DevInfo) string {
	switch DeviceKind(d) {
	case Mapping:
		return tagged("dm", d.Props["DM_UUID"])
	case Array:
		return tagged("md", d.Props["MD_UUID"])
	case Partition:
		// ID_PART_ENTRY_UUID: the partition table's own name for it (blkid).
		return tagged("part", cmp.Or(d.Props["ID_PART_ENTRY_UUID"], d.Props["PARTUUID"]))
	case RBD:
		return tagged("rbd", rbdImage(d))
	case Zvol:
		return tagged("zvol", linkBelow(d.Links, "/dev/zvol/"))
	case DRBD:
		return tagged("drbd", linkBelow(d.Links, "/dev/drbd/by-res/"))
	case Bcache:
		return tagged("bcache", linkBelow(d.Links, "/dev/bcache/by-uuid/"))
	case Loop:
		return tagged("loop", strings.TrimSuffix(d.Attrs[AttrBacking], " (deleted)"))
	case NBD, Zram, Optical, Floppy:
		return ""
	}
	if wwn := cmp.Or(d.Props["ID_WWN_WITH_EXTENSION"], d.Props["ID_WWN"], d.Attrs[AttrWWID], d.Attrs[AttrDeviceWWID]); wwn != "" {
		return tagged("wwn", wwn)
	}
	return tagged("serial", cmp.Or(d.Props["ID_SERIAL"], d.Props["ID_SERIAL_SHORT"]))
}

func tagged(kind, value string) string {
	if value == "" {
		return ""
	}
	return kind + ":" + value
}

// rbdImage is POOL[/NAMESPACE]/IMAGE[@SNAPSHOT], from sysfs, else from the link
// that Ceph's rules make.
func rbdImage(d *event.DevInfo) string {
	pool, image := d.Attrs[AttrPool], d.Attrs[AttrImage]
	if pool == "" || image == "" {
		return linkBelow(d.Links, "/dev/rbd/")
	}
	if ns := d.Attrs[AttrPoolNS]; ns != "" {
		pool += "/" + ns
	}
	if snap := d.Attrs[AttrSnap]; snap != "" && snap != "-" {
		image += "@" + snap
	}
	return pool + "/" + image
}

func linkBelow(links []string, prefix string) string {
	for _, link := range links {
		if rest, ok := strings.CutPrefix(link, prefix); ok {
			return rest
		}
	}
	return ""
}
