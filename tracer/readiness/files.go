package readiness

import (
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/mounts"
)

// A file is ready when it is there, on the file system that it lay on when the
// guest last ran. A file that is missing is waited for where something that is
// still to be mounted explains that, or where the guest last ran on it.

// file judges a path that leads to a file. Where it lay on another file system
// when the guest last ran, an empty folder, or what was in it, is there in the
// place of that: qemu would open the wrong file.
func (l *look) file(f *finding, path string) {
	last := l.last(path)
	if last == nil || last.DeviceKind != fileKind || last.Mount == "" || !mounts.Covers(last.Mount, f.place.Node) {
		return
	}
	if l.unmounted(f, last.Mount) {
		f.blocker = &Blocker{Kind: Mount, Detail: "is there, but not on the file system that the guest last ran on: " + last.Mount + " is not mounted yet"}
	}
}

// missingFile judges a path that leads nowhere and whose name says nothing.
func (l *look) missingFile(f *finding, last *event.MemoryDisk) {
	if l.onAccess(f.place.Node) {
		f.remark = "not looked for: its file system is mounted when somebody opens it"
		return
	}
	if point := l.needed(f, last); point != "" {
		f.blocker = &Blocker{Kind: Mount, Detail: "does not exist: " + point + " is not mounted yet"}
		return
	}
	if last != nil {
		l.silent = true
		l.watch(mountKey)
		f.blocker = &Blocker{Kind: Missing, Detail: "does not exist, and the guest last ran on it"}
		return
	}
	f.note = "does not exist, and nothing shows that it is still to come: no block device has such a name, and no mount above it is missing"
}

// needed returns the deepest mount point above a missing file at which nothing
// is mounted although something should be, empty if there is none.
func (l *look) needed(f *finding, last *event.MemoryDisk) string {
	var points []string
	if last != nil && last.DeviceKind == fileKind && last.Mount != "" {
		points = append(points, last.Mount)
	}
	points = append(points, l.t.host.Planned()...)
	deepest := ""
	for _, point := range points {
		if len(point) > len(deepest) && mounts.Covers(point, f.place.Node) && l.unmounted(f, point) {
			deepest = point
		}
	}
	return deepest
}

// unmounted reports whether nothing is mounted at point, which is then watched.
// Where the mounts can't be read, they are taken to be there.
func (l *look) unmounted(f *finding, point string) bool {
	if point == "/" {
		return false
	}
	list, announced := l.mountTable()
	if l.mountedErr != nil {
		f.remark = l.mountedErr.Error()
		return false
	}
	for i := range list {
		if list[i].Point == point {
			return false
		}
	}
	l.watch(mountKey)
	l.silent = l.silent || !announced || l.t.noMounts.Load()
	return true
}

// onAccess reports whether the first who goes there has the file system mounted
// on which a missing file would be: a walk that only looks does not.
func (l *look) onAccess(node string) bool {
	kind, deepest := "", ""
	list, _ := l.mountTable()
	for i := range list {
		if m := &list[i]; mounts.Covers(m.Point, node) && len(m.Point) >= len(deepest) {
			kind, deepest = m.FSType, m.Point
		}
	}
	return kind == "autofs"
}

// mountTable reads the mounts once in a look.
func (l *look) mountTable() (list []mounts.Mounted, announced bool) {
	if !l.mountsRead {
		l.mounted, l.mountsTold, l.mountedErr = l.files.Mounts()
		l.mountsRead = true
	}
	return l.mounted, l.mountsTold
}
