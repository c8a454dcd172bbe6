package timeline

import (
	"path"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/memory"
)

// Renamed says that the guest's path led to nothing, and that what it meant is
// there under another name: the disk that the guest ran on in earlier boots, or
// the one that bore the name earlier in this one. No hold helps against that.
const Renamed = "renamed"

// CauseRenamed means that what the path meant is there under another name.
const CauseRenamed = "renamed"

type renamed struct{}

func (renamed) find(r *record, report func(*Finding)) {
	for u := range r.uses {
		as := r.renamedAs(u)
		if as == nil {
			continue
		}
		f := r.finding(Renamed, false, u)
		f.Mapping, f.MappingName = as.life.mapping.ID, r.h.names.get(as.life.name)
		f.State, f.NowPath = stateAbsent, as.path
		if k := as.life.kind; k != blockdev.Mapping && k != KindMount {
			f.Device = memory.Describe(&event.MemoryDisk{DeviceKind: string(k), Name: f.MappingName, UUID: r.h.names.get(as.life.uuid)})
		}
		f.Evidence = append(f.Evidence, as.life.start.id)
		for _, s := range as.life.out.Steps {
			if s.Kind == StepRenamed {
				f.Evidence = append(f.Evidence, s.Event)
			}
		}
		if as.last != nil {
			f.Last = lastOf(u.guest, as.last)
			f.Evidence = append(f.Evidence, u.guest.memory.id)
		}
		f.Evidence = proof(f.Evidence)
		f.Withheld = r.rest(u)
		report(f)
	}
}

func (renamed) kinds() []findingKind {
	return []findingKind{{name: Renamed, outcome: failed, cause: always(otherName)}}
}

var otherName = newCause(causeKind{
	name:  CauseRenamed,
	look:  func(r *record, f *Finding, c *Cause) { c.By = r.renamer(f) },
	cures: just(CureRename),
})

// renamer is the process that renamed the mapping in this boot.
func (r *record) renamer(f *Finding) *event.Proc {
	var by *event.Proc
	if m := r.mappings[f.Mapping]; m != nil {
		for _, l := range m.Lives {
			for i := range l.Steps {
				if s := &l.Steps[i]; s.Kind == StepRenamed && s.Detail == f.MappingName {
					by = s.By
				}
			}
		}
	}
	return by
}

// renaming is a device under another name than a guest's path.
type renaming struct {
	life *life
	last *event.MemoryDisk // by which it is known, nil where this boot tells
	path string            // that leads to it
}

// renamedAs returns under which name the device is there that a vain open meant,
// nil if it is not, or if the path itself came to lead to it.
func (r *record) renamedAs(u *firstUse) *renaming {
	if !u.absent() || u.way != nil {
		return nil
	}
	if m := u.guest.memory; m != nil {
		for i := range m.info.Disks {
			d := &m.info.Disks[i]
			if !u.remembered(d) {
				continue
			}
			for _, l := range slices.Backward(r.census.known(d)) {
				if as := r.upAs(u, l, d); as != nil {
					return as
				}
			}
		}
	}
	for _, l := range slices.Backward(u.route.lives) {
		all := []*life{l}
		if l.uuid != 0 {
			all = r.h.identified[l.uuid]
		}
		for _, same := range slices.Backward(all) {
			if as := r.upAs(u, same, nil); as != nil {
				return as
			}
		}
	}
	return nil
}

// remembered reports whether d is what the guest ran on as this disk.
func (u *firstUse) remembered(d *event.MemoryDisk) bool {
	if (d.BackingOf == "") != (u.disk.BackingOf == "") {
		return false
	}
	return clean(d.Path) == clean(u.disk.Path) || d.BackingOf == "" && d.ID != "" && d.ID == u.disk.ID
}

// upAs returns l as a renaming, if it was ready when u happened, or later, by
// another name than the path has.
func (r *record) upAs(u *firstUse, l *life, d *event.MemoryDisk) *renaming {
	s := u.stamp()
	gone := l.end != nil && l.end.at < s.from
	if gone || len(l.ready) == 0 {
		return nil
	}
	to := r.pathOf(u, l, d)
	if to == "" || to == clean(u.disk.Path) || r.means(u.disk.Path, l) {
		return nil
	}
	return &renaming{l, d, to}
}

// means reports whether a path can mean the device by the name that it has.
func (r *record) means(p string, l *life) bool {
	m, _ := blockdev.MeaningOf(p)
	if m.Node != "" && m.Node == r.h.names.get(l.node) {
		return true
	}
	name, uuid := r.h.names.get(l.name), r.h.names.get(l.uuid)
	return l.kind == blockdev.Mapping && slices.ContainsFunc(m.Mappings, func(c devmap.Candidate) bool {
		return c.Name != "" && c.Name == name || c.UUID != "" && c.UUID == uuid
	})
}

// pathOf returns the path that leads to a device as it is called now, of the same
// sort as the one that the guest has, if there is one.
func (r *record) pathOf(u *firstUse, l *life, d *event.MemoryDisk) string {
	name := r.h.names.get(l.name)
	switch l.kind {
	case KindMount:
		return r.moved(u, name, d)
	case blockdev.Mapping:
		if vg, lv, layer, ok := devmap.SplitName(name); ok && l.mapping.VG != "" && layer == "" {
			return "/dev/" + vg + "/" + lv
		}
		return "/dev/mapper/" + name
	}
	best := "/dev/" + r.h.names.get(l.node)
	for _, folder := range []string{"/dev/disk/by-id", path.Dir(clean(u.disk.Path))} {
		for _, link := range l.links {
			if text := r.h.names.get(link); path.Dir(text) == folder && folder != "/dev" {
				best = text
				break
			}
		}
	}
	return best
}

// moved returns where a file that is remembered is now that its file system is mounted
// at another point, empty where it still is at its own, or nothing is remembered.
func (r *record) moved(u *firstUse, point string, d *event.MemoryDisk) string {
	if d == nil || d.DeviceKind != memory.KindFile || d.Mount == "" || d.Mount == "/" {
		return ""
	}
	rest, below := strings.CutPrefix(clean(u.disk.Path), d.Mount+"/")
	if l := r.ways.mounts.existing(d.Mount, u.stamp()); !below || l != nil && l.filesystem == d.UUID {
		return ""
	}
	return path.Join(point, rest)
}

// lastOf is what a guest last ran on, for a finding.
func lastOf(g *guestLife, d *event.MemoryDisk) *Last {
	return &Last{
		BootID: g.memory.info.Boot, Path: d.Path, Name: d.Name, Kind: d.DeviceKind, Device: deviceName(d), UUID: d.UUID, Mount: d.Mount,
		Size: d.Size, Table: d.Table,
	}
}

// deviceName names what is no mapping for people, empty for a mapping.
func deviceName(d *event.MemoryDisk) string {
	if d.DeviceKind == "" {
		return ""
	}
	return memory.Describe(d)
}
