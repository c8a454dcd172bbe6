package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
)

// life is a Life in the making, with what only the queries need.
type life struct {
	out        *Life
	mapping    *Mapping
	kind       blockdev.Kind
	uuid, name sym
	node       sym // kernel name, 0 where no number is known
	hasDev     bool

	start   stamp // of its existence
	end     *stamp
	assumed bool // end follows from a later creation, nobody saw the removal

	inactive  bool // a table waits in the inactive slot
	live      *stamp
	suspended *stamp // since when, nil while it is not
	// suspensions are over, or the last one is not.
	suspensions []span
	names       []nameSpan
	states      []stateChange
	touched     event.Time // of the last fact

	udev    []stamp // ends of udev events that make it ready
	private privacy
	links   []sym     // the ones udev keeps now
	led     []sym     // all that ever led here
	left    departure // the remove events that were seen
	proved  bool      // that it is live follows from an open alone
	ready   []span
	// under are the devices beneath it that no table names.
	under []event.Dev
	// filesystem identifies that of a mount over reboots, empty where nothing does.
	filesystem string
}

// span is a time with an open or closed end.
type span struct {
	start stamp
	end   *stamp
}

type nameSpan struct {
	name sym
	span
}

type stateChange struct {
	stamp
	state string
}

// States of a mapping at an open, beside those of package devmap.
const (
	stateAbsent  = "absent"
	stateRemoved = "removed"
	stateCreated = string(devmap.Created)
	stateLive    = string(devmap.Live)
)

// history builds the lives of all devices: of mappings from the requests to
// device-mapper, of others from what the kernel and udev announce.
type history struct {
	names *symbols
	gaps  gaps
	lives []*life
	// The current holder of each name, uuid and device number, and in the end
	// all there ever were. Names are device-mapper's, nodes the kernel's.
	byUUID, byName map[sym]*life
	byDev          map[event.Dev]*life
	named          map[sym][]*life
	identified     map[sym][]*life
	numbered       map[event.Dev][]*life
	nodes          map[sym][]*life
}

func newHistory(names *symbols, g gaps) *history {
	return &history{
		names: names, gaps: g,
		byUUID: map[sym]*life{}, byName: map[sym]*life{}, byDev: map[event.Dev]*life{},
		named: map[sym][]*life{}, identified: map[sym][]*life{},
		numbered: map[event.Dev][]*life{}, nodes: map[sym][]*life{},
	}
}

// apply takes the facts in the order in which they became true.
func (h *history) apply(f *dmFact) {
	switch {
	case f.errno != 0:
		if l := h.find(f); l != nil {
			l.step(f, Step{Kind: StepFailed, Detail: requestName(f.kind), Errno: int(f.errno)})
		}
	case f.kind == event.DMCreate:
		h.create(f)
	case f.kind == event.DMRemove:
		h.remove(f)
	case f.kind == event.Backfill:
		h.found(f)
	default:
		l := h.find(f)
		if l == nil {
			l = h.implied(f)
		}
		h.change(l, f)
		l.touched = max(l.touched, f.at)
	}
}

func requestName(k event.Kind) string {
	return map[event.Kind]string{
		event.DMCreate: "create", event.DMLoad: "load", event.DMResume: "resume",
		event.DMSuspend: "suspend", event.DMRename: "rename", event.DMRemove: "remove",
	}[k]
}

// find returns the living mapping that f speaks of. The uuid is the surest
// name, the number the least: it is all that LVM gives when it resumes.
func (h *history) find(f *dmFact) *life {
	if l := h.byUUID[f.uuid]; f.uuid != 0 && l != nil {
		return l
	}
	if l := h.byName[f.name]; f.name != 0 && l != nil && (f.uuid == 0 || l.uuid == 0) {
		return l
	}
	if l := h.byDev[f.dev]; f.hasDev && l != nil && (f.uuid == 0 || l.uuid == 0) {
		return l
	}
	return nil
}

func (h *history) create(f *dmFact) {
	l := h.begin(f)
	l.out.Created = f.pointer()
	l.enter(string(devmap.Created), f.stamp)
	l.step(f, Step{Kind: StepCreated})
}

// begin starts a life. Whoever still holds its uuid, name or number has gone
// unseen.
func (h *history) begin(f *dmFact) *life {
	l := newLife(blockdev.Mapping, f.stamp)
	h.supersede(f)
	h.lives = append(h.lives, l)
	h.learn(l, f)
	return l
}

func (h *history) supersede(f *dmFact) {
	var old []*life
	if f.uuid != 0 {
		old = append(old, h.byUUID[f.uuid])
	}
	if f.name != 0 {
		old = append(old, h.byName[f.name])
	}
	if f.hasDev {
		old = append(old, h.byDev[f.dev])
	}
	for _, o := range old {
		if o != nil && o.end == nil {
			h.finish(o, stamp{from: o.touched, at: max(f.at, o.touched), orBefore: true})
			o.assumed = true
		}
	}
}

// learn fills in what f tells about a life that was not known yet.
func (h *history) learn(l *life, f *dmFact) {
	if f.hasDev && !l.hasDev {
		h.number(l, f.dev, h.names.add("dm-"+strconv.FormatUint(uint64(f.dev.Minor), 10)))
	}
	if f.uuid != 0 && l.uuid == 0 {
		h.identify(l, f.uuid)
	}
	if f.name != 0 && l.name == 0 {
		h.name(l, f.name, l.start)
	}
}

func newLife(kind blockdev.Kind, start stamp) *life {
	return &life{kind: kind, out: &Life{Steps: []Step{}, Paths: []Path{}}, start: start, touched: start.at}
}

// number gives a life its device number and node.
func (h *history) number(l *life, dev event.Dev, node sym) {
	l.out.Dev, l.node, l.hasDev = dev, node, true
	h.byDev[dev] = l
	h.numbered[dev] = append(h.numbered[dev], l)
	h.nodes[node] = append(h.nodes[node], l)
}

func (h *history) identify(l *life, uuid sym) {
	l.uuid = uuid
	h.byUUID[uuid] = l
	h.identified[uuid] = append(h.identified[uuid], l)
}

func (h *history) name(l *life, name sym, from stamp) {
	if n := len(l.names); n > 0 {
		l.names[n-1].end = &from
	}
	if h.byName[l.name] == l {
		delete(h.byName, l.name)
	}
	l.name = name
	l.names = append(l.names, nameSpan{name, span{start: from}})
	h.byName[name] = l
	h.named[name] = append(h.named[name], l)
}

func (h *history) remove(f *dmFact) {
	l := h.find(f)
	if l == nil || l.start.from > f.from {
		// Its end was assumed when the next creation came: the two requests
		// overlap, and the removal is the one that began first.
		if old := h.before(f, l); old != nil {
			old.end, old.out.Removed, old.assumed = &f.stamp, f.pointer(), false
			old.step(f, Step{Kind: StepRemoved})
			return
		}
	}
	if l == nil {
		return
	}
	if devmap.Flags(f.flags)&devmap.FlagDeferredRemove != 0 {
		// It goes with its last user; the kernel's remove uevent tells when.
		l.step(f, Step{Kind: StepRemoved, Detail: "deferred"})
		return
	}
	h.finish(l, f.stamp)
	l.step(f, Step{Kind: StepRemoved})
}

// before returns the life with an assumed end that f can have removed.
func (h *history) before(f *dmFact, current *life) *life {
	all := h.identified[f.uuid]
	if f.uuid == 0 {
		all = h.named[f.name]
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i] != current && all[i].assumed {
			return all[i]
		}
	}
	return nil
}

// finish ends a life.
func (h *history) finish(l *life, end stamp) {
	end.from = max(end.from, l.start.from)
	l.end, l.out.Removed = &end, end.pointer()
	l.enter(stateRemoved, end)
	if h.byUUID[l.uuid] == l {
		delete(h.byUUID, l.uuid)
	}
	if h.byName[l.name] == l {
		delete(h.byName, l.name)
	}
	if h.byDev[l.out.Dev] == l {
		delete(h.byDev, l.out.Dev)
	}
	if n := len(l.names); n > 0 && l.names[n-1].end == nil {
		l.names[n-1].end = &end
	}
	if l.suspended != nil {
		l.suspensions = append(l.suspensions, span{*l.suspended, &end})
		l.suspended = nil
	}
}

// implied starts the life of a mapping whose creation was not seen.
func (h *history) implied(f *dmFact) *life {
	first := *f
	first.stamp = stamp{at: f.from, orBefore: true}
	l := h.begin(&first)
	l.out.Backfilled = true
	return l
}

// change applies a request to a mapping that exists.
func (h *history) change(l *life, f *dmFact) {
	h.learn(l, f)
	switch f.kind {
	case event.DMLoad:
		l.inactive = true
		if l.live == nil {
			l.enter(string(devmap.Loaded), f.stamp)
		}
		l.size(f)
		l.step(f, Step{Kind: StepLoaded})
	case event.DMResume:
		l.size(f) // tracefs learns of the table when it is live
		l.resume(f)
	case event.DMSuspend:
		l.suspend(f)
	case event.DMRename:
		h.rename(l, f)
	}
}

func (h *history) rename(l *life, f *dmFact) {
	if f.newUUID != 0 && l.uuid == 0 {
		h.identify(l, f.newUUID)
		l.step(f, Step{Kind: StepRenamed, Detail: h.names.get(f.newUUID)})
	}
	if f.newName != 0 && f.newName != l.name {
		h.name(l, f.newName, f.stamp)
		l.step(f, Step{Kind: StepRenamed, Detail: h.names.get(f.newName)})
	}
}

func (l *life) size(f *dmFact) {
	if f.size != 0 {
		l.out.Size = f.size
	}
	if f.table != nil {
		l.out.Table = f.table
	}
}

// resume makes an inactive table live. A resume without one only ends a
// suspension; a mapping that was never seen without a table can have had one
// all along.
func (l *life) resume(f *dmFact) {
	active := devmap.Flags(f.flags)&devmap.FlagActive != 0
	kind := StepResumed
	switch {
	case l.inactive, l.live == nil && active && l.out.Created != nil:
		kind = StepLive
		l.becomeLive(f.stamp)
	case l.live == nil && l.out.Created == nil:
		l.becomeLive(stamp{at: f.at, id: f.id, orBefore: true})
	}
	l.inactive = false
	if l.live != nil {
		l.enter(string(devmap.Live), f.stamp)
	}
	if l.suspended != nil {
		end := f.stamp
		l.suspensions = append(l.suspensions, span{*l.suspended, &end})
		l.suspended = nil
	}
	if f.size != 0 {
		l.out.Size = f.size
	}
	l.step(f, Step{Kind: kind})
}

func (l *life) becomeLive(s stamp) {
	if l.live == nil {
		s.from = max(s.from, l.start.from)
		l.live, l.out.Live = &s, s.pointer()
	}
}

func (l *life) suspend(f *dmFact) {
	if l.live == nil && l.out.Created == nil {
		l.becomeLive(stamp{at: f.from, id: f.id, orBefore: true})
	}
	if l.live != nil && l.suspended == nil {
		since := f.stamp
		l.suspended = &since
		l.enter(string(devmap.Suspended), f.stamp)
	}
	l.step(f, Step{Kind: StepSuspend})
}

// found applies a snapshot. What the events say goes before what a snapshot
// says: it reads one mapping after another, and is stamped when it is through.
func (h *history) found(f *dmFact) {
	l := h.find(f)
	if l == nil {
		if h.removedUnderWatch(f) {
			return
		}
		l = h.begin(f)
		l.out.Backfilled = true
	} else if !l.out.Backfilled && !h.gaps.overlap(whatDM, l.touched, f.at) {
		h.learn(l, f)
		return
	}
	h.learn(l, f)
	l.adopt(f, h.names.get(f.state))
}

// removedUnderWatch reports whether f is stale: the removal of its mapping was
// seen, and nothing can have been missed since.
func (h *history) removedUnderWatch(f *dmFact) bool {
	all := h.identified[f.uuid]
	if f.uuid == 0 {
		all = h.named[f.name]
	}
	if len(all) == 0 {
		return false
	}
	last := all[len(all)-1]
	return last.end != nil && !last.assumed && !h.gaps.overlap(whatDM, last.end.at, f.at)
}

func (l *life) adopt(f *dmFact, state string) {
	l.step(f, Step{Kind: StepFound, State: state})
	l.size(f)
	s := f.stamp
	s.from = max(s.from, min(l.touched, s.at))
	if l.touched == f.at && l.start.id == f.id {
		s.from = f.from
	}
	l.touched = max(l.touched, f.at)
	switch devmap.State(state) {
	case devmap.Live:
		l.becomeLive(s)
		l.enter(state, s)
		if l.suspended != nil {
			l.suspensions = append(l.suspensions, span{*l.suspended, &s})
			l.suspended = nil
		}
	case devmap.Suspended:
		l.becomeLive(s)
		if l.suspended == nil {
			l.suspended = &s
			l.enter(state, s)
		}
	case devmap.Loaded:
		l.inactive = true
		if l.live == nil {
			l.enter(state, s)
		}
	case devmap.Created:
		if l.live == nil {
			l.enter(state, s)
		}
	}
}

func (l *life) enter(state string, s stamp) {
	l.states = append(l.states, stateChange{s, state})
}

func (l *life) step(f *dmFact, s Step) {
	s.Instant, s.By = f.instant(), f.by
	l.out.Steps = append(l.out.Steps, s)
}

// stateAt returns the state in the window of an open; certain is false where a
// change falls into it.
func (l *life) stateAt(s stamp) (state string, certain bool) {
	state = stateAbsent
	for i := range l.states {
		c := &l.states[i]
		if c.from > s.at {
			break
		}
		if c.at > s.from {
			return state, false
		}
		state = c.state
	}
	return state, state != stateAbsent || !l.out.Backfilled
}

// exists reports whether l can have existed in the window of s.
func (l *life) exists(s stamp) bool {
	return l.start.from <= s.at && (l.end == nil || l.end.at >= s.from)
}

// mappings groups the lives by the uuid they have in the end.
func (h *history) mappings() []*Mapping {
	byUUID := map[sym]*Mapping{}
	ids := map[string]int{}
	var out []*Mapping
	for _, l := range h.lives {
		m := byUUID[l.uuid]
		if m == nil || l.uuid == 0 {
			m = &Mapping{Kind: l.kind, UUID: h.names.get(l.uuid)}
			byUUID[l.uuid] = m
			out = append(out, m)
		}
		l.mapping = m
		m.Lives = append(m.Lives, l.out)
		h.addNames(m, l)
	}
	for _, m := range out {
		m.describe(ids)
	}
	return out
}

// addNames notes the names of one life in its mapping.
func (h *history) addNames(m *Mapping, l *life) {
	for _, n := range l.names {
		name := h.names.get(n.name)
		if m.Name != "" && m.Name != name && !slices.Contains(m.Renamed, m.Name) {
			m.Renamed = append(m.Renamed, m.Name)
		}
		m.Name = name
	}
	m.Renamed = slices.DeleteFunc(m.Renamed, func(old string) bool { return old == m.Name })
}

func (m *Mapping) describe(ids map[string]int) {
	if id, ok := devmap.ParseLVMUUID(m.UUID); ok && m.Kind == blockdev.Mapping {
		m.VG, m.LV, m.Layer, _ = devmap.SplitName(m.Name)
		m.Layer = id.Layer
	}
	m.ID = m.UUID
	if m.ID == "" {
		m.ID = fmt.Sprintf("%s@%d", m.Name, m.Lives[0].began())
	}
	ids[m.ID]++
	if n := ids[m.ID]; n > 1 {
		m.ID = fmt.Sprintf("%s#%d", m.ID, n)
	}
}

// began is when the life was first known of.
func (l *Life) began() event.Time {
	if l.Created != nil {
		return l.Created.At
	}
	if len(l.Steps) > 0 {
		return l.Steps[0].At
	}
	return 0
}

func sortSteps(steps []Step) {
	slices.SortStableFunc(steps, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.From, b.From), cmp.Compare(a.Event, b.Event))
	})
}
