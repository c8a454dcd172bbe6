package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/memory"
)

// Findings about what a guest last ran on. Which change is one, and which is
// what operators do all the time, package memory decides.
const (
	// Substituted says that the same guest's disk led to another device or file
	// than it should run on: what it ran on in earlier boots, or what an operator
	// has accepted since.
	Substituted = "substituted"
	// Shrunk says that the device is smaller than what the guest last ran on.
	Shrunk = "shrunk"
	// Vanished says that what the guest last ran on did not exist, and that it ran
	// on something else.
	Vanished = "vanished"
)

// CauseAnotherDevice means that the path led to something else than in earlier boots.
const CauseAnotherDevice = "another-device"

// CauseShorterDevice means that the device was smaller than in earlier boots.
const CauseShorterDevice = "shorter-device"

type changed struct{}

func (changed) find(r *record, report func(*Finding)) {
	for _, g := range r.guests {
		if g.memory == nil {
			continue
		}
		disks := r.ranOn(g)
		now := make([]event.MemoryDisk, len(disks))
		for i := range disks {
			now[i] = disks[i].as
		}
		told := map[int]bool{}
		for _, change := range memory.Compare(&g.memory.info, now, r.census.existed(g)) {
			if f := r.change(g, &disks[change.Now], &change); f != nil {
				told[change.Now] = true
				report(f)
			}
		}
		for i := range disks {
			if f := r.belowMount(g, &disks[i]); f != nil && !told[i] {
				report(f)
			}
		}
	}
}

func (changed) kinds() []findingKind {
	return []findingKind{
		{name: Substituted, outcome: failed, cause: always(anotherDevice), order: -1},
		{name: Shrunk, outcome: failed, cause: always(shorterDevice)},
		{name: Vanished, outcome: failed, cause: always(anotherDevice), order: -2},
	}
}

var (
	anotherDevice = newCause(causeKind{name: CauseAnotherDevice, cures: (*Cause).otherRemedies})
	shorterDevice = newCause(causeKind{
		name:  CauseShorterDevice,
		look:  func(_ *record, _ *Finding, c *Cause) { c.Shorter = true },
		cures: (*Cause).otherRemedies,
	})
)

// otherRemedies go by what the guest last ran on: LVM brings its volumes back,
// nobody brings back what was made with dmsetup. The last is for who knows that
// the new disk is right.
func (c *Cause) otherRemedies() []string {
	var out []string
	_, lvm := devmap.ParseLVMUUID(lastUUID(c.Last))
	device := c.Last != nil && c.Last.Kind != ""
	switch {
	case device && c.Kind == CauseShorterDevice:
		out = []string{CureGrow}
	case device && c.Last.Kind == memory.KindFile:
		out = []string{CureMount, CureNoFallback}
	case device:
		out = []string{CureFindDisk, CureNoFallback}
	case !lvm:
		out = []string{CureRecreate, CureNoFallback}
	case c.Kind == CauseShorterDevice:
		out = []string{CureExtend}
	case c.Last.Came != nil:
		out = append(c.holdRemedies(), CureNoFallback)
	default:
		out = []string{CureNoFallback}
	}
	return append(out, CureAccept)
}

func lastUUID(l *Last) string {
	if l == nil {
		return ""
	}
	return l.UUID
}

// uncompared says which disks of g are not known to be those that it should run
// on, a reason each, but for those of which a cause in v speaks.
func (r *record) uncompared(g *guestLife, v *Verdict) []string {
	if g.memory == nil {
		return nil
	}
	disks := r.ranOn(g)
	now := make([]event.MemoryDisk, len(disks))
	for i := range disks {
		now[i] = disks[i].as
	}
	var whys []string
	for _, u := range memory.Uncompared(&g.memory.info, now) {
		told := slices.ContainsFunc(v.Causes, func(c *Cause) bool {
			return (c.Kind == CauseAnotherDevice || c.Kind == CauseShorterDevice) && slices.Contains(c.Disks, disks[u.Now].disk.Path)
		})
		if told {
			continue
		}
		whys = append(whys, fmt.Sprintf("whether %s is the disk that it ran on before is not known: %s", disks[u.Now].disk.Path, u.Why))
	}
	return whys
}

// belowMount makes a finding of a file that was opened in the folder below a mount
// that was not there: it has the image's name, and is another file.
func (r *record) belowMount(g *guestLife, o *ranOn) *Finding {
	i := slices.IndexFunc(g.memory.info.Disks, func(d event.MemoryDisk) bool {
		return d.DeviceKind == memory.KindFile && clean(d.Path) == clean(o.disk.Path) && d.Mount != "" && d.Mount != "/"
	})
	if o.as.DeviceKind != memory.KindFile || i < 0 || r.mountsFrom == nil {
		return nil
	}
	last := &g.memory.info.Disks[i]
	if r.ways.mounts.existing(last.Mount, o.stamp()) != nil {
		return nil
	}
	c := memory.Change{Kind: memory.Substituted, Last: *last, Why: memory.BelowMount}
	f := r.change(g, o, &c)
	for _, l := range r.ways.mounts.at[last.Mount] {
		if l.start.from > o.use.At {
			f.Last.Came = l.start.pointer()
			f.Evidence = proof(append(f.Evidence, l.start.id))
			break
		}
		f.after(l.over(o.stamp()))
	}
	switch {
	case o.use.From < *r.mountsFrom:
		f.Withheld = "mounts were not recorded yet"
	case r.mountsUnread != "":
		f.Withheld = r.mountsUnread
	}
	return f
}

// ranOn is a disk that a guest opened with success, and what it led to.
type ranOn struct {
	disk *Disk
	use  *Use
	life *life // nil where it is no mapping
	as   event.MemoryDisk
}

// ranOn lists what a guest ran on, as it would be remembered. Removable media
// are none of its disks.
func (r *record) ranOn(g *guestLife) []ranOn {
	var list []ranOn
	for i := range g.out.Disks {
		d := &g.out.Disks[i]
		n := slices.IndexFunc(d.Uses, func(u Use) bool { return u.Errno == 0 })
		if n < 0 || removable(d) {
			continue
		}
		one := ranOn{disk: d, use: &d.Uses[n]}
		one.as = event.MemoryDisk{Path: d.Path, ID: d.ID, DeviceID: d.DeviceID, Serial: d.Serial, BackingOf: d.BackingOf}
		switch dev := one.use.Dev; {
		case dev != nil:
			one.as.Size, one.as.DeviceKind = max(one.use.Size, 0), string(blockdev.Other)
			if one.life = r.h.lifeByDev(*dev, one.stamp()); one.life != nil {
				r.h.remember(one.life, one.stamp(), &one.as)
			} else if r.h.isMapping(*dev) {
				continue // one that the record does not know
			}
			if blockdev.Kind(one.as.DeviceKind).Removable() {
				continue
			}
		case inDev(d.Path):
			one.as.Size = max(one.use.Size, 0) // not-a-device says so
		case one.use.Type == "file":
			r.file(&one)
		default:
			continue
		}
		list = append(list, one)
	}
	return list
}

// file describes a file as it was when it was opened.
func (r *record) file(o *ranOn) {
	o.as.DeviceKind = memory.KindFile
	if o.disk.Format == memory.FormatRaw {
		o.as.Size = max(o.use.Size, 0)
	}
	at := clean(o.disk.Path)
	if f := r.looked(o); f != nil {
		at = r.h.names.get(f.node)
	}
	if l := r.ways.mounts.holding(at, o.stamp()); l != nil {
		o.life = l
		o.as.UUID, o.as.Mount = l.filesystem, r.h.names.get(l.name)
	}
}

// looked returns the look at a file's path that was nearest to its use, nil if
// there is none.
func (r *record) looked(o *ranOn) *wayFact {
	var found *wayFact
	for _, f := range r.ways.seen[r.h.names.of[clean(o.disk.Path)]] {
		if f.errno == 0 && f.file && (found == nil || f.from <= o.use.At) {
			found = f
		}
	}
	return found
}

// isMapping reports whether dev has device-mapper's number, which is another on
// each host.
func (h *history) isMapping(dev event.Dev) bool {
	return slices.ContainsFunc(h.lives, func(l *life) bool {
		return l.kind == blockdev.Mapping && l.hasDev && l.out.Dev.Major == dev.Major
	})
}

func removable(d *Disk) bool {
	return d.Kind == string(guest.KindCDROM) || d.Kind == string(guest.KindFloppy)
}

func inDev(path string) bool { return strings.HasPrefix(path, "/dev/") }

func (o *ranOn) stamp() stamp { return stamp{from: o.use.From, at: o.use.At, id: o.use.Event} }

// remember describes a device as it was at s.
func (h *history) remember(l *life, s stamp, as *event.MemoryDisk) {
	as.Name, as.UUID, as.DeviceKind = l.nameAt(s, h.names), h.names.get(l.uuid), string(l.kind)
	if as.Size == 0 {
		as.Size = l.out.Size
	}
	if l.kind != blockdev.Mapping {
		return
	}
	as.DeviceKind = "" // as a memory has it
	as.Table = memory.NamedTable(l.out.Table, func(dev event.Dev) string {
		if under := h.lifeByDev(dev, s); under != nil && under.kind == blockdev.Mapping {
			return under.nameAt(s, h.names)
		}
		return ""
	})
}

// existed reports whether a disk that g last ran on exists when g runs.
func (c *census) existed(g *guestLife) func(*event.MemoryDisk) bool {
	at := stamp{from: g.fact.from, at: g.fact.at}
	for i := range g.firsts {
		at.at = max(at.at, g.firsts[i].use.At)
	}
	return func(d *event.MemoryDisk) bool {
		return !c.told(d) || slices.ContainsFunc(c.known(d), func(l *life) bool { return l.exists(at) && c.named(l, at, d) })
	}
}

// census finds devices and file systems by what is remembered of them. A group
// that did not come is a question for each of its volumes.
type census struct {
	h     *history
	lives map[string][]*life // by memory.Key of each name
	// mounts are by what identifies the file system.
	mounts map[string][]*life
}

func newCensus(h *history) *census {
	c := &census{h, map[string][]*life{}, map[string][]*life{}}
	for _, l := range h.lives {
		d := event.MemoryDisk{UUID: h.names.get(l.uuid)}
		switch {
		case l.kind == KindMount:
			if l.filesystem != "" {
				c.mounts[l.filesystem] = append(c.mounts[l.filesystem], l)
			}
		case d.UUID != "":
			c.lives[memory.Key(&d)] = append(c.lives[memory.Key(&d)], l)
		case l.kind == blockdev.Mapping:
			for _, n := range l.names {
				d.Name = h.names.get(n.name)
				c.lives[memory.Key(&d)] = append(c.lives[memory.Key(&d)], l)
			}
		}
	}
	return c
}

// known returns what bore what is remembered at some time: of a file the mounts
// of its file system.
func (c *census) known(d *event.MemoryDisk) []*life {
	if d.DeviceKind == memory.KindFile {
		return c.mounts[d.UUID]
	}
	key := memory.Key(d)
	if key == "" {
		return nil
	}
	return c.lives[key]
}

// told reports whether the record would tell that what is remembered was there.
// The root file system is mounted before there is a record.
func (c *census) told(d *event.MemoryDisk) bool {
	return d.DeviceKind != memory.KindFile && memory.Key(d) != "" || d.Mount != "" && d.Mount != "/" && d.UUID != ""
}

// named reports whether l bore the remembered name then, where that is all that
// tells it.
func (c *census) named(l *life, at stamp, d *event.MemoryDisk) bool {
	return d.UUID != "" || l.nameAt(at, c.h.names) == d.Name
}

// change makes a finding of a change, nil where another finding says it.
func (r *record) change(g *guestLife, o *ranOn, c *memory.Change) *Finding {
	if c.Kind != memory.Vanished && o.use.Dev == nil && inDev(o.disk.Path) {
		return nil // not-a-device says so
	}
	last := lastOf(g, &c.Last)
	f := &Finding{
		Kind:  string(c.Kind),
		Guest: g.called(), GuestID: g.out.ID, Disk: o.disk.Path, BackingOf: o.disk.BackingOf,
		At: o.use.At, Size: o.as.Size, Device: deviceName(&o.as), Last: last, Reason: c.Why, Exit: g.out.Exit,
		Evidence: []uint64{g.out.Exec.Event, o.use.Event, g.memory.id},
	}
	if o.life != nil {
		f.Mapping, f.MappingName = o.life.mapping.ID, o.as.Name
		f.State, _ = o.life.stateAt(o.stamp())
		f.Evidence = append(f.Evidence, o.life.start.id)
	}
	if c.Kind == memory.Vanished {
		last.Came = r.census.came(&c.Last, o.use.At)
		if last.Came != nil {
			f.Evidence = append(f.Evidence, last.Came.Event)
		}
		f.Withheld = r.unseen(o.use)
		f.after(r.census.left(&c.Last, o.stamp()))
	}
	if by := r.acceptance(g, &o.as); by != nil {
		f.Accepted = by.pointer()
		f.Evidence = append(f.Evidence, by.id)
	}
	f.Evidence = proof(f.Evidence)
	return f
}

// acceptance returns when an operator said that this is what the guest should run
// on, nil if nobody did.
func (r *record) acceptance(g *guestLife, now *event.MemoryDisk) *memoryFact {
	for i := range r.accepted {
		f := &r.accepted[i]
		if f.info.Guest != identityOf(g.fact.guest) {
			continue
		}
		for j := range f.info.Disks {
			if d := &f.info.Disks[j]; memory.SameDisk(d, now) && (now.Size == 0 || now.Size >= d.Size) {
				return f
			}
		}
	}
	return nil
}

// came returns when a mapping was made that was not there at that time.
func (c *census) came(d *event.MemoryDisk, at event.Time) *Instant {
	for _, l := range c.known(d) {
		if l.start.from > at {
			return l.start.pointer()
		}
	}
	return nil
}

// left returns when what is remembered was last there before s, nil if it was not.
func (c *census) left(d *event.MemoryDisk, s stamp) *Earlier {
	var last *Earlier
	for _, l := range c.known(d) {
		if e := l.over(s); e != nil && (last == nil || e.To.At > last.To.At) {
			last = e
		}
	}
	return last
}

// over returns the time in which l was live, nil if it was not, or not over at s.
func (l *life) over(s stamp) *Earlier {
	if l.live == nil || l.end == nil || l.end.from > s.at {
		return nil
	}
	a := access{life: l, ready: *l.live, end: l.end}
	return a.over()
}

// unseen returns why a mapping could exist at a use without the record telling:
// something about mappings may have been missed since the last look at all of
// them.
func (r *record) unseen(u *Use) string {
	var since event.Time
	for _, s := range r.snapshots {
		if s <= u.At {
			since = max(since, s)
		}
	}
	return r.withheld([]string{whatDM}, since, u.At)
}

// snapshots returns the times at which what existed was looked at.
func (b *Builder) snapshots() []event.Time {
	var times []event.Time
	for i := range b.sources {
		if s := &b.sources[i]; s.info.Name == sourceSnapshot {
			times = append(times, s.at)
		}
	}
	return times
}

// called is the guest's name, else its identity, else its id: for people.
func (g *guestLife) called() string {
	return cmp.Or(g.out.Name, g.out.Identity, g.out.ID)
}
