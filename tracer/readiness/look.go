package readiness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/mounts"
	"github.com/bootrace/bootrace/tracer/view"
)

// files are what a request's paths lead to.
type files interface {
	// Mounts returns what is mounted there. announced is set where each change
	// of that wakes the watches that have mountKey.
	Mounts() (list []mounts.Mounted, announced bool, err error)
	Walk(path string) (view.Place, error)
	// Open opens what a path was found to lead to for reading, and nothing else.
	Open(path string, found *view.Place) (image.File, error)
	Close() error
}

// seen are the files that a process sees.
type seen struct {
	*view.View
	pid int
}

func (s seen) Mounts() (list []mounts.Mounted, announced bool, err error) {
	list, err = mounts.Now(s.pid)
	return list, mounts.Shared(s.pid), err
}

func (s seen) Open(path string, found *view.Place) (image.File, error) {
	f, err := s.View.Open(path, found)
	if err != nil {
		return nil, err // and not a nil file
	}
	return f, nil
}

// look is one look at a request's disks.
type look struct {
	ctx    context.Context
	t      *Tracker
	files  files
	memory []event.MemoryDisk
	found  map[string]*finding // by path
	keys   map[key]struct{}    // what would change the verdict
	// silent is set where something is waited for of which nothing tells when it
	// comes.
	silent bool
	// mounted are the mounts that the guest sees, once they were asked for.
	mounted    []mounts.Mounted
	mountedErr error
	mountsTold bool // their changes are announced
	mountsRead bool
}

// finding is what was found out about one path.
type finding struct {
	place   view.Place
	mapping *devmap.Mapping
	device  *event.DevInfo // that is no mapping
	blocker *Blocker       // nil: nothing to wait for
	note    string         // what is broken, and waiting will not mend
	remark  string         // why it is taken as it is
}

func (t *Tracker) newLook(ctx context.Context, r *Request, f files) *look {
	return &look{
		ctx: ctx, t: t, files: f, memory: r.Memory,
		found: make(map[string]*finding), keys: make(map[key]struct{}),
	}
}

// take looks at the disks.
func (l *look) take(r *Request) Verdict {
	v := Verdict{At: l.t.host.Now(), Ready: true}
	for n := range r.Disks {
		l.disk(&v, &r.Disks[n], r.Dir)
	}
	return v
}

func absolute(path, dir string) string {
	if !filepath.IsAbs(path) && dir != "" {
		return filepath.Join(dir, path)
	}
	return path
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
	if f.device != nil {
		out.DeviceKind, out.Identity = string(blockdev.DeviceKind(f.device)), l.identity(f.device)
	}
	if f.remark != "" {
		out.Note = f.remark
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
func (l *look) Size(dev event.Dev) (int64, error) {
	d, err := l.t.host.Device(dev)
	return max(blockdev.Size(&d), 0), err
}

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
	case f.place.Mode.IsRegular():
		l.file(f, path)
	}
	return f
}

func (l *look) watch(k key) { l.keys[k] = struct{}{} }

// last returns what the guest last ran on by a path, nil if that is not known.
func (l *look) last(path string) *event.MemoryDisk {
	for i := range l.memory {
		if d := &l.memory[i]; absolute(d.Path, "/") == path {
			return d
		}
	}
	return nil
}

// missing judges a path that leads nowhere: waited for only where it can only
// mean a device that is still to come, or where the guest ran on it before.
func (l *look) missing(f *finding, path string) {
	last := l.last(path)
	meaning, known := blockdev.MeaningOf(f.place.Node)
	if !known {
		meaning, known = blockdev.MeaningOf(path)
	}
	switch {
	case known && !meaning.Waited(), last != nil && blockdev.Kind(last.DeviceKind).Removable():
		f.note = "does not exist, and a medium that somebody puts in is not waited for"
	case known:
		l.absent(f, l.candidates(f, path))
	case last != nil && last.DeviceKind != fileKind:
		l.silent = l.silent || !strings.HasPrefix(f.place.Node, "/dev/")
		l.absent(f, remembered(last))
		f.blocker.Detail += "; the guest last ran on " + named(last) + " by it"
	default:
		l.missingFile(f, last)
	}
}

// fileKind is event.MemoryDisk.DeviceKind of a file.
const fileKind = "file"

// remembered are the mappings that a disk of the memory can be.
func remembered(d *event.MemoryDisk) []devmap.Candidate {
	if d.Name == "" || d.DeviceKind != "" && blockdev.Kind(d.DeviceKind) != blockdev.Mapping {
		return nil
	}
	return []devmap.Candidate{{Name: d.Name}}
}

func named(d *event.MemoryDisk) string {
	if remembered(d) != nil {
		return "mapping " + d.Name
	}
	return fmt.Sprintf("%s (%s)", blockdev.Kind(d.DeviceKind), cmp.Or(d.UUID, d.Name))
}

// candidates are the mappings that a path, or the end of its way, can mean by
// their names.
func (l *look) candidates(f *finding, path string) []devmap.Candidate {
	var list []devmap.Candidate
	for _, name := range []string{f.place.Node, path} {
		if m, ok := blockdev.MeaningOf(name); ok && (m.Kind == blockdev.Mapping || m.Kind == blockdev.Other) {
			list = append(list, m.Mappings...)
		}
	}
	if last := l.last(path); last != nil {
		list = append(list, remembered(last)...)
	}
	return list
}

// absent judges a path that does not exist, and is waited for.
func (l *look) absent(f *finding, candidates []devmap.Candidate) {
	m := l.named(candidates)
	if m == nil {
		f.blocker = &Blocker{Kind: Missing, Mapping: firstName(candidates), Detail: "does not exist" + absent(candidates)}
		return
	}
	dev := m.Dev
	l.watch(devKey(dev))
	if f.blocker = l.state(m); f.blocker == nil {
		l.silent = true // who makes nodes by hand tells nobody
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
		if m, err := l.t.host.Named(c.Name); err == nil {
			return &m
		}
	}
	return nil
}

// device judges a path that leads to a block device's node.
func (l *look) device(f *finding, path string) {
	dev := f.place.Dev
	l.watch(devKey(dev))
	m, err := l.t.host.Status(dev)
	switch {
	case errors.Is(err, devmap.ErrNotMapping):
		l.other(f, path)
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

// other judges a device that is no mapping.
func (l *look) other(f *finding, path string) {
	d, err := l.t.host.Device(f.place.Dev)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && blockdev.DeviceKind(&d) == blockdev.Mapping:
		l.stale(f, path) // between the two questions a mapping can have come
		return
	case errors.Is(err, blockdev.ErrBusy):
		l.silent = true
		f.blocker = &Blocker{Kind: Empty, Detail: "the kernel does not tell now whether " + d.Name + " can be used"}
	case err != nil:
		f.remark = err.Error()
		return
	default:
		f.device = &d
		f.blocker = l.usable(&d)
	}
	if f.blocker != nil {
		f.blocker.Dev = d.Dev
	}
}

// usable judges a device that is no mapping by itself.
func (l *look) usable(d *event.DevInfo) *Blocker {
	kind := blockdev.DeviceKind(d)
	what := kind.String() + " " + d.Name
	switch {
	case kind.Removable():
		return nil
	case blockdev.Secondary(d):
		l.silent = true
		return &Blocker{Kind: Secondary, Detail: what + " is secondary here, so it can't be opened"}
	case blockdev.UsableBy(d) == blockdev.Empty:
		l.silent = l.silent || !kind.AnnouncesUse()
		return &Blocker{Kind: Empty, Detail: what + " is there, but " + nothingBehind(d)}
	}
	l.catchUp()
	ok, err := l.t.udevFinished(d)
	switch {
	case err != nil:
		l.silent = true
		return &Blocker{Kind: Udev, Detail: err.Error()}
	case ok || !l.t.host.UdevRuns():
		return nil
	}
	l.silent = l.silent || l.t.devices.get(*d.Dev).empty
	return &Blocker{Kind: Udev, Detail: what + " can be used, but udev has not finished with it"}
}

func nothingBehind(d *event.DevInfo) string {
	if state, ok := d.Attrs[blockdev.AttrArrayState]; ok && !blockdev.ArrayRuns(state) {
		return "it does not run: its state is " + state
	}
	return "nothing is behind it: its size is 0"
}

// catchUp takes note of all that the kernel announced before now: it must be
// known before udev's progress is judged, for a number can have a new owner.
func (l *look) catchUp() {
	if err := l.t.uevents.CatchUp(l.ctx); err != nil {
		l.t.log.Debug("uevents are not read", "error", err)
	}
}

// identity returns what tells a device from all others over reboots.
func (l *look) identity(d *event.DevInfo) string {
	if record, err := l.t.host.Record(*d.Dev); err == nil && record != nil {
		known := *d
		known.Props, known.Links = record.Props, record.Links
		return blockdev.Identity(&known)
	}
	return blockdev.Identity(d)
}

// stale judges a node with no device behind it. An open of it fails, so
// nothing is lost by waiting where its name can mean one that comes.
func (l *look) stale(f *finding, path string) {
	candidates := l.candidates(f, path)
	meaning, known := blockdev.MeaningOf(f.place.Node)
	if !known && l.last(path) == nil || known && !meaning.Waited() {
		f.note = "no device is behind the node, and its name does not say which is meant"
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
		// The kernel announces the resume that somebody asks for, and not its own.
		l.silent = l.silent || m.Flags&devmap.FlagInternalSuspend != 0
		return &Blocker{Kind: Suspended, Detail: "mapping " + m.Name + " is suspended"}
	}
	if !m.Flags.Usable() {
		l.silent = true // a removal that is called off is not announced
		return &Blocker{Kind: Removing, Detail: "mapping " + m.Name + " is about to be removed"}
	}
	l.catchUp()
	p, err := l.t.udevProgress(m)
	switch {
	case err != nil:
		l.silent = true
		return &Blocker{Kind: Udev, Detail: err.Error()}
	case p == blockdev.Finished || !l.t.host.UdevRuns():
		return nil
	case p == blockdev.Private:
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
