package timeline

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// NeverStarted is a volume that somebody looked for in vain, and that no guest
// ever ran on: an agent or a script looks at a guest's disk before it starts
// it, and gives up. There is no qemu to be seen then, only that look.
//
// What is seen is an open that failed. A program that only asks whether the path
// exists (stat, access, test -b) is not seen.
const NeverStarted = "never-started"

type neverStarted struct{}

func (neverStarted) find(r *record, report func(*Finding)) {
	for _, l := range r.looks {
		rt := r.route(l.path)
		known, doubt := r.isVolume(l, rt)
		if !known || r.served(l, rt) {
			continue
		}
		f := l.finding(rt)
		f.Withheld = cmp.Or(doubt,
			r.withheldOf(ofAnybody, []string{whatExec}, l.first.from, max(l.first.at, r.last-1)),
			r.withheld(readiness, l.first.from, max(l.first.at, r.last-1)))
		if f.Ready != nil {
			f.Late = r.account(rt.at(l.first, nil, true).life, rt.at(l.first, nil, true).ready)
		}
		f.after(rt.earlier(l.first, rt.at(l.first, nil, true)))
		report(f)
	}
}

func (neverStarted) kinds() []findingKind {
	return []findingKind{{name: NeverStarted, outcome: failed, cause: howItStood}}
}

// look is all vain opens of one path by others than guests.
type look struct {
	path     sym
	text     string
	first    stamp
	errno    int
	by       *event.Proc // of the first
	count    int
	evidence []uint64
}

// listedLooks is how many looks of one path are kept as evidence.
const listedLooks = 8

// looksOf joins the vain opens of each path by processes that belonged to no
// guest, in order of the first.
func (b *Builder) looksOf(p *processes) []*look {
	byPath := map[sym]*look{}
	var out []*look
	for _, f := range sorted(&b.looks, func(f *lookFact) *stamp { return &f.stamp }) {
		if p.of(f.by.PID, f.stamp) != nil {
			continue
		}
		text := path.Clean(b.names.get(f.path))
		name := b.names.add(text)
		l := byPath[name]
		if l == nil {
			l = &look{path: name, text: text, first: f.stamp, errno: int(f.errno), by: f.by}
			byPath[name] = l
			out = append(out, l)
		}
		l.count += 1 + int(f.repeats)
		if len(l.evidence) < listedLooks {
			l.evidence = append(l.evidence, f.id)
		}
	}
	return out
}

// isVolume reports whether a path is a volume that a guest can run on: it led
// to a mapping at some time in this boot, or LVM knows the volume. In a known
// group a name that nobody knows may be a slip of somebody's pen: that is in
// doubt.
func (r *record) isVolume(l *look, rt *route) (known bool, doubt string) {
	if rt.elsewhere {
		return false, ""
	}
	for _, life := range rt.lives {
		if life.kind.ForGuests() && !life.out.Private && !life.transient() {
			return true, ""
		}
	}
	vg, lv, ok := devmap.Volume(l.text)
	if !ok || len(rt.lives) > 0 || !rt.volume {
		return false, ""
	}
	if info := r.lvm.volume(vg, lv, l.first); info != nil {
		return info.Found, ""
	}
	return r.groups[vg], "no mapping of that name was made in this boot, and LVM was not asked whether it has such a volume"
}

// transient reports whether somebody made or deleted the volume in this boot:
// looking for one that is only being made, or is gone for good, has nothing to
// do with how the host came up.
func (l *life) transient() bool {
	for i := range l.out.Steps {
		s := &l.out.Steps[i]
		if s.Kind == StepCreated && ran(s.By, "lvcreate") || s.Kind == StepRemoved && ran(s.By, "lvremove") {
			return true
		}
	}
	return false
}

// ran reports whether a process ran one of LVM's commands, under its own name or
// as "lvm COMMAND".
func ran(p *event.Proc, command string) bool {
	if p == nil {
		return false
	}
	return p.Comm == command || len(p.Args) > 1 && path.Base(p.Args[0]) == "lvm" && p.Args[1] == command
}

// served reports whether a guest had the path, or the mapping, as a disk at any
// time in this boot.
func (r *record) served(l *look, rt *route) bool {
	if r.used[l.text] {
		return true
	}
	return slices.ContainsFunc(rt.lives, func(life *life) bool { return r.used[life.mapping.ID] })
}

// usedDisks names all paths and mappings that guests have as disks.
func usedDisks(guests []*Guest) map[string]bool {
	used := map[string]bool{}
	for _, g := range guests {
		for i := range g.Holds {
			used[clean(g.Holds[i].Disk)] = true
		}
		for i := range g.Disks {
			d := &g.Disks[i]
			used[clean(d.Path)] = true
			for _, u := range d.Uses {
				used[u.Mapping] = true
			}
			used[d.Mapping] = true
		}
	}
	delete(used, "")
	return used
}

func (l *look) finding(rt *route) *Finding {
	f := &Finding{
		Kind: NeverStarted, Disk: l.text, At: l.first.at, By: l.by, Looks: l.count,
		Errno: l.errno, Error: unix.ErrnoName(unix.Errno(l.errno)), State: stateAbsent,
		Evidence: slices.Clone(l.evidence),
	}
	if life := rt.lifeAt(l.first); life != nil {
		f.Mapping, f.MappingName = life.mapping.ID, life.mapping.Name
		f.State, _ = life.stateAt(l.first)
		f.Evidence = append(f.Evidence, life.start.id)
		if life.end != nil && f.State == stateRemoved {
			f.Evidence = append(f.Evidence, life.end.id)
		}
	}
	if way := rt.at(l.first, nil, true); way != nil {
		f.Ready = way.ready.pointer()
		f.Margin = margin(l.first, way.ready, true)
		f.Evidence = append(f.Evidence, way.ready.id)
	}
	f.Evidence = proof(f.Evidence)
	return f
}

// vain reports whether an open failed because there was nothing to open.
func vain(o *event.OpenInfo) bool {
	switch unix.Errno(o.Errno) {
	case unix.ENOENT, unix.ENXIO, unix.ENODEV:
		return strings.HasPrefix(o.Path, "/dev/")
	}
	return false
}

// housekeepers are programs that look at any device as a part of their own work,
// and start no guests, beside the tools of storage (guest.StorageTool): udev and
// what its rules run, what checks the host's own file systems. Names as the kernel
// has them, which cuts them to 15 bytes; one that ends in "*" stands for all that
// begin with it.
var housekeepers = []string{
	"fsadm", "thin_*", "cache_*", "pdata_tools", "era_*",
	"systemd*", "(udev-worker)", "(sd-*", "(systemd)", "udevd", "udevadm", "eudevd", "mdev",
	"ata_id", "scsi_id", "dmi_memory_id", "mtd_probe", "cdrom_id", "v4l_id",
	"blkid", "lsblk", "findmnt", "fsck*", "e2fsck", "xfs_*", "btrfs", "dosfsck", "swapon", "swapoff",
	"losetup", "blockdev", "wipefs", "fdisk", "sfdisk", "cfdisk", "gdisk", "sgdisk", "parted", "partprobe", "partx",
	"bcache-*", "probe-bcache", "zvol_id", "drbd-*", "ceph-rbdnamer",
	"udisksd", "smartd", "smartctl", "hdparm", "sdparm", "iscsid", "iscsiadm", "nvme", "grub*", "os-prober", "zed",
	"plymouthd", "bootrace*",
}

// udevWorkers run udev's rules, and the programs that these name. Whatever the
// program is, it looks at the device that udev was told of, and starts no guest.
var udevWorkers = []string{"(udev-worker)", "systemd-udevd", "udevd", "eudevd"}

// Housekeeper reports whether a process looks at devices as a part of its own
// work.
func Housekeeper(p *event.Proc) bool {
	comm := p.Comm
	if slices.Contains(udevWorkers, p.Parent) || guest.StorageTool(comm) {
		return true
	}
	return slices.ContainsFunc(housekeepers, func(name string) bool {
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			return strings.HasPrefix(comm, prefix)
		}
		return comm == name
	})
}
