package words

import (
	"cmp"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/memory"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// nouns are what people call a device of each kind.
var nouns = map[blockdev.Kind]string{
	"":                 "device",
	blockdev.Mapping:   "mapping",
	blockdev.Array:     "array",
	blockdev.Loop:      "loop device",
	blockdev.NBD:       "nbd device",
	blockdev.NVMe:      "disk",
	blockdev.SCSI:      "disk",
	blockdev.Virtio:    "disk",
	blockdev.Xen:       "disk",
	blockdev.RBD:       "rbd image",
	blockdev.DRBD:      "DRBD device",
	blockdev.Zvol:      "ZFS volume",
	blockdev.Bcache:    "bcache device",
	blockdev.Zram:      "zram device",
	blockdev.MMC:       "disk",
	blockdev.Pmem:      "disk",
	blockdev.Optical:   "drive",
	blockdev.Floppy:    "drive",
	blockdev.Partition: "partition",
	blockdev.Other:     "disk",
	memory.KindFile:    "file",
	timeline.KindMount: "file system",
}

// noun is what people call a device of a kind. LVM's mappings are volumes.
func noun(kind blockdev.Kind, lvm bool) string {
	if kind == blockdev.Mapping && lvm {
		return "volume"
	}
	return cmp.Or(nouns[kind], string(kind)) // one of a later version
}

// deviceOf is the kind of device that f is about. Timelines of older versions do not
// say it.
func deviceOf(f *timeline.Finding) blockdev.Kind {
	return cmp.Or(f.DeviceKind, timeline.KindOfPath(f.Disk))
}

// isVolume reports whether f is about a volume of LVM's: by what it led to, else
// by its path.
func isVolume(f *timeline.Finding) bool {
	if f.Mapping != "" {
		return ofLVM(f.Mapping)
	}
	_, _, ok := devmap.Volume(f.Disk)
	return ok
}

func ofLVM(uuid string) bool {
	_, ok := devmap.ParseLVMUUID(uuid)
	return ok
}

// what is the device of f as the subject of a sentence.
func what(f *timeline.Finding) string {
	if deviceOf(f) == timeline.KindMount {
		return "its file system"
	}
	return "the " + noun(deviceOf(f), isVolume(f))
}

// states say how a device was at the open, by kind: those of Other are of all kinds
// that have no words of their own.
var states = map[blockdev.Kind]map[string]string{
	blockdev.Other: {
		"absent": "did not exist", "created": "had nothing behind it yet", "loaded": "had nothing behind it yet",
		"live": "was live and not yet ready", "suspended": "was suspended", "removed": "was removed",
	},
	blockdev.Mapping: {"created": "had no table yet", "loaded": "had no live table yet"},
	blockdev.Array:   {"created": "did not run yet", "loaded": "did not run yet", "live": "ran and was not yet ready"},
	memory.KindFile:  {"live": "was not there yet"},
	timeline.KindMount: {
		"absent": "was not mounted", "created": "was not mounted", "removed": "was unmounted",
		"live": "was mounted and the file not there",
	},
}

// stateOf says how the device was at the open.
func stateOf(f *timeline.Finding) string {
	kind := deviceOf(f)
	state := cmp.Or(states[kind][f.State], states[blockdev.Other][f.State], "was not ready")
	if f.State == "absent" && (f.Errno == int(unix.ENXIO) || f.Errno == int(unix.ENODEV)) {
		return "had nothing behind its node" // which was there
	}
	if kind != timeline.KindMount {
		return state
	}
	if f.State == "absent" && f.Ready != nil {
		state += " yet"
	}
	return state + "[ ({mapping})]"
}
