package libvirt

import (
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// Bounds of what the record of a boot holds of one domain. Large ones have a
// hundred disks; the paths are at most what the kernel allows.
const (
	recordedDisks   = 256
	recordedBacking = 16
	recordedBytes   = 256 << 10 // of all paths together
	recordedUnknown = 16
)

// Record returns what a boot's record holds of the domain when it is about to
// start.
func (d *Domain) Record() event.DomainInfo {
	info := event.DomainInfo{Name: d.Name, UUID: d.UUID, Phase: event.DomainStarts}
	left := recordedBytes
	for i := range d.Disks {
		disk := &d.Disks[i]
		if left -= len(disk.Path); left < 0 || len(info.Disks) == recordedDisks {
			info.More = len(d.Disks) - len(info.Disks)
			break
		}
		out := event.DomainDisk{Path: disk.Path, Format: disk.Format}
		for n := range disk.Backing {
			b := &disk.Backing[n]
			if b.Storage != guest.StorageFile {
				continue
			}
			if left -= len(b.Path); left < 0 || len(out.Backing) == recordedBacking {
				break
			}
			out.Backing = append(out.Backing, b.Path)
		}
		info.Disks = append(info.Disks, out)
	}
	info.Unknown = d.Unknown[:min(len(d.Unknown), recordedUnknown)]
	return info
}
