package readiness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/view"
)

// files are what a request's paths lead to.
type files interface {
	Walk(path string) (view.Place, error)
	// Open opens what a path was found to lead to for reading, and nothing else.
	Open(path string, found *view.Place) (image.File, error)
	Close() error
}

// seen are the files that a process sees.
type seen struct{ *view.View }

func (s seen) Open(path string, found *view.Place) (image.File, error) {
	f, err := s.View.Open(path, found)
	if err != nil {
		return nil, err // and not a nil file
	}
	return f, nil
}

// look is one look at a request's disks.
type look struct {
	ctx   context.Context
	t     *Tracker
	files files
	found map[string]*finding // by path
	keys  map[key]struct{}    // what would change the verdict
}

// finding is what was found out about one path.
type finding struct {
	place   view.Place
	mapping *devmap.Mapping
	blocker *Blocker // nil: nothing to wait for
	note    string   // what is broken, and waiting will not mend
}

// take looks at the disks.
func (l *look) take(r *Request) Verdict {
	v := Verdict{At: event.Now(), Ready: true}
	for n := range r.Disks {
		l.disk(&v, &r.Disks[n], r.Dir)
	}
	return v
}

func (l *look) disk(v *Verdict, disk *guest.Image, dir string) {
	chain := image.Reader{Host: l, Dir: dir}.Follow(l.ctx, disk)
	for n := range chain.Members {
		m := &chain.Members[n]
		if m.Storage != guest.StorageFile {
			continue
		}
		of := ""
		if m.Over >= 0 {
			of = chain.Members[0].Path
		}
		l.member(v, m, of)
	}
}

// member adds one image to the verdict.
func (l *look) member(v *Verdict, m *image.Member, of string) {
	f := l.found[m.Path]
	if f == nil { // the chain's reader did not ask about it, and says why
		v.Members = append(v.Members, Member{Path: m.Path, Disk: of, Ready: true, Note: m.Why})
		return
	}
	out := Member{Path: m.Path, Disk: of, Node: f.place.Node, Ready: f.blocker == nil, Broken: f.note != "", Note: f.note, Size: m.Size}
	if f.place.Block() {
		dev := f.place.Dev
		out.Dev = &dev
	}
	if f.mapping != nil {
		out.Mapping, out.UUID = f.mapping.Name, f.mapping.UUID
	}
	if f.blocker != nil {
		b := *f.blocker
		b.Path, b.Disk = m.Path, of
		v.Blockers = append(v.Blockers, b)
		v.Ready = false
	} else if out.Note == "" {
		out.Note, out.Unread = m.Why, m.State == image.StateUnreadable
	}
	v.Members = append(v.Members, out)
}

// Resolve implements image.Host: a header is read only where its mapping is
// ready, for before that it may still hold what was there earlier.
func (l *look) Resolve(path string) (devmap.Resolution, error) {
	f := l.path(path)
	r := devmap.Resolution{Path: path, Node: f.place.Node, Mode: f.place.Mode, Dev: f.place.Dev}
	switch {
	case f.blocker != nil && !f.place.Block():
		return r, fmt.Errorf("%s: %w", f.blocker.Detail, fs.ErrNotExist)
	case f.blocker != nil:
		r.Mapping = &devmap.Mapping{Dev: f.place.Dev}
	case f.note != "":
		return r, errors.New(f.note)
	default:
		r.Mapping = f.mapping
	}
	return r, nil
}

// Size implements image.Host.
func (l *look) Size(dev event.Dev) (int64, error) { return l.t.sys.size(dev) }

// Open implements image.Host.
func (l *look) Open(r *devmap.Resolution) (image.File, error) {
	return l.files.Open(r.Path, &l.found[r.Path].place)
}

// path finds out about a path, once.
func (l *look) path(path string) *finding {
	if f := l.found[path]; f != nil {
		return f
	}
	f := &finding{}
	l.found[path] = f
	l.watch(pathKey(path))
	var err error
	f.place, err = l.files.Walk(path)
	for _, link := range f.place.Links {
		l.watch(pathKey(link.Path))
	}
	l.watch(pathKey(f.place.Node))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.missing(f, path)
	case err != nil:
		f.note = err.Error()
	case f.place.Block():
		l.device(f, path)
	}
	return f
}

func (l *look) watch(k key) { l.keys[k] = struct{}{} }

// missing judges a path that leads nowhere: waited for only where a mapping
// can be meant by where the way ended.
func (l *look) missing(f *finding, path string) {
	candidates := devmap.Candidates(f.place.Node)
	if len(candidates) == 0 && !strings.HasPrefix(f.place.Node, "/dev/disk/") {
		f.note = "does not exist, and by its name is no mapping"
		return
	}
	m := l.named(slices.Concat(candidates, devmap.Candidates(path)))
	if m == nil {
		f.blocker = &Blocker{Kind: Missing, Mapping: firstName(candidates), Detail: "does not exist" + absent(candidates)}
		return
	}
	dev := m.Dev
	l.watch(devKey(dev))
	if f.blocker = l.state(m); f.blocker == nil {
		f.blocker = &Blocker{Kind: Link, Detail: "mapping " + m.Name + " is live, but the path does not lead to it yet"}
	}
	f.blocker.Mapping, f.blocker.Dev = m.Name, &dev
}

func firstName(list []devmap.Candidate) string {
	for _, c := range list {
		if c.Name != "" {
			return c.Name
		}
	}
	return ""
}

func absent(list []devmap.Candidate) string {
	if name := firstName(list); name != "" {
		return ", and neither does mapping " + name
	}
	return ""
}

// named returns the first mapping that exists among the candidates.
func (l *look) named(list []devmap.Candidate) *devmap.Mapping {
	for _, c := range list {
		if c.Name == "" {
			continue
		}
		l.watch(nameKey(c.Name))
		if m, err := l.t.mappings.Named(c.Name); err == nil {
			return &m
		}
	}
	return nil
}

// device judges a path that leads to a block device's node.
func (l *look) device(f *finding, path string) {
	dev := f.place.Dev
	l.watch(devKey(dev))
	m, err := l.t.mappings.Status(dev)
	switch {
	case errors.Is(err, devmap.ErrNotMapping):
		if !l.t.sys.isOther(dev) {
			l.stale(f, path)
		}
		return
	case err != nil:
		f.note = err.Error()
		return
	}
	f.mapping = &m
	if f.blocker = l.elsewhere(f, path); f.blocker == nil {
		f.blocker = l.state(&m)
	}
	if f.blocker != nil {
		f.blocker.Dev = &dev
		if f.blocker.Mapping == "" {
			f.blocker.Mapping = m.Name
		}
	}
}

// stale judges a node with no device behind it. An open of it fails, so
// nothing is lost by waiting where a mapping can be meant.
func (l *look) stale(f *finding, path string) {
	candidates := slices.Concat(devmap.Candidates(path), devmap.Candidates(f.place.Node))
	if len(candidates) == 0 {
		f.note = "no device is behind the node, and by its name it is no mapping"
		return
	}
	dev := f.place.Dev
	f.blocker = &Blocker{Kind: Missing, Mapping: firstName(candidates), Dev: &dev,
		Detail: "the node is there, but no device is behind it"}
	l.named(candidates)
}

// state judges a mapping by itself.
func (l *look) state(m *devmap.Mapping) *Blocker {
	switch m.State() {
	case devmap.Created, devmap.Loaded:
		return &Blocker{Kind: NoTable, Detail: "mapping " + m.Name + " has no active table yet"}
	case devmap.Suspended:
		return &Blocker{Kind: Suspended, Detail: "mapping " + m.Name + " is suspended"}
	}
	if !m.Flags.Usable() {
		return &Blocker{Kind: Removing, Detail: "mapping " + m.Name + " is about to be removed"}
	}
	// What the kernel announced before it said that the mapping is live must be
	// known before udev's progress is judged: a number can have a new owner.
	if err := l.t.catchUp(l.ctx); err != nil {
		l.t.log.Debug("uevents are not read", "error", err)
	}
	p, err := l.t.udevProgress(m)
	switch {
	case err != nil:
		return &Blocker{Kind: Udev, Detail: err.Error()}
	case p == finished || !l.t.udevRuns():
		return nil
	case p == private:
		return &Blocker{Kind: Private, Detail: "mapping " + m.Name + " is private to LVM, or still in the making"}
	}
	return &Blocker{Kind: Udev, Detail: "mapping " + m.Name + " is live, but udev has not finished with it"}
}

// elsewhere judges whether the mapping that a path leads to is the one that the
// path names. The text of a path proves little: an administrator's own link in
// /dev can look like a volume's. Two things are proof: that a mapping of that
// name exists, and is another one; and that there is no link on the way, but a
// node whose device has another name and does not know the path, as in a
// private /dev that was filled before the number got a new owner.
func (l *look) elsewhere(f *finding, path string) *Blocker {
	names := []string{path}
	for _, link := range f.place.Links {
		names = append(names, link.Path)
	}
	for _, name := range names {
		candidates := devmap.Candidates(name)
		if firstName(candidates) == "" || slices.ContainsFunc(candidates, func(c devmap.Candidate) bool { return c.Name == f.mapping.Name }) {
			continue
		}
		m := l.named(candidates)
		switch {
		case m != nil && m.Dev != f.mapping.Dev:
			return &Blocker{Kind: Elsewhere, Mapping: m.Name,
				Detail: "leads to mapping " + f.mapping.Name + ", and not to " + m.Name}
		case m == nil && name == f.place.Node && !l.t.knowsLink(f.mapping.Dev, name):
			return &Blocker{Kind: Elsewhere, Mapping: firstName(candidates),
				Detail: "is a node of mapping " + f.mapping.Name + ", and mapping " + firstName(candidates) + " does not exist"}
		}
	}
	return nil
}
