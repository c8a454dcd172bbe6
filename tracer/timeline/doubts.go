package timeline

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// doubts says why the record is not enough to call a start fine, a reason each;
// nil if it is proven that each disk was opened with success and was ready
// before. v has the causes that the findings about it come to.
func (r *record) doubts(g *guestLife, v *Verdict) []string {
	if g.out.Backfilled {
		return []string{"it ran before tracing began, so how it opened its disks is not known"}
	}
	var whys []string
	doubt := func(why string) {
		if why != "" {
			whys = union(whys, []string{why})
		}
	}
	doubt(g.out.Unknown)
	if g.out.Truncated {
		doubt("its command line is longer than what was recorded, so there may be further disks")
	}
	last := g.out.Exec.At
	for i := range g.out.Disks {
		d := &g.out.Disks[i]
		if len(d.Uses) > 0 {
			last = max(last, d.Uses[0].At)
		}
		if !v.judges(d.Path) {
			doubt(r.doubt(g, d))
		}
	}
	for _, why := range r.uncompared(g, v) {
		doubt(why)
	}
	doubt(r.withheldOf(g.owns, []string{whatOpen, whatExec}, g.out.Exec.From, last))
	doubt(r.missedExit(g))
	return whys
}

// judges reports whether a cause speaks of the disk for certain.
func (v *Verdict) judges(path string) bool {
	return slices.ContainsFunc(v.Causes, func(c *Cause) bool {
		return !c.inside() && slices.Contains(c.Disks, path) // what is inside says nothing of its opens
	})
}

// doubt says why it is not proven that g had the disk in time, empty if it is.
func (r *record) doubt(g *guestLife, d *Disk) string {
	if (d.Announced || d.FromHeader) && !d.Needs {
		return notFollowed(d)
	}
	n := slices.IndexFunc(d.Uses, func(u Use) bool { return u.Errno == 0 })
	switch {
	case len(d.Uses) == 0 && unrecorded(d):
		return ""
	case len(d.Uses) == 0 && g.out.Exit != nil:
		return "it ended before it opened " + d.Path
	case len(d.Uses) == 0:
		return "the record has no open of " + d.Path
	case n < 0 && d.Uses[0].Errno == int(unix.ENOMEDIUM) && removable(d):
		return ""
	case n < 0:
		return fmt.Sprintf("nothing in the record explains why its open of %s failed (%s)", d.Path, d.Uses[0].Error)
	}
	u := &d.Uses[n]
	rt := r.route(g.names.add(clean(d.Path)))
	l, way := rt.choose(u, r.h)
	switch {
	case l == nil && u.Type == "file" && !inDev(d.Path) && r.mountsUnread != "":
		return "whether the file system of " + d.Path + " was mounted when it was opened is not known: " + r.mountsUnread
	case l == nil && u.Type == "file":
		return "" // opened with success: it was there
	case l == nil && u.Dev != nil:
		return fmt.Sprintf("%s led to device %d:%d, of which the record has nothing", d.Path, u.Dev.Major, u.Dev.Minor)
	case l == nil:
		return "the record does not say what " + d.Path + " led to"
	case way == nil:
		return "the record does not say when " + d.Path + " was ready"
	}
	from, to := u.From, u.At
	if !way.ready.orBefore {
		from, to = min(from, way.ready.from), max(to, way.ready.at)
	}
	return r.withheld(readiness, from, to)
}

// unrecorded reports whether opens of the disk are not recorded at all: it is
// only read, and lies among the host's own files.
func unrecorded(d *Disk) bool {
	return d.ReadOnly && slices.ContainsFunc(event.SystemDirs(), func(dir string) bool { return strings.HasPrefix(d.Path, dir) })
}

// notFollowed says that a disk is of a kind that nobody waits for, and so is not
// followed; empty where there is no disk at all.
func notFollowed(d *Disk) string {
	switch guest.Storage(d.Storage) {
	case guest.StorageNetwork:
		return d.Path + " is a network disk that the guest's program opens by itself, which is not followed"
	case guest.StorageFD:
		return "a disk was passed as an open file, which is not followed"
	case guest.StorageOther:
		if d.Path != "" && !strings.HasPrefix(d.Path, "null-") {
			return d.Path + " is a disk of a kind that is not followed"
		}
	}
	return ""
}
