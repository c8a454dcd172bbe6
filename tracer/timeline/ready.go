package timeline

import (
	"cmp"
	"slices"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
)

// A mapping is ready by a path while it is live, udev has finished with it and
// the path leads to it. Once that is so it stays so: a later event of udev,
// from a trigger or a watch, takes nothing back by being under way. It ends
// with the removal, with the link, and with a suspension that does not end
// soon.

// access is a time in which a path led to a ready mapping.
type access struct {
	life  *life
	ready stamp
	end   *stamp
	down  *stamp // when the mapping itself was no longer ready
	// guessed is set where nobody saw when the path came to lead there, only that
	// it did at some time.
	guessed bool
}

// settle works out when l was ready, whatever the path.
func (l *life) settle(limit event.Duration, last event.Time) {
	if l.suspended != nil {
		l.suspensions = append(l.suspensions, span{start: *l.suspended})
	}
	l.out.Private = l.private.private()
	if id := l.mapping; id != nil && id.Layer != "" {
		l.out.Private = true
	}
	if l.live == nil || l.out.Private {
		return
	}
	finished := l.finished()
	if finished == nil {
		return
	}
	l.out.Udev = finished.pointer()
	for _, up := range l.uptimes(limit, last) {
		r := both(up.start, *finished)
		if up.end == nil || r.from < up.end.at {
			l.ready = append(l.ready, span{r, up.end})
		}
	}
}

// finished returns when udev first had finished with the live device.
func (l *life) finished() *stamp {
	for i := range l.udev {
		if l.udev[i].at >= l.live.from {
			return &l.udev[i]
		}
	}
	return nil
}

// uptimes are the times in which l was live, short suspensions included.
func (l *life) uptimes(limit event.Duration, last event.Time) []span {
	times := []span{{*l.live, l.end}}
	for _, s := range l.suspensions {
		until := last
		if s.end != nil {
			until = s.end.at
		}
		if until.Sub(s.start.from) <= limit {
			continue
		}
		begin := s.start
		times[len(times)-1].end = &begin
		if s.end == nil || s.end == l.end {
			break
		}
		times = append(times, span{*s.end, l.end})
	}
	return times
}

// resolver answers which mapping a path led to, and when.
type resolver struct {
	h     *history
	paths map[sym][]pathSpan
	ways  *ways
	names *symbols
	cache map[sym]*route
}

// route is everything that is known about one path.
type route struct {
	accesses []access
	// lives are the mappings that it led to or, by its name, would have led
	// to, in order of time.
	lives []*life
	// plausible is set where by its name it can only be a block device, even if
	// none was seen, and the medium does not come and go.
	plausible bool
	// volume is set where by its name a mapping can be meant.
	volume bool
	// needs is the point of a mount that the guest's image lay on in an earlier
	// boot, and that was never there in this one.
	needs string
	// elsewhere is set where it led to something that is not followed.
	elsewhere bool
}

func (r *resolver) route(p sym) *route {
	if known := r.cache[p]; known != nil {
		return known
	}
	out := &route{}
	r.cache[p] = out
	r.follow(out, p)
	meaning, ok := blockdev.MeaningOf(r.names.get(p))
	for _, c := range meaning.Mappings {
		r.candidate(out, c)
	}
	if node, known := r.names.of[meaning.Node]; known && meaning.Node != "" {
		r.node(out, node)
	}
	out.plausible, out.volume = ok && meaning.Waited(), len(meaning.Mappings) > 0
	r.ways.extend(r, out, p)
	slices.SortStableFunc(out.accesses, func(a, b access) int { return a.ready.compare(&b.ready) })
	slices.SortStableFunc(out.lives, func(a, b *life) int { return a.start.compare(&b.start) })
	out.lives = slices.Compact(out.lives)
	return out
}

// follow adds what the links say.
func (r *resolver) follow(out *route, p sym) {
	for _, s := range r.paths[p] {
		if s.life == nil {
			out.elsewhere = true
			continue
		}
		out.lives = append(out.lives, s.life)
		out.add(s.life, s.span)
	}
}

// add notes the times in which l was ready within s.
func (rt *route) add(l *life, s span) {
	for _, up := range l.ready {
		a := access{life: l, ready: both(up.start, s.start), end: earlier(up.end, s.end), down: up.end, guessed: l.proved}
		if a.end == nil || a.ready.from < a.end.at {
			rt.accesses = append(rt.accesses, a)
		}
	}
}

func earlier(a, b *stamp) *stamp {
	switch {
	case a == nil:
		return b
	case b == nil || a.at <= b.at:
		return a
	default:
		return b
	}
}

// node adds the devices of that kernel name: their node is there by itself.
func (r *resolver) node(out *route, node sym) {
	for _, l := range r.h.nodes[node] {
		out.lives = append(out.lives, l)
		out.add(l, span{l.start, l.end})
	}
}

// candidate adds what the path's name says: a link is there only if somebody was
// seen to make it.
func (r *resolver) candidate(out *route, c devmap.Candidate) {
	switch {
	case c.Node != "":
	case c.UUID != "":
		if uuid, ok := r.names.of[c.UUID]; ok {
			out.lives = append(out.lives, r.h.identified[uuid]...)
		}
	default:
		if name, ok := r.names.of[c.Name]; ok {
			out.lives = append(out.lives, r.h.named[name]...)
		}
	}
}

// at returns the way in that counts for an open: the one that was there then,
// else the next one. only restricts it to the mapping that was opened. A failed
// open that overlaps the end of a way in came after it. One that succeeded proves
// that the link was there, whatever udev said of it: an event of udev that is
// late, or another udevd's, lists no links.
func (rt *route) at(s stamp, only *life, failed bool) *access {
	var found, proved *access
	for i := range rt.accesses {
		a := &rt.accesses[i]
		if only != nil && a.life != only {
			continue
		}
		if a.ready.from > s.at {
			if found == nil {
				found = a
			}
			break
		}
		switch {
		case a.end == nil || a.end.at >= s.from && !(failed && a.end.from <= s.at):
			found = a
		case only != nil && !failed && (a.down == nil || a.down.at >= s.from):
			proved = a
		}
	}
	if proved != nil && (found == nil || found.ready.from > s.at) {
		return proved
	}
	return found
}

// before reports whether a way in had ended when s happened.
func (rt *route) before(s stamp) bool {
	return slices.ContainsFunc(rt.accesses, func(a access) bool { return a.end != nil && a.end.from <= s.at })
}

// earlier returns the last time before s in which the path had led to a ready
// device, nil if there is none; way is the one that counts for s, nil for none.
func (rt *route) earlier(s stamp, way *access) *Earlier {
	var last *access
	for i := range rt.accesses {
		a := &rt.accesses[i]
		over := a.end != nil && a.end.from <= s.at && (way == nil || a.end.from <= way.ready.from)
		if over && (last == nil || a.end.at > last.end.at) {
			last = a
		}
	}
	if last == nil {
		return nil
	}
	return last.over()
}

// over describes an access that has ended.
func (a *access) over() *Earlier {
	e := &Earlier{From: a.ready.instant(), To: a.end.instant(), Mapping: a.life.mapping.ID}
	if end := a.life.end; end != nil && end.at == a.end.at {
		e.Removed = true
		for i := range a.life.out.Steps {
			if s := &a.life.out.Steps[i]; s.Kind == StepRemoved && s.Event == end.id {
				e.By = s.By
			}
		}
	}
	return e
}

// lifeAt returns the mapping that a path meant at s: the one that existed,
// else the next one, else the last.
func (rt *route) lifeAt(s stamp) *life {
	for i := len(rt.lives) - 1; i >= 0; i-- {
		if rt.lives[i].exists(s) {
			return rt.lives[i]
		}
	}
	for _, l := range rt.lives {
		if l.start.from > s.at {
			return l
		}
	}
	if n := len(rt.lives); n > 0 {
		return rt.lives[n-1]
	}
	return nil
}

// describePaths fills in the paths of all lives.
func (r *resolver) describePaths() {
	for _, l := range r.h.lives {
		r.describeNode(l)
	}
	for p, spans := range r.paths {
		for _, s := range spans {
			if s.life == nil {
				continue
			}
			var rt route
			rt.add(s.life, s.span)
			s.life.addPath(Path{Path: r.names.get(p), Link: true}, s.span, rt.accesses)
		}
	}
	for _, l := range r.h.lives {
		slices.SortFunc(l.out.Paths, func(a, b Path) int {
			return cmp.Or(cmp.Compare(a.Made.At, b.Made.At), cmp.Compare(a.Made.From, b.Made.From), cmp.Compare(a.Path, b.Path))
		})
	}
}

func (r *resolver) describeNode(l *life) {
	if !l.hasDev {
		return
	}
	node := "/dev/" + r.names.get(l.node)
	var rt route
	whole := span{l.start, l.end}
	rt.add(l, whole)
	l.addPath(Path{Path: node}, whole, rt.accesses)
	if len(rt.accesses) > 0 {
		l.out.Steps = append(l.out.Steps, Step{
			Kind: StepReady, Instant: rt.accesses[0].ready.instant(), Detail: node,
		})
	}
}

func (l *life) addPath(p Path, s span, ways []access) {
	p.Made = s.start.instant()
	if s.end != nil {
		p.Gone = s.end.pointer()
	}
	if len(ways) > 0 {
		p.Ready = ways[0].ready.pointer()
	}
	l.out.Paths = append(l.out.Paths, p)
}
