package timeline

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
)

// accounts works out why mappings were ready no sooner.
type accounts struct {
	disks map[event.Dev]*diskFact
	names *symbols
	h     *history
	queue *udevQueue
	on    *standing // nil until it is asked for
}

// Account step kinds that are none of a mapping's own.
const (
	// StepDisk is the first that was heard of a device beneath it.
	StepDisk = "disk"
	// StepPV is udev's end of handling a device beneath it, from which on LVM
	// can know it as a physical volume.
	StepPV = "pv"
	// StepUsable is the kernel's word of a device beneath it that made udev look
	// again, where udev had been through with it before and found no physical
	// volume: an array that got its last disk, a disk that got its medium.
	StepUsable = "usable"
	// StepWritten is when a device beneath it that was there and usable became a
	// physical volume: udev had been through with it before, and found none. It was
	// blank until somebody wrote to it (pvcreate, vgcreate).
	StepWritten = "written"
	// StepLayer is a mapping beneath it that became live: a thin pool and its
	// metadata, a leg of a RAID, a crypt mapping.
	StepLayer = "layer"
	// StepGroupDisk and StepGroupPV are the same as disk and pv, of a physical
	// volume that is not beneath the mapping: LVM's command ran right after that.
	// StepGroupUsable and StepGroupWritten are usable and written of such a one.
	StepGroupDisk    = "group-disk"
	StepGroupUsable  = "group-usable"
	StepGroupWritten = "group-written"
	StepGroupPV      = "group-pv"
)

// of accounts for the time from the boot to ready: what it stands on, then the
// mapping itself. ready ends the last step. A mapping that had been ready and was
// suspended is late by that suspension alone.
func (a *accounts) of(l *life, ready stamp) *Account {
	if s := l.suspensionUntil(ready); s != nil {
		step := a.last(l, ready)
		step.From = s.start.at
		return &Account{Steps: []AccountStep{step}}
	}
	steps := append(a.beneath(l, ready, nil, map[*life]bool{}), a.group(l)...)
	for _, s := range l.out.Steps {
		if s.At < ready.at && a.counts(l, &s) {
			steps = append(steps, AccountStep{Kind: s.Kind, Detail: s.Detail, To: s.At, Event: s.Event, By: s.By})
		}
	}
	slices.SortStableFunc(steps, func(x, y AccountStep) int { return cmp.Compare(x.To, y.To) })
	if last := a.last(l, ready); !ready.orBefore {
		steps = append(steps, last)
	}
	if len(steps) == 0 {
		return nil
	}
	out := &Account{Steps: steps}
	now := event.Time(0)
	for i := range steps {
		s := &steps[i]
		s.From, now = now, s.To
		w := a.queue.wait(s.Event)
		s.Queued, s.Behind = w.held, w.behind
		if s.To-s.From > steps[out.Longest].To-steps[out.Longest].From {
			out.Longest = i
		}
	}
	return out
}

// since has an account begin at t, when the same mapping was last ready.
func (a *Account) since(t event.Time) {
	rest := slices.DeleteFunc(slices.Clone(a.Steps), func(s AccountStep) bool { return s.To <= t })
	if len(rest) == 0 {
		return
	}
	rest[0].From, rest[0].Again = max(rest[0].From, t), true
	a.Steps, a.Longest = rest, 0
	for i := range rest {
		if rest[i].To-rest[i].From > rest[a.Longest].To-rest[a.Longest].From {
			a.Longest = i
		}
	}
}

// suspensionUntil returns the suspension of a ready mapping that ended at that
// instant, nil if there is none.
func (l *life) suspensionUntil(ready stamp) *span {
	first := len(l.ready) > 0 && l.ready[0].start == ready
	for i := range l.suspensions {
		if s := &l.suspensions[i]; !first && s.end != nil && s.end.id == ready.id && s.end.at == ready.at {
			return s
		}
	}
	return nil
}

func (a *accounts) counts(l *life, s *Step) bool {
	if s.OrBefore {
		return false
	}
	switch s.Kind {
	case StepCreated, StepLoaded, StepLive:
		return true
	case StepUevent:
		return s.Detail == "change" && l.live != nil && s.At >= l.live.from
	}
	return false
}

// last names the step that made it ready.
func (a *accounts) last(l *life, ready stamp) AccountStep {
	out := AccountStep{Kind: StepReady, To: ready.at, Event: ready.id}
	for _, s := range l.out.Steps {
		if s.Event == ready.id && s.At == ready.at && s.Kind != StepReady {
			out.Kind, out.Detail, out.By = s.Kind, s.Detail, s.By
			break
		}
	}
	return out
}

// followed is how soon after udev knew a physical volume a command ran that
// waited for it: LVM's rule of udev starts it when a group is complete.
const followed = 2 * time.Second

// group adds the steps of a physical volume that the mapping does not stand on,
// if it was the last that the command waited for: an event activates a group
// only when all of its disks are there. A group of which something was there
// before waited for nothing, nor did it for a disk on which only other groups'
// volumes stand. Of one on which nothing stands the time alone speaks.
func (a *accounts) group(l *life) []AccountStep {
	if l.mapping.VG == "" || l.out.Created == nil || l.out.Created.OrBefore || len(tableDevices(l.out.Table)) == 0 {
		return nil // of what stands on nothing that is known, every disk may be its own
	}
	created := stamp{from: l.out.Created.From, at: l.out.Created.From, id: l.out.Created.Event}
	since := created.at - event.Time(followed)
	own := a.below(l, map[*life]bool{})
	on := a.standing()
	var last *disk
	for dev, fact := range a.disks {
		d := fact.at(created)
		if d == nil || d.pv == nil || d.pv.orBefore || d.pv.at < since || on.since[l.mapping.VG] < d.pv.at {
			continue
		}
		if own[dev] {
			return nil // its own disk came right before
		}
		groups := on.groups[dev]
		if (len(groups) == 0 || groups[l.mapping.VG]) && (last == nil || d.pv.compare(last.pv) > 0) {
			last = d
		}
	}
	if last == nil {
		return nil
	}
	steps := a.diskSteps(last, created)
	for i := range steps {
		steps[i].Kind = map[string]string{StepDisk: StepGroupDisk, StepUsable: StepGroupUsable, StepWritten: StepGroupWritten, StepPV: StepGroupPV}[steps[i].Kind]
	}
	return steps
}

// standing is what stands on which disks.
type standing struct {
	groups map[event.Dev]map[string]bool // the volume groups whose mappings stand on it
	since  map[string]event.Time         // since when a group has a mapping
}

func (a *accounts) standing() *standing {
	if a.on != nil {
		return a.on
	}
	a.on = &standing{groups: map[event.Dev]map[string]bool{}, since: map[string]event.Time{}}
	for _, l := range a.h.lives {
		vg := l.mapping.VG
		if vg == "" {
			continue
		}
		if t, ok := a.on.since[vg]; !ok || l.start.at < t {
			a.on.since[vg] = l.start.at
		}
		for _, dev := range tableDevices(l.out.Table) {
			if a.on.groups[dev] == nil {
				a.on.groups[dev] = map[string]bool{}
			}
			a.on.groups[dev][vg] = true
		}
	}
	return a.on
}

// below returns all devices that a life stands on, at any depth.
func (a *accounts) below(l *life, seen map[*life]bool) map[event.Dev]bool {
	out := map[event.Dev]bool{}
	if seen[l] {
		return out
	}
	seen[l] = true
	for _, dev := range tableDevices(l.out.Table) {
		out[dev] = true
		for _, under := range a.h.numbered[dev] {
			if under.out.Dev == dev {
				maps.Copy(out, a.below(under, seen))
			}
		}
	}
	return out
}

// beneath adds the steps of what a life stands on, down to a disk: at each
// level the device that was there last, for nothing had to wait for the others.
// What came to a layer after it was live, such as a second path to a multipath
// map, nothing had to wait for either.
func (a *accounts) beneath(l *life, ready stamp, steps []AccountStep, seen map[*life]bool) []AccountStep {
	if seen[l] {
		return steps // a table cannot lead to itself, a broken log can
	}
	seen[l] = true
	var last *disk
	var layer *life
	latest := event.Time(-1)
	for _, dev := range slices.Concat(tableDevices(l.out.Table), l.under) {
		if d := a.disks[dev].at(ready); d != nil && d.there() > latest {
			last, layer, latest = d, nil, d.there()
		}
		under := a.h.lifeByDev(dev, ready)
		if under != nil && under.kind == blockdev.Mapping && under.live != nil && under.live.at > latest && under.live.at <= ready.at {
			last, layer, latest = nil, under, under.live.at
		}
	}
	switch {
	case last != nil:
		return append(steps, a.diskSteps(last, ready)...)
	case layer != nil:
		return a.beneath(layer, *layer.live, append(steps, a.layerSteps(layer, ready)...), seen)
	}
	return steps
}

func (a *accounts) diskSteps(d *disk, ready stamp) []AccountStep {
	name := "/dev/" + a.names.get(d.name)
	var out []AccountStep
	if !d.first.orBefore {
		out = append(out, AccountStep{Kind: StepDisk, Detail: name, To: d.first.at, Event: d.first.id})
	}
	if kind, s := d.became(); s != nil {
		out = append(out, AccountStep{Kind: kind, Detail: name, To: s.at, Event: s.id})
	}
	if s := d.known(); s != nil && s.at <= ready.at {
		out = append(out, AccountStep{Kind: StepPV, Detail: name, To: s.at, Event: s.id})
	}
	return out
}

func (a *accounts) layerSteps(l *life, ready stamp) []AccountStep {
	var out []AccountStep
	name := a.names.get(l.name)
	if !l.live.orBefore {
		step := AccountStep{Kind: StepLayer, Detail: name, To: l.live.at, Event: l.live.id}
		for i := range l.out.Steps {
			if s := &l.out.Steps[i]; s.Kind == StepLive && s.Event == l.live.id {
				step.By = s.By
			}
		}
		out = append(out, step)
	}
	if u := l.out.Udev; u != nil && !u.OrBefore && !l.out.Private && u.At <= ready.at {
		out = append(out, AccountStep{Kind: StepPV, Detail: "/dev/mapper/" + name, To: u.At, Event: u.Event})
	}
	return out
}

// diskFact is all that was heard of one device number that is no mapping's.
type diskFact struct{ events []diskEvent }

// diskEvent is one thing that was heard of a device.
type diskEvent struct {
	stamp
	name    sym
	done    bool // udev has finished with it
	pv      bool // and knows it as a physical volume
	removed bool
	// found is set where a snapshot saw that udev had finished with it, usable says
	// whether something was behind it; a medium can be changed, so that is not known.
	found  bool
	usable blockdev.Usable
}

// disk is a device as it was at some time: when it was first seen since it last
// went, when udev had first finished with it, and when it first knew it as a
// physical volume; nil if never.
type disk struct {
	name            sym
	first, done, pv *stamp
	// told is when the kernel last told of it before pv, blank when udev had last
	// been through with it before pv, and empty whether nothing was behind it then.
	told, blank *stamp
	empty       bool
}

// at returns the device as it was at ready, nil if it was not there. A disk that
// was pulled and plugged in again counts from then on.
func (f *diskFact) at(ready stamp) *disk {
	if f == nil {
		return nil
	}
	d := &disk{}
	for i := range f.events {
		e := &f.events[i]
		switch {
		case e.stamp.at > ready.at:
		case e.removed && !e.done:
			d = &disk{}
		case e.removed:
		default:
			d.see(e)
		}
	}
	if d.first == nil {
		return nil
	}
	return d
}

func (d *disk) see(e *diskEvent) {
	if d.first == nil {
		d.first, d.name = &e.stamp, e.name
	}
	if e.done && d.done == nil {
		d.done = &e.stamp
	}
	if !e.done && d.pv == nil && !e.orBefore {
		d.told = &e.stamp
	}
	if (e.done || e.found) && !e.pv && d.pv == nil {
		d.blank, d.empty = &e.stamp, e.usable != blockdev.InUse
	}
	if e.done && e.pv && d.pv == nil {
		d.pv = &e.stamp
	}
}

// became returns how and when the device became a physical volume that udev had
// been through with before, nil if it was one when udev first saw it.
func (d *disk) became() (kind string, at *stamp) {
	if d.pv == nil || d.blank == nil {
		return "", nil
	}
	began := stamp{from: d.pv.from, at: d.pv.from, id: d.pv.id} // of udev's work
	at = &began
	if d.told != nil && d.told.from > d.blank.at && d.told.at <= d.pv.at {
		at = d.told
	}
	switch {
	case at.from <= d.blank.at:
		return "", nil
	case d.empty:
		return StepUsable, at
	}
	return StepWritten, at
}

// known is when LVM could know the device.
func (d *disk) known() *stamp {
	if d.pv != nil {
		return d.pv
	}
	return d.done
}

// there is when that was, or when the device was first seen.
func (d *disk) there() event.Time {
	if s := d.known(); s != nil {
		return s.at
	}
	return d.first.at
}

// sortDisks puts what was heard in order.
func (b *Builder) sortDisks() {
	for _, f := range b.disks {
		slices.SortFunc(f.events, func(x, y diskEvent) int { return x.compare(&y.stamp) })
	}
}

// tableDevices returns the devices that a table stands on. Every kind of target
// names them as major:minor. Such a thing can also be a number of its own, but
// then no device of that number is beneath.
func tableDevices(table []string) []event.Dev {
	var out []event.Dev
	for _, line := range table {
		fields := strings.Fields(line)
		for _, field := range fields[min(3, len(fields)):] {
			major, minor, ok := strings.Cut(field, ":")
			if !ok {
				continue
			}
			ma, err1 := strconv.ParseUint(major, 10, 32)
			mi, err2 := strconv.ParseUint(minor, 10, 32)
			if err1 == nil && err2 == nil {
				out = append(out, event.Dev{Major: uint32(ma), Minor: uint32(mi)})
			}
		}
	}
	return out
}
