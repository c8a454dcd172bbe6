package timeline

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/memory"
)

// Findings about what a guest last ran on. Which change is one, and which is
// what operators do all the time, package memory decides.
const (
	// Substituted says that the same guest's disk led to another mapping than
	// in the last boot that ran it.
	Substituted = "substituted"
	// Shrunk says that the device is smaller than what the guest last ran on.
	Shrunk = "shrunk"
	// Vanished says that a mapping that the guest last ran on did not exist,
	// and that it ran on something else.
	Vanished = "vanished"
)

type changed struct{}

func (changed) find(r *record, report func(*Finding)) {
	c := newCensus(r.h)
	for _, g := range r.guests {
		if g.memory == nil {
			continue
		}
		disks := r.ranOn(g)
		now := make([]event.MemoryDisk, len(disks))
		for i := range disks {
			now[i] = disks[i].as
		}
		for _, change := range memory.Compare(&g.memory.info, now, c.existed(g)) {
			if f := r.change(c, g, &disks[change.Now], &change); f != nil {
				report(f)
			}
		}
	}
}

// ranOn is a disk that a guest opened with success, and what it led to.
type ranOn struct {
	disk *Disk
	use  *Use
	life *life // nil where it is no mapping
	as   event.MemoryDisk
}

// ranOn lists what a guest ran on, as it would be remembered. Removable media
// and files outside of /dev are none of its disks.
func (r *record) ranOn(g *guestLife) []ranOn {
	var list []ranOn
	for i := range g.out.Disks {
		d := &g.out.Disks[i]
		n := slices.IndexFunc(d.Uses, func(u Use) bool { return u.Errno == 0 })
		if n < 0 || removable(d) {
			continue
		}
		one := ranOn{disk: d, use: &d.Uses[n]}
		if one.use.Dev == nil && !inDev(d.Path) {
			continue
		}
		one.as = event.MemoryDisk{Path: d.Path, ID: d.ID, DeviceID: d.DeviceID, Serial: d.Serial, BackingOf: d.BackingOf}
		if one.use.Size > 0 {
			one.as.Size = one.use.Size
		}
		if dev := one.use.Dev; dev != nil {
			l := r.h.lifeByDev(*dev, one.stamp())
			switch {
			case l != nil:
				one.life = l
				r.h.remember(l, one.stamp(), &one.as)
			case r.h.isMapping(*dev):
				continue // one that the record does not know
			}
		}
		list = append(list, one)
	}
	return list
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

// remember describes a mapping as it was at s.
func (h *history) remember(l *life, s stamp, as *event.MemoryDisk) {
	as.Name, as.UUID = l.nameAt(s, h.names), h.names.get(l.uuid)
	if as.Size == 0 {
		as.Size = l.out.Size
	}
	as.Table = memory.NamedTable(l.out.Table, func(dev event.Dev) string {
		if under := h.lifeByDev(dev, s); under != nil && under.kind == blockdev.Mapping {
			return under.nameAt(s, h.names)
		}
		return ""
	})
}

// existed reports whether a mapping that g last ran on exists when g runs.
func (c *census) existed(g *guestLife) func(*event.MemoryDisk) bool {
	at := stamp{from: g.fact.from, at: g.fact.at}
	for i := range g.firsts {
		at.at = max(at.at, g.firsts[i].use.At)
	}
	return func(d *event.MemoryDisk) bool {
		return slices.ContainsFunc(c.known(d), func(l *life) bool { return l.exists(at) && c.named(l, at, d) })
	}
}

// census finds mappings by what is remembered of them. A group that did not come
// is a question for each of its volumes.
type census struct {
	h     *history
	lives map[string][]*life // by memory.Key of each name
}

func newCensus(h *history) *census {
	c := &census{h, map[string][]*life{}}
	for _, l := range h.lives {
		uuid := h.names.get(l.uuid)
		if uuid != "" {
			c.lives[memory.Key(uuid, "")] = append(c.lives[memory.Key(uuid, "")], l)
			continue
		}
		for _, n := range l.names {
			key := memory.Key("", h.names.get(n.name))
			c.lives[key] = append(c.lives[key], l)
		}
	}
	return c
}

// known returns the mappings that bore what is remembered at some time.
func (c *census) known(d *event.MemoryDisk) []*life { return c.lives[memory.Key(d.UUID, d.Name)] }

// named reports whether l bore the remembered name then, where that is all that
// tells it.
func (c *census) named(l *life, at stamp, d *event.MemoryDisk) bool {
	return d.UUID != "" || l.nameAt(at, c.h.names) == d.Name
}

// change makes a finding of a change, nil where another finding says it.
func (r *record) change(known *census, g *guestLife, o *ranOn, c *memory.Change) *Finding {
	if c.Kind != memory.Vanished && o.use.Dev == nil {
		return nil // not-a-device says so
	}
	last := &Last{
		BootID: g.memory.info.Boot, Path: c.Last.Path, Name: c.Last.Name, UUID: c.Last.UUID,
		Size: c.Last.Size, Table: c.Last.Table,
	}
	f := &Finding{
		Kind:  string(c.Kind),
		Guest: g.called(), GuestID: g.out.ID, Disk: o.disk.Path, BackingOf: o.disk.BackingOf,
		At: o.use.At, Size: o.as.Size, Last: last, Reason: c.Why, Exit: g.out.Exit,
		Evidence: []uint64{g.out.Exec.Event, o.use.Event, g.memory.id},
	}
	if o.life != nil {
		f.Mapping, f.MappingName = o.life.mapping.ID, o.as.Name
		f.State, _ = o.life.stateAt(o.stamp())
		f.Evidence = append(f.Evidence, o.life.start.id)
	}
	if c.Kind == memory.Vanished {
		last.Came = known.came(&c.Last, o.use.At)
		if last.Came != nil {
			f.Evidence = append(f.Evidence, last.Came.Event)
		}
		f.Withheld = r.unseen(o.use)
	}
	slices.Sort(f.Evidence)
	f.Evidence = slices.DeleteFunc(slices.Compact(f.Evidence), func(id uint64) bool { return id == 0 })
	return f
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
