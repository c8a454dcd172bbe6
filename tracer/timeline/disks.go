package timeline

import (
	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
)

// Block devices that are no mappings live from the kernel's announcement to its
// removal. Kinds that exist before there is something behind them, such as a
// loop device without a file, become usable later; where that ends and begins
// again, it is another device under the same name.

// other applies an event of a device that is no mapping.
func (d *devices) other(f *devFact) {
	action := d.names.get(f.action)
	if action == "remove" {
		d.gone(f)
		return
	}
	l := d.standing(f)
	if l == nil {
		return
	}
	switch f.kind {
	case event.Uevent:
		l.note(f, StepUevent, action)
	case event.Udev:
		l.note(f, StepUdev, action)
	}
	d.describe(l, f)
	if d.state(&l, f) && f.progress == blockdev.Finished {
		d.processed(l, f)
	}
}

// gone applies a removal. udev's event of it comes later, and takes the links
// away.
func (d *devices) gone(f *devFact) {
	for i := len(d.h.numbered[f.dev]) - 1; i >= 0; i-- {
		l := d.h.numbered[f.dev][i]
		if l.start.from > f.from || f.node != l.node || !l.left.take(f.kind) {
			continue
		}
		if f.kind == event.Udev {
			l.note(f, StepUdev, "remove")
			d.dropAll(l, f.stamp)
			return
		}
		l.note(f, StepUevent, "remove")
		if l.end == nil {
			d.h.finish(l, f.stamp)
			l.out.Steps = append(l.out.Steps, Step{Kind: StepRemoved, Instant: f.instant()})
		}
		return
	}
}

// standing returns the device that an event is about, a new one where none of
// that number and name is there, and nil where the event is about one that has
// gone since.
func (d *devices) standing(f *devFact) *life {
	all := d.h.numbered[f.dev]
	if n := len(all); n > 0 {
		last := all[n-1]
		switch {
		case last.end == nil && last.node == f.node:
			return last
		case last.end == nil: // its removal was not seen
			d.h.finish(last, stamp{from: last.touched, at: max(f.at, last.touched), orBefore: true})
			last.assumed = true
		case f.kind == event.Udev && f.from <= last.end.at && last.node == f.node:
			return last // udev's word about the one that has gone
		}
	}
	l := newLife(f.device, f.stamp)
	switch {
	case f.kind == event.Backfill:
		l.out.Backfilled = true
	case d.names.get(f.action) == "add" && !f.asked:
		l.out.Created = f.pointer()
		l.out.Steps = append(l.out.Steps, Step{Kind: StepCreated, Instant: f.instant()})
	default: // it was there before, and nobody had spoken of it
		l.start.orBefore = true
		l.out.Backfilled = true
	}
	d.h.lives = append(d.h.lives, l)
	d.h.number(l, f.dev, f.node)
	l.name = f.node
	l.names = []nameSpan{{f.node, span{start: l.start}}}
	l.enter(stateCreated, l.start)
	return l
}

// prove makes those devices live that were opened with a size and of which nothing
// told when something came to be behind them: no kernel announces that of zram.
func (w *ways) prove() {
	for _, opens := range w.opened {
		for _, f := range opens {
			if !f.hasDev || f.size <= 0 {
				continue
			}
			l := w.h.lifeByDev(f.dev, f.stamp)
			if l == nil || l.kind == blockdev.Mapping || l.live != nil && (!l.proved || l.live.at <= f.from) {
				continue
			}
			at := stamp{from: min(l.touched, f.from), at: f.from, id: f.id}
			for _, s := range w.hollow[f.dev] {
				if s.at <= f.from {
					at.from = max(at.from, s.at)
				}
			}
			l.live, l.proved = nil, true
			l.becomeLive(at)
			l.states = append(l.states[:1:1], stateChange{at, stateLive})
			l.udev = []stamp{at}
		}
	}
}

// describe fills in what an event tells about a device.
func (d *devices) describe(l *life, f *devFact) {
	l.touched = max(l.touched, f.at)
	if f.uuid != 0 && l.uuid == 0 {
		d.h.identify(l, f.uuid)
	}
	if f.size > 0 {
		l.out.Size = f.size
	}
	if f.under != nil {
		l.under = f.under
	}
}

// state applies whether something is behind the device, and reports whether
// there can be. Where that has ended, *l becomes the one that comes after.
func (d *devices) state(l **life, f *devFact) bool {
	switch was := *l; {
	case f.usable == blockdev.InUse && was.live == nil:
		s := f.done()
		if was.start.id == f.id {
			s = was.start
		}
		was.becomeLive(s)
		was.enter(stateLive, s)
		was.out.Steps = append(was.out.Steps, Step{Kind: StepLive, Instant: s.instant()})
	case f.usable == blockdev.Empty && was.live != nil && f.kind != event.Udev:
		d.dropAll(was, f.stamp)
		d.h.finish(was, f.stamp)
		*l = d.standing(f)
		d.describe(*l, f)
		return false
	}
	return f.usable != blockdev.Empty
}
