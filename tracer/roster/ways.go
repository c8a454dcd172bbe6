package roster

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/mounts"
	"github.com/bootrace/bootrace/tracer/view"
)

// Where a disk's path led is looked at when a guest starts, when it failed to
// open one of its disks, and when it ends with an error. The record then tells
// what a link of the guest's own pointed to, and whether a folder was there but
// empty, because its file system was mounted later.
//
// A folder on a server that is down keeps a look waiting. So looks have workers
// of their own, and when all of them hang nothing else does.

// Bounds of looks.
const (
	lookers  = 4
	maxPaths = 256 // of one guest
	maxLooks = 64  // at one guest's paths
	// maxTold bounds what goes into one boot's record of one user's guests: those
	// that fail and are started again look new each time. maxUsers bounds the users
	// that are told apart.
	maxTold  = 20_000
	maxUsers = 4096
	// maxLinks bounds the text of the links on one way, in bytes: whoever owns a
	// folder can put forty long ones into it.
	maxLinks = 16 << 10
	// between is how long a guest's paths are left alone after a look: a guest
	// may try to open a disk a thousand times a second.
	between = 100 * time.Millisecond
	// failures are failed opens that wait to be taken.
	failures = 256
)

// Sight is what one look at one path saw, and when.
type Sight struct {
	From, At event.Time
	Way      event.WayInfo
}

// failure is a failed open by a guest.
type failure struct {
	pid  int
	path string
}

// failed takes note of a failed open. What finds no room is left out: a look is
// under way then, or about to be.
func (r *Roster) failed(e *event.Event) {
	if e.Kind != event.Open || e.Open == nil || e.Open.Errno == 0 || e.Proc == nil {
		return
	}
	if _, ok := r.running.Load(e.Proc.PID); !ok {
		return
	}
	select {
	case r.failures <- failure{e.Proc.PID, e.Open.Path}:
	default:
	}
}

// looking is what a guest has to do with looks.
type looking struct {
	paths   []string // of its images, as the command line names them
	dir     string   // where relative ones begin, empty: not known yet
	seen    map[string]event.WayInfo
	number  int       // of looks so far
	last    time.Time // when the last one began
	at      time.Time // when the next one is due, zero: none is
	waiting bool      // for a worker
	busy    bool      // one is under way
	again   bool      // and another is to follow
}

// imagePaths returns the local paths that a guest's command line names.
func imagePaths(g *guest.Guest) (paths []string) {
	for i := range g.Disks {
		for image := range g.Disks[i].Images() {
			if image.Storage == guest.StorageFile && image.Path != "" && len(paths) < maxPaths && !slices.Contains(paths, image.Path) {
				paths = append(paths, image.Path)
			}
		}
	}
	return paths
}

// addImages adds what the headers of images name.
func (l *looking) addImages(info *event.ImageInfo) {
	for i := range info.Members {
		m := &info.Members[i]
		if m.FromHeader && filepath.IsAbs(m.Path) && len(l.paths) < maxPaths && !slices.Contains(l.paths, m.Path) {
			l.paths = append(l.paths, m.Path)
		}
	}
}

// ask asks for a look at a guest's paths, as soon as that may be.
func (r *Roster) ask(g *entry) {
	l := &g.ways
	next := l.last.Add(between)
	switch {
	case len(l.paths) == 0, l.number >= maxLooks, l.waiting:
	case l.busy:
		l.again = true
	case len(g.pids) > 0 && time.Until(next) > 0:
		l.at = next
	case len(r.waiting) >= most:
		r.Log.Warn("where a guest's disks lead is not looked at: too many wait", "pid", g.pid)
	default:
		l.at, l.waiting = time.Time{}, true
		r.waiting = append(r.waiting, g)
	}
}

// due asks for the look that is due, and returns how long until it is; 0 where
// none is to come.
func (r *Roster) due(g *entry) time.Duration {
	if g.ways.at.IsZero() {
		return 0
	}
	if left := time.Until(g.ways.at); left > 0 {
		return left
	}
	r.ask(g)
	return 0
}

// startLooks gives the workers what waits.
func (r *Roster) startLooks() {
	for r.lookers > 0 && len(r.waiting) > 0 {
		g := r.waiting[0]
		r.waiting = r.waiting[1:]
		l := &g.ways
		l.waiting, l.busy, l.last = false, true, time.Now()
		l.number++
		r.lookers--
		if l.dir == "" {
			l.dir = g.cwd
		}
		pids, paths, dir := append(slices.Clone(g.pids), g.parent), slices.Clone(l.paths), l.dir
		go func() {
			if dir == "" {
				dir = r.Dir(pids[0])
			}
			sights := r.Ways(pids, absolute(paths, dir))
			r.sighted <- func() {
				l.dir = dir
				r.tellWays(g, sights)
			}
		}()
	}
}

// absolute leaves out paths of which nobody knows where they begin.
func absolute(paths []string, dir string) map[string]string {
	at := make(map[string]string, len(paths))
	for _, path := range paths {
		switch {
		case filepath.IsAbs(path):
			at[path] = path
		case filepath.IsAbs(dir):
			at[path] = filepath.Join(dir, path)
		}
	}
	return at
}

// tellWays records what is other than at the last look.
func (r *Roster) tellWays(g *entry, sights []Sight) {
	r.lookers++
	l := &g.ways
	l.busy = false
	for i := range sights {
		s := &sights[i]
		same := s.Way
		same.Size = 0 // an image grows
		if known, ok := l.seen[s.Way.Path]; ok && reflect.DeepEqual(known, same) || !ok && plain(&s.Way) {
			continue
		}
		if l.seen == nil {
			l.seen = make(map[string]event.WayInfo)
		}
		l.seen[s.Way.Path] = same
		if r.told == nil {
			r.told = make(map[uint32]int)
		}
		uid := event.UserOf(g.uid)
		if _, known := r.told[uid]; !known && len(r.told) >= maxUsers {
			uid = min(uid, 1) // one for all of these
		}
		if r.told[uid]++; r.told[uid] > maxTold {
			r.noRoom(event.UserOf(g.uid), r.told[uid])
			break
		}
		r.Record(event.Event{Kind: event.Way, Src: SourceName, From: s.From, At: s.At, Proc: g.proc(), Way: &s.Way})
	}
	if l.again {
		l.again = false
		r.ask(g)
	}
}

// noRoom says, once, that no further ways of a user's guests are recorded in this boot.
func (r *Roster) noRoom(uid uint32, told int) {
	if told > maxTold+1 {
		return
	}
	why := fmt.Sprintf("%d ways of paths of one user's guests are recorded, which is the most for a boot: where links led later is not known", maxTold)
	r.Log.Warn("where a user's guests' disks lead is no longer recorded", "user", uid, "most", maxTold)
	r.Record(event.Event{At: event.Now(), Kind: event.Loss, Src: SourceName, Loss: &event.LossInfo{Source: SourceName, What: string(event.Way), Why: why, UID: uid}})
}

// plain reports whether a way is what the path of a mapping says by itself, and
// udev's events tell anyway: most guests' are.
func plain(w *event.WayInfo) bool {
	meaning, ok := blockdev.MeaningOf(w.Path)
	return ok && meaning.Kind == blockdev.Mapping && w.Type == "block" && len(w.Links) <= 1 &&
		(strings.HasPrefix(w.Node, "/dev/dm-") || w.Node == w.Path)
}

// LookAt looks where paths lead, in the view of the first of these processes that
// still runs: a guest that failed at once is gone by now, and its parent had the
// same view, unless it made another for the guest. The keys of paths are what
// the guest calls them. It waits as long as the file systems on the way do.
func LookAt(pids []int, paths map[string]string) []Sight {
	var v *view.View
	var table *mounts.Table
	for _, pid := range pids {
		var err error
		if pid <= 0 {
			continue
		}
		if v, err = view.Of(pid); err == nil {
			table, _ = mounts.TableOf(pid) // without it the mount is not told
			break
		}
	}
	if v == nil {
		return nil
	}
	defer v.Close()
	sights := make([]Sight, 0, len(paths))
	for name, path := range paths {
		from := event.Now()
		place, err := v.Survey(path)
		sights = append(sights, Sight{From: from, At: event.Now(), Way: way(name, &place, err, table)})
	}
	slices.SortFunc(sights, func(a, b Sight) int { return strings.Compare(a.Way.Path, b.Way.Path) })
	return sights
}

func way(name string, p *view.Place, err error, table *mounts.Table) event.WayInfo {
	w := event.WayInfo{Path: name, Node: p.Node, Missing: p.Missing, Inode: p.Inode, Size: p.Size}
	text := 0
	for _, link := range p.Links {
		if text += len(link.Path) + len(link.Target); text > maxLinks {
			break
		}
		w.Links = append(w.Links, link)
	}
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		w.Errno = int(errno)
	case err != nil:
		w.Errno = int(syscall.EIO)
	case p.Block():
		w.Type, w.Dev = "block", &p.Dev
	case p.Mode.IsDir():
		w.Type = "dir"
	case p.Mode.IsRegular():
		w.Type = "file"
	default:
		w.Type = "other"
	}
	if !p.FSDev.IsZero() {
		w.FSDev = &p.FSDev
	}
	if table != nil {
		w.Mount = table.Point(p.MountID, p.Folder, p.FSDev)
	}
	return w
}
