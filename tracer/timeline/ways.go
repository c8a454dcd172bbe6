package timeline

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// Where a path leads that udev does not make is seen in three ways: bootrace
// looked at it when a guest had named it; an open of it succeeded, on a device;
// or the guest is remembered to have run on a device by that path. What is seen
// later explains what failed earlier, unless the record says otherwise.

// wayFact is a look at where a guest's path led.
type wayFact struct {
	stamp
	path, node sym
	links      bool
	errno      int32
	file       bool
	mount      sym
}

func (b *Builder) addWay(e *event.Event) {
	w := e.Way
	if w == nil {
		return
	}
	b.ways.add(wayFact{
		stamp: stampOf(e), path: b.names.add(clean(w.Path)), node: b.names.add(clean(w.Node)),
		links: len(w.Links) > 0, errno: int32(w.Errno), file: w.Type == "file", mount: b.names.add(w.Mount),
	})
}

// ways is what is known about the ways of paths, beside udev's links.
type ways struct {
	h      *history
	mounts *mounts
	seen   map[sym][]*wayFact
	opened map[sym][]*openFact   // the first success on each device, or file
	vain   map[sym][]stamp       // opens that found nothing
	hollow map[event.Dev][]stamp // opens of a device with no size
	last   map[sym][]*event.MemoryDisk
}

func (b *Builder) waysOf(h *history, m *mounts) *ways {
	w := &ways{
		h: h, mounts: m, seen: map[sym][]*wayFact{}, opened: map[sym][]*openFact{}, vain: map[sym][]stamp{},
		hollow: map[event.Dev][]stamp{},
		last:   map[sym][]*event.MemoryDisk{},
	}
	for _, f := range sorted(&b.ways, func(f *wayFact) *stamp { return &f.stamp }) {
		w.seen[f.path] = append(w.seen[f.path], f)
	}
	type pair struct {
		path sym
		dev  event.Dev
	}
	known := map[pair]*openFact{}
	for f := range b.opens.all {
		switch {
		case f.errno == 0 && f.hasDev && f.size == 0:
			w.hollow[f.dev] = append(w.hollow[f.dev], f.stamp)
		case f.errno != 0 || !f.hasDev && b.names.get(f.kind) != "file":
		case known[pair{f.path, f.dev}] == nil || f.compare(&known[pair{f.path, f.dev}].stamp) < 0:
			known[pair{f.path, f.dev}] = f
		}
	}
	for at, f := range known {
		w.opened[at.path] = append(w.opened[at.path], f)
	}
	for path := range w.opened {
		slices.SortFunc(w.opened[path], func(a, b *openFact) int { return a.compare(&b.stamp) })
	}
	memories := slices.Clone(b.memories)
	slices.SortFunc(memories, func(a, b memoryFact) int { return a.compare(&b.stamp) })
	for i := range memories {
		for j := range memories[i].info.Disks {
			d := &memories[i].info.Disks[j]
			path := b.names.add(clean(d.Path))
			w.last[path] = append(w.last[path], d)
		}
	}
	for f := range b.opens.all {
		if f.errno == int32(unix.ENOENT) && (w.opened[f.path] != nil || w.seen[f.path] != nil || w.last[f.path] != nil) {
			w.vain[f.path] = append(w.vain[f.path], f.stamp)
		}
	}
	for path := range w.vain {
		slices.SortFunc(w.vain[path], func(a, b stamp) int { return a.compare(&b) })
	}
	return w
}

// extend adds to a route what is known beside the links of udev and the name.
func (w *ways) extend(r *resolver, out *route, p sym) {
	w.follow(r, out, p)
	for _, f := range w.opened[p] {
		if l := w.h.lifeByDev(f.dev, f.stamp); f.hasDev && l != nil && !slices.Contains(out.lives, l) {
			w.addProved(out, p, l, &f.stamp)
		}
	}
	text := r.names.get(p)
	if inDev(text) || len(out.lives) > 0 {
		return
	}
	w.file(out, p, text)
	for _, d := range w.last[p] {
		uuid, known := r.names.of[d.UUID]
		if d.UUID == "" || !known {
			continue
		}
		for _, l := range w.h.identified[uuid] {
			w.addProved(out, p, l, nil)
		}
	}
}

// follow adds where the links led that bootrace saw on the way. A link that was
// seen is taken to have been there since the look before, or always.
func (w *ways) follow(r *resolver, out *route, p sym) {
	seen := w.seen[p]
	known := slices.Clone(out.lives) // by links whose making was recorded: their times are exact
	for i, f := range seen {
		if !f.links || f.node == p || i > 0 && seen[i-1].links && seen[i-1].node == f.node {
			continue
		}
		during := span{start: stamp{at: 0, id: f.id, orBefore: true}}
		if i > 0 {
			during.start = stamp{from: seen[i-1].from, at: f.at, id: f.id}
		}
		for _, later := range seen[i+1:] {
			if later.node != f.node {
				during.end = &stamp{from: f.from, at: later.at, id: later.id}
				break
			}
		}
		target := r.route(f.node)
		out.plausible = out.plausible || target.plausible
		out.volume = out.volume || target.volume
		out.lives = append(out.lives, target.lives...)
		for _, a := range target.accesses {
			if slices.Contains(known, a.life) && len(r.paths[p]) > 0 {
				continue
			}
			limited := access{a.life, both(a.ready, during.start), earlier(a.end, during.end), a.down, a.guessed || during.start.at > a.ready.at}
			if limited.end == nil || limited.ready.from < limited.end.at {
				out.accesses = append(out.accesses, limited)
			}
		}
	}
}

// addProved adds l, to which an open (at opened) or a memory (nil) says that p leads. The way is taken to have been there all the time, but
// for opens that found nothing while the device was ready: it came after these.
func (w *ways) addProved(out *route, p sym, l *life, opened *stamp) {
	out.lives = append(out.lives, l)
	start := stamp{orBefore: true}
	for _, s := range w.vain[p] {
		if opened != nil && s.at >= opened.from {
			break
		}
		if !l.readyAt(s) {
			continue
		}
		if opened == nil {
			return // it leads elsewhere now
		}
		start = stamp{from: s.at, at: opened.from, id: opened.id}
	}
	out.guess(l, span{start: start})
}

// guess is add where the instants in s are only known as wide windows.
func (rt *route) guess(l *life, s span) {
	n := len(rt.accesses)
	rt.add(l, s)
	for i := range rt.accesses[n:] {
		a := &rt.accesses[n+i]
		a.guessed = a.guessed || s.start.at > a.life.start.at && !s.start.orBefore && a.ready.at == s.start.at
	}
}

// readyAt reports whether l was certainly ready all through s.
func (l *life) readyAt(s stamp) bool {
	return slices.ContainsFunc(l.ready, func(up span) bool {
		return up.start.at <= s.from && (up.end == nil || up.end.from > s.at)
	})
}

// file adds the file system that a file's path needs. The file itself is taken
// to be there with it, unless it was looked for in vain meanwhile.
func (w *ways) file(out *route, p sym, text string) {
	lives := w.mounts.over(text)
	for _, l := range lives {
		out.lives = append(out.lives, l)
		made, late := w.appeared(p, l)
		switch {
		case !late:
			out.add(l, span{start: l.start, end: l.end})
		case made.at < never:
			out.guess(l, span{start: made, end: l.end})
		}
	}
	for _, d := range w.last[p] {
		if d.Mount != "" && d.Mount != "/" && strings.HasPrefix(text, d.Mount+"/") && len(w.mounts.at[d.Mount]) == 0 {
			out.needs = d.Mount
		}
	}
}

// never is later than all instants.
const never event.Time = 1<<63 - 1

// appeared returns when a file came that was not there although its file system
// was; ok is false where nothing says so.
func (w *ways) appeared(p sym, l *life) (made stamp, ok bool) {
	var missing *stamp
	note := func(s stamp) {
		if s.from > l.start.at && (l.end == nil || s.at < l.end.from) && (missing == nil || s.at > missing.at) {
			missing = &s
		}
	}
	for _, s := range w.vain[p] {
		note(s)
	}
	var found []stamp
	for _, f := range w.seen[p] {
		if f.errno == 0 && f.file {
			found = append(found, f.stamp)
		} else if f.errno == int32(unix.ENOENT) {
			note(f.stamp)
		}
	}
	for _, f := range w.opened[p] {
		found = append(found, f.stamp)
	}
	if missing == nil {
		return stamp{}, false
	}
	made = stamp{from: never, at: never}
	for _, s := range found {
		if s.from >= missing.at && s.at < made.at {
			made = stamp{from: missing.at, at: s.at, id: s.id}
		}
	}
	return made, true
}
