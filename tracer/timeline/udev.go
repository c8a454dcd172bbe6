package timeline

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
)

// privacy is what udev's events say about whose the device is.
type privacy struct{ asked, refused bool }

func (p privacy) private() bool { return p.refused && !p.asked }

// pathSpan is the time in which a path led to a life; nil where it led to
// something else.
type pathSpan struct {
	span
	life *life
}

// devices attaches uevents, udev's events and links to the lives.
type devices struct {
	h     *history
	names *symbols
	paths map[sym][]pathSpan
}

func newDevices(h *history) *devices {
	return &devices{h: h, names: h.names, paths: map[sym][]pathSpan{}}
}

// apply takes udev's facts and links together, in the order of their time.
func (d *devices) apply(devs []*devFact, links []*linkFact) {
	for len(devs) > 0 || len(links) > 0 {
		if len(devs) == 0 || len(links) > 0 && links[0].compare(&devs[0].stamp) < 0 {
			d.link(links[0])
			links = links[1:]
		} else {
			d.device(devs[0])
			devs = devs[1:]
		}
	}
	for _, l := range d.h.lives {
		if l.end != nil {
			d.dropAll(l, *l.end)
		}
	}
}

func (d *devices) device(f *devFact) {
	if f.device != blockdev.Mapping {
		d.other(f)
		return
	}
	l := d.lifeOf(f)
	if l == nil {
		return
	}
	action := d.names.get(f.action)
	switch {
	case f.kind == event.Uevent:
		l.note(f, StepUevent, action)
		if action == "remove" && l.end == nil {
			d.h.finish(l, f.stamp)
		}
	case action == "remove":
		l.note(f, StepUdev, action)
		d.dropAll(l, f.stamp)
	default:
		if f.kind == event.Udev {
			l.note(f, StepUdev, action)
		}
		d.processed(l, f)
	}
}

// processed applies an event that udev has finished with, or its record in the
// database.
func (d *devices) processed(l *life, f *devFact) {
	done := f.done()
	switch f.progress {
	case blockdev.Private:
		l.private.refused = true
	case blockdev.Finished:
		l.private.asked = true
		l.udev = append(l.udev, done)
	}
	for _, link := range f.links {
		d.lead(link, l, done)
	}
	for _, link := range l.links {
		if !slices.Contains(f.links, link) {
			d.drop(link, l, done)
		}
	}
	l.links = f.links
}

// done is when udev has finished: after the kernel's announcement, which may
// have come before its reader woke up for it.
func (f *devFact) done() stamp {
	s := f.stamp
	if f.since != 0 {
		s.from = min(s.from, f.since)
	}
	return s
}

func (l *life) note(f *devFact, kind, detail string) {
	l.out.Steps = append(l.out.Steps, Step{Kind: kind, Instant: f.instant(), Detail: detail})
}

// straggler is how long after a removal its uevent can still be under way.
const straggler = 10 * time.Second

// lifeOf finds the mapping that an event is about: by the uuid that it
// carries, and by the number when the kernel announced it. Its reader may have
// been busy with earlier ones since before the mapping was made.
func (d *devices) lifeOf(f *devFact) *life {
	if d.names.get(f.action) == "remove" {
		return d.leaving(f)
	}
	when := stamp{from: f.from, at: f.from}
	if f.orBefore {
		when = f.stamp // a record of udev's database holds for the time it was read
		when.from = when.at
	}
	for _, l := range slices.Backward(d.h.numbered[f.dev]) {
		if f.about(l) && l.exists(when) {
			return l
		}
	}
	for _, l := range d.h.numbered[f.dev] {
		if f.about(l) && l.start.from > when.at && l.start.from <= f.at {
			return l
		}
	}
	return nil
}

// leaving finds the mapping that a remove event is about: it comes after the
// removal, and the next mapping can have the number already. Each life has one
// of each kind.
func (d *devices) leaving(f *devFact) *life {
	for _, l := range d.h.numbered[f.dev] {
		gone := l.end != nil && f.from.Sub(l.end.at) > straggler
		if gone || !f.about(l) || l.start.from > f.from || !l.left.take(f.kind) {
			continue
		}
		return l
	}
	return nil
}

// departure notes which remove events of a life were seen.
type departure struct{ kernel, udev bool }

// take claims the one of a kind, and reports whether it was still due.
func (d *departure) take(k event.Kind) bool {
	seen := &d.kernel
	if k == event.Udev {
		seen = &d.udev
	}
	due := !*seen
	*seen = true
	return due
}

// about reports whether the uuid of an event, if it has one, is that of l.
func (f *devFact) about(l *life) bool {
	return f.uuid == 0 || l.uuid == 0 || f.uuid == l.uuid
}

func (d *devices) link(f *linkFact) {
	l := d.h.lifeByNode(nodeOf(d.names.get(f.target)), f.stamp)
	if d.lead(f.path, l, f.stamp) && l != nil {
		l.out.Steps = append(l.out.Steps, Step{Kind: StepLink, Instant: f.instant(), Detail: d.names.get(f.path)})
	}
}

// nodeOf returns the kernel name of the device whose own node a path is, empty
// if it is none.
func nodeOf(p string) string {
	m, _ := blockdev.MeaningOf(p)
	return m.Node
}

// lifeByDev returns the last device that can have had a number at s.
func (h *history) lifeByDev(dev event.Dev, s stamp) *life { return lastExisting(h.numbered[dev], s) }

// lifeByNode is the same by the kernel name.
func (h *history) lifeByNode(node string, s stamp) *life {
	if node == "" {
		return nil
	}
	return lastExisting(h.nodes[h.names.of[node]], s)
}

func lastExisting(all []*life, s stamp) *life {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].exists(s) {
			return all[i]
		}
	}
	return nil
}

// lead notes that a path leads to l from s on, unless it does already.
func (d *devices) lead(p sym, l *life, s stamp) bool {
	spans := d.paths[p]
	if n := len(spans); n > 0 && spans[n-1].end == nil {
		last := &spans[n-1]
		if last.life == l {
			return false
		}
		last.end = &s
	}
	d.paths[p] = append(spans, pathSpan{span{start: s}, l})
	if l != nil {
		l.led = append(l.led, p)
	}
	return true
}

func (d *devices) drop(p sym, l *life, s stamp) {
	spans := d.paths[p]
	if n := len(spans); n > 0 && spans[n-1].life == l && spans[n-1].end == nil {
		spans[n-1].end = &s
	}
}

func (d *devices) dropAll(l *life, s stamp) {
	for _, link := range l.led {
		d.drop(link, l, s)
	}
}

// temporary matches the names under which udev makes a link before it renames
// it to the final one: NAME.tmp-b254:0 before systemd 251, .#NAME and sixteen
// hexadecimal digits from then on (src/udev/udev-node.c, src/basic/tmpfile-util.c).
var temporary = regexp.MustCompile(`^(?:\.#(.+)[0-9a-f]{16}|(.+)\.tmp-[bc]\d+:\d+)$`)

// linkPath returns the path that a link will have once udev is through.
func linkPath(p string) string {
	dir, base := path.Split(p)
	if !strings.HasPrefix(base, ".#") && !strings.Contains(base, ".tmp-") {
		return p
	}
	if m := temporary.FindStringSubmatch(base); m != nil {
		return dir + m[1] + m[2]
	}
	return p
}

// linkTarget makes a link's target absolute.
func linkTarget(link, target string) string {
	if path.IsAbs(target) {
		return path.Clean(target)
	}
	return path.Join(path.Dir(link), target)
}
