package timeline

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// execFact is a guest's exec, or a guest found by a snapshot.
type execFact struct {
	stamp
	pid, parent int
	uid         uint32
	binary      string
	guest       guest.Guest
	truncated   bool
	backfilled  bool
	files       []heldFile
}

// heldFile is a block device that a backfilled guest holds open.
type heldFile struct {
	path  sym
	dev   event.Dev
	size  int64
	flags uint32
}

// guestLife is a Guest in the making.
type guestLife struct {
	out    *Guest
	names  *symbols
	fact   *execFact
	alive  int
	seen   event.Time  // when a snapshot last saw it run, 0 if none did
	byPath map[sym]int // place in out.Disks
	firsts []firstUse
	// strays are failed opens of what may be a disk, one a path.
	strays []*openFact
	// memory is what it last ran on, nil if nothing is known.
	memory *memoryFact
	// tail is the disk that was opened last, and when: what is opened next
	// without having been announced belongs to it.
	tail   int
	opened event.Time
	// uids are the users that it was: some begin as root, and go on as another.
	uids []uint32
}

// owns reports whether a gap of one user, or one guest, is the guest's: it was ever
// run by that user, or is that process.
func (g *guestLife) owns(gap *Gap) bool {
	if gap.PID != 0 {
		return gap.PID == g.out.PID
	}
	return slices.ContainsFunc(g.uids, func(own uint32) bool { return own == gap.UID || event.UserOf(own) == gap.UID })
}

// ran notes that the guest was run by a user.
func (g *guestLife) ran(uid uint32) {
	if !slices.Contains(g.uids, uid) {
		g.uids = append(g.uids, uid)
	}
}

// A backing file is opened right after its overlay. A path that is opened
// later than this is a disk of its own: plugged in, or mirrored to.
const chainPause = 5 * time.Second

// listed is how many opens of a run are kept; qemu needs three.
const listed = 8

// tenure is the time in which a process belonged to a guest.
type tenure struct {
	guest *guestLife
	span
}

// processes follows the processes of all guests.
type processes struct {
	names   *symbols
	guests  []*guestLife
	tenures map[int][]tenure
	// unstarted are the starts that led to no exec.
	unstarted []*unstarted
	// insides are the looks into disks that count.
	insides map[diskKey]*insideFact
}

// step is one change of a process; kind orders those of one instant.
type step struct {
	stamp
	exec *execFact
	fork *forkFact
	exit *exitFact
}

func (b *Builder) processSteps() []step {
	var steps []step
	for i := range b.execs {
		steps = append(steps, step{stamp: b.execs[i].stamp, exec: &b.execs[i]})
	}
	for f := range b.forks.all {
		steps = append(steps, step{stamp: f.stamp, fork: f})
	}
	for f := range b.exits.all {
		steps = append(steps, step{stamp: f.stamp, exit: f})
	}
	slices.SortStableFunc(steps, func(a, b step) int { return a.compare(&b.stamp) })
	return steps
}

func (p *processes) apply(s step) {
	switch {
	case s.exec != nil:
		p.exec(s.exec)
	case s.fork != nil:
		if g := p.current(s.fork.parent); g != nil && p.current(s.fork.pid) != g {
			p.join(g, s.fork.pid, s.stamp)
			g.out.Forks = append(g.out.Forks, s.fork.pid)
		}
	case s.exit != nil:
		p.exit(s.exit)
	}
}

func (p *processes) current(pid int) *guestLife {
	if t := p.tenures[pid]; len(t) > 0 && t[len(t)-1].end == nil {
		return t[len(t)-1].guest
	}
	return nil
}

func (p *processes) join(g *guestLife, pid int, s stamp) {
	p.leave(pid, s)
	g.alive++
	p.tenures[pid] = append(p.tenures[pid], tenure{g, span{start: s}})
}

func (p *processes) leave(pid int, s stamp) *guestLife {
	g := p.current(pid)
	if g != nil {
		t := p.tenures[pid]
		t[len(t)-1].end = &s
		g.alive--
	}
	return g
}

func (p *processes) exec(f *execFact) {
	if known := p.current(f.pid); f.backfilled && known != nil {
		known.seen = max(known.seen, f.at)
		return // a later snapshot saw what is known
	}
	p.leave(f.pid, f.stamp)
	if !f.guest.IsGuest {
		return
	}
	g := &guestLife{out: newGuest(f), names: p.names, fact: f, byPath: map[sym]int{}, tail: -1, uids: []uint32{f.uid}}
	for i := range f.guest.Disks {
		g.announce(&f.guest.Disks[i])
	}
	p.guests = append(p.guests, g)
	p.join(g, f.pid, f.stamp)
}

func (p *processes) exit(f *exitFact) {
	g := p.leave(f.pid, f.stamp)
	if g == nil {
		return
	}
	g.ran(f.uid)
	if g.alive == 0 {
		g.out.Exit = &Exit{f.instant(), f.info}
	}
}

// of returns the guest that a process belonged to at s.
func (p *processes) of(pid int, s stamp) *guestLife {
	t := p.tenures[pid]
	for i := len(t) - 1; i >= 0; i-- {
		if t[i].start.from <= s.at {
			if t[i].end != nil && t[i].end.at < s.from {
				return nil
			}
			return t[i].guest
		}
	}
	return nil
}

func newGuest(f *execFact) *Guest {
	return &Guest{
		ID:       fmt.Sprintf("%d@%d", f.pid, f.at),
		Identity: f.guest.Identity.Value, IdentityFrom: f.guest.Identity.Kind,
		Name: f.guest.Name, UUID: f.guest.UUID, Binary: cmp.Or(f.binary, f.guest.Binary),
		PID: f.pid, PPID: f.parent, UID: f.uid, Exec: f.instant(),
		Hypervisor: f.guest.Hypervisor, Unknown: f.unknown(),
		Backfilled: f.backfilled, Truncated: f.truncated, Disks: []Disk{},
	}
}

// unknown says why the guest may have disks that are not known.
func (f *execFact) unknown() string {
	if f.guest.Unknown == "" && f.truncated {
		return "its command line is longer than what was recorded, so there may be further disks"
	}
	return f.guest.Unknown
}

// announce lists a disk of the command line, and all that it says is beneath.
func (g *guestLife) announce(d *guest.Disk) {
	over := ""
	for image := range d.Images() {
		if image.Path == "" && image != &d.Image {
			continue
		}
		g.addDisk(Disk{
			Path: image.Path, ID: d.ID, DeviceID: d.DeviceID, Serial: d.Serial, Format: image.Format, Kind: string(d.Kind),
			ReadOnly: image.ReadOnly, Unlocked: image.Unlocked, ShareRW: d.ShareRW, Storage: string(image.Storage), Needs: image.Needs,
			Announced: true, BackingOf: over,
		})
		over = cmp.Or(over, d.Path)
	}
}

func (g *guestLife) addDisk(d Disk) int {
	n := len(g.out.Disks)
	d.Uses = []Use{}
	g.out.Disks = append(g.out.Disks, d)
	if p := g.names.add(clean(d.Path)); p != 0 {
		if _, known := g.byPath[p]; !known {
			g.byPath[p] = n
		}
	}
	return n
}

// clean makes two spellings of one path equal. Paths stay relative: only qemu
// knows its directory.
func clean(p string) string {
	if p == "" {
		return ""
	}
	return path.Clean(p)
}

// open takes the opens of one guest in the order of their time.
func (g *guestLife) open(f *openFact) {
	g.ran(f.uid)
	p := f.path
	if text := g.names.get(p); text != clean(text) {
		p = g.names.add(clean(text))
	}
	n, known := g.byPath[p]
	if !known {
		if !g.storage(f) {
			g.stray(f)
			return
		}
		n = g.addDisk(Disk{Path: g.names.get(p), BackingOf: g.chain(f)})
	}
	if g.out.Disks[n].Announced || g.out.Disks[n].BackingOf != "" {
		g.tail, g.opened = n, f.at
	}
	g.out.Disks[n].use(f, g.names)
}

// storage reports whether an open that no disk announces can be one of a
// backing file: a block device, or a path that can mean a mapping. qemu also
// opens /dev/kvm, /dev/net/tun and the like.
func (g *guestLife) storage(f *openFact) bool {
	text := g.names.get(f.path)
	switch {
	case !strings.HasPrefix(text, "/dev/"):
		return f.hasDev
	case f.errno == 0:
		kind := g.names.get(f.kind)
		return f.hasDev || kind == "block" || kind == "file" && devmap.Candidates(text) != nil
	default:
		_, device := blockdev.MeaningOf(text)
		return device
	}
}

// stray notes an open that failed, or forgets it when another one of that path
// succeeds: of a path that may be a disk, for all that its name says. Devices of
// other kinds, libraries and the system's own files are none.
func (g *guestLife) stray(f *openFact) {
	text := g.names.get(f.path)
	g.strays = slices.DeleteFunc(g.strays, func(o *openFact) bool { return o.path == f.path })
	system := func(dir string) bool { return strings.HasPrefix(text, dir) }
	if f.errno == 0 || inDev(text) || strings.HasSuffix(text, ".so") || slices.ContainsFunc(event.SystemDirs(), system) || len(g.strays) >= listed {
		return
	}
	g.strays = append(g.strays, f)
}

// chain returns the disk that an open follows, if that is clear.
func (g *guestLife) chain(f *openFact) string {
	if g.tail < 0 || f.at.Sub(g.opened) > chainPause {
		return ""
	}
	d := &g.out.Disks[g.tail]
	return cmp.Or(d.BackingOf, d.Path)
}

// use adds an open to the run that it belongs to, or begins one.
func (d *Disk) use(f *openFact, names *symbols) {
	one := Open{Instant: f.instant(), PID: int(f.pid), Flags: f.flags}
	if n := len(d.Uses); n > 0 && d.Uses[n-1].same(f) {
		u := &d.Uses[n-1]
		u.Count += 1 + int(f.repeats)
		if len(u.Opens) < listed {
			u.Opens = append(u.Opens, one)
		}
		return
	}
	u := Use{
		Instant: one.Instant, Errno: int(f.errno), Count: 1 + int(f.repeats), Opens: []Open{one},
		Type: names.get(f.kind), Size: f.size,
	}
	if f.errno != 0 {
		u.Error = errorName(f.errno)
	}
	if f.hasDev {
		dev := f.dev
		u.Dev = &dev
	}
	d.Uses = append(d.Uses, u)
}

func errorName(errno int32) string {
	if name := unix.ErrnoName(unix.Errno(errno)); name != "" {
		return name
	}
	return fmt.Sprintf("errno %d", errno)
}

func (u *Use) same(f *openFact) bool {
	return u.Errno == int(f.errno) && (u.Dev != nil) == f.hasDev && (u.Dev == nil || *u.Dev == f.dev)
}

// judge measures all uses and drops the paths that turned out to be no disks.
func (g *guestLife) judge(r *resolver, groups map[string]bool) {
	kept := g.out.Disks[:0]
	for _, d := range g.out.Disks {
		rt := r.route(g.names.add(clean(d.Path)))
		if !d.Announced && !d.FromHeader && !d.proven(rt, groups) {
			continue
		}
		for i := range d.Uses {
			rt.measure(&d.Uses[i], r.h)
		}
		switch {
		case len(d.Uses) > 0:
			d.Mapping = d.Uses[0].Mapping
		default:
			if l := rt.lifeAt(g.fact.stamp); l != nil {
				d.Mapping = l.mapping.ID
			}
		}
		kept = append(kept, d)
	}
	g.out.Disks = kept
	g.held(r.h)
	for i := range g.out.Disks {
		g.first(&g.out.Disks[i], r)
	}
}

// proven reports whether a path that was not announced is storage: it was a
// block device, it led to a mapping, it lies in a known volume group, or it was
// tried twice over, which qemu does with a missing image only.
func (d *Disk) proven(rt *route, groups map[string]bool) bool {
	if len(rt.lives) > 0 {
		return true
	}
	if m, ok := blockdev.MeaningOf(d.Path); ok && m.Kind != blockdev.Mapping && m.Waited() {
		return true
	}
	for i := range d.Uses {
		u := &d.Uses[i]
		if u.Errno == 0 && u.Dev != nil || u.Errno == int(unix.ENOENT) && u.Count > 1 {
			return true
		}
	}
	return groups[path.Base(path.Dir(d.Path))]
}

// held adds the devices that a backfilled guest has open and no disk leads to.
func (g *guestLife) held(h *history) {
	for _, file := range g.fact.files {
		l := h.lifeByDev(file.dev, g.fact.stamp)
		if l == nil {
			l = h.lifeByDev(file.dev, stamp{from: g.fact.at, at: 1<<63 - 1})
		}
		if l == nil {
			continue
		}
		if !slices.ContainsFunc(g.out.Disks, func(d Disk) bool { return d.Mapping == l.mapping.ID }) {
			g.addDisk(Disk{Path: g.names.get(file.path), Mapping: l.mapping.ID})
		}
	}
}

// first notes the use of a disk that findings go by.
func (g *guestLife) first(d *Disk, r *resolver) {
	if len(d.Uses) == 0 || (d.Announced || d.FromHeader) && !d.Needs {
		return
	}
	rt := r.route(g.names.add(clean(d.Path)))
	u := firstUse{guest: g, disk: d, use: &d.Uses[0], route: rt}
	u.life, u.way = rt.choose(u.use, r.h)
	u.state, u.certain = stateAbsent, true
	if u.life != nil {
		u.state, u.certain = u.life.stateAt(u.stamp())
	}
	g.firsts = append(g.firsts, u)
}

// choose returns the mapping that a use was about, and its way in: the device
// that was opened, or the one that the path would have led to.
func (rt *route) choose(u *Use, h *history) (*life, *access) {
	s := stamp{from: u.From, at: u.At}
	if u.Errno != 0 {
		way := rt.at(s, nil, true)
		if way != nil {
			return way.life, way
		}
		return rt.lifeAt(s), nil
	}
	if u.Dev == nil {
		if u.Type != "" && u.Type != "block" {
			return rt.mounted(s)
		}
		return rt.lifeAt(s), rt.at(s, rt.lifeAt(s), false)
	}
	l := h.lifeByDev(*u.Dev, s)
	if l == nil {
		return nil, nil
	}
	if way := rt.at(s, l, false); way != nil {
		return l, way
	}
	// A link of somebody else's making, outside /dev as a rule.
	var node route
	node.add(l, span{l.start, l.end})
	return l, node.at(s, l, false)
}

// mounted returns the file system that a file's path led to at s.
func (rt *route) mounted(s stamp) (*life, *access) {
	for _, l := range slices.Backward(rt.lives) {
		if l.kind == KindMount && l.exists(s) {
			return l, rt.at(s, l, false)
		}
	}
	return nil, nil
}

// measure fills in what a use led to and the margin.
func (rt *route) measure(u *Use, h *history) {
	l, way := rt.choose(u, h)
	if l != nil {
		u.Mapping = l.mapping.ID
	}
	if way != nil {
		u.Ready = way.ready.pointer()
		u.Margin = margin(stamp{from: u.From, at: u.At}, way.ready, u.nothingThere())
		if u.Errno != 0 && !u.Margin.Negative() {
			u.Margin = nil // an open that failed had nothing to spare
		}
	}
}

// nothingThere reports whether the open proves that there was nothing to open: it
// failed so, or the device had no size.
func (u *Use) nothingThere() bool {
	return u.Errno == 0 && u.Dev != nil && u.Size == 0 || u.Errno == int(unix.ENOENT) || u.Errno == int(unix.ENXIO) || u.Errno == int(unix.ENODEV)
}

// margin measures from the ends that make it smallest. A failed open is proof:
// where it overlaps the time in which the path became ready, it came first.
func margin(open, ready stamp, failed bool) *Margin {
	if failed && ready.at > open.from {
		low := open.from.Sub(ready.at)
		high := min(open.at.Sub(max(ready.from, open.from)), -1)
		return &Margin{NS: low, Width: max(high-low, 0)}
	}
	m := &Margin{NS: open.from.Sub(ready.at)}
	if ready.orBefore && ready.from < open.from {
		m.AtLeast = true
	} else {
		m.Width = open.at.Sub(ready.from) - m.NS
	}
	return m
}

func (l *life) nameAt(s stamp, names *symbols) string {
	name := l.name
	for _, n := range l.names {
		if n.start.from <= s.at {
			name = n.name
		}
	}
	return names.get(name)
}
