package html

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// data is what the script draws. It is short-named and its texts are listed
// once each, since a large host has many of the same.
type data struct {
	// From and To span all that there is to see, View what is worth seeing
	// first; nanoseconds since the boot.
	From event.Time    `json:"from"`
	To   event.Time    `json:"to"`
	View [2]event.Time `json:"view"`
	// Wall is the wall time of the boot in milliseconds, 0 if not known.
	Wall   float64 `json:"wall"`
	Gaps   []gap   `json:"gaps"`
	Groups []group `json:"groups"`
	// Texts are what marks and spans say, a line a fact.
	Texts []string `json:"texts"`
}

type gap struct {
	From event.Time `json:"from"`
	To   event.Time `json:"to"`
	Why  string     `json:"why"`
}

// group is a guest with its disks, or one mapping that no guest uses.
type group struct {
	id   string
	Kind string `json:"kind"` // record, guest or mapping
	// Class is that of the worst finding, empty if there is none.
	Class    string `json:"class,omitempty"`
	Findings []int  `json:"findings,omitempty"` // places in the page
	// Kinds are those of the findings.
	Kinds []string `json:"kinds,omitempty"`
	// Private is set for LVM's own layers, which no guest opens.
	Private bool `json:"private,omitempty"`
	// Search is what a search looks in, lower case.
	Search string `json:"search"`
	Lanes  []lane `json:"lanes"`
}

// extent is the time in which anything happened to a guest's first lane but
// its end.
func (g *group) extent() (from, to event.Time) {
	for i, m := range g.Lanes[0].Marks {
		at := event.Time(m[0])
		if i == 0 {
			from, to = at, at
		}
		if m[2] != markExit {
			from, to = min(from, at), max(to, at)
		}
	}
	return from, to
}

// lane is one line of the picture.
type lane struct {
	Label string `json:"label"`
	Title string `json:"title,omitempty"` // what the label stands for
	// Result stands at the end, ResultClass is its style.
	Result      string `json:"result,omitempty"`
	ResultClass string `json:"rclass,omitempty"`
	Spans       []bar  `json:"spans"`
	Marks       []mark `json:"marks"`
}

// bar is a time during which something was so, as [from, to, kind, text].
type bar [4]int64

// mark is one thing that happened, as [at, at-from, kind, event, text].
type mark [5]int64

// The kinds of bars and marks; the script has the same lists.
const (
	barPending = iota
	barLive
	barSuspended
	barReady
	barRun
	barHeld
	barEarly
)

const (
	markUevent = iota
	markUdev
	markLink
	markOther
	markFound
	markOpened
	markExit
	markCrash
	markExec
	markCreated
	markLoaded
	markLive
	markResumed
	markSuspended
	markLinked
	markReady
	markRemoved
	markRefused
	markFailed
	markService
	markLoss
)

// maker makes data out of a timeline.
type maker struct {
	t        *words.Teller
	tl       *timeline.Timeline
	d        *data
	texts    map[string]int64
	mappings map[string]*timeline.Mapping
	used     map[string]bool
	findings map[string][]*timeline.Finding
	// unused are the findings about no guest, by the group that they are told with.
	unused map[string][]*timeline.Finding
	bytes  int // of what is in the page so far, about
	left   int // groups without room
	// key are the instants that decide what is worth seeing.
	key []event.Time
}

// newData returns what the page draws, and how many groups it has no room for.
func newData(t *words.Teller, tl *timeline.Timeline) (*data, int) {
	m := &maker{
		t: t, tl: tl, d: &data{Gaps: []gap{}, Groups: []group{}},
		texts:    make(map[string]int64),
		mappings: make(map[string]*timeline.Mapping, len(tl.Mappings)),
		used:     make(map[string]bool),
		findings: make(map[string][]*timeline.Finding),
		unused:   make(map[string][]*timeline.Finding),
	}
	m.text("")
	for _, mp := range tl.Mappings {
		m.mappings[mp.ID] = mp
	}
	for _, f := range tl.Findings {
		if f.GuestID == "" {
			m.unused[unusedKey(f)] = append(m.unused[unusedKey(f)], f)
			continue
		}
		m.findings[f.GuestID] = append(m.findings[f.GuestID], f)
	}
	m.span()
	for _, g := range tl.Incomplete {
		m.d.Gaps = append(m.d.Gaps, gap{bound(g.From), bound(max(g.To, g.From)), whole(g.Why)})
	}
	if c := tl.Clock; c != nil {
		m.d.Wall = float64(c.WallOffset) / 1e6
	}
	m.record()
	m.guests()
	m.others()
	m.absent()
	m.view()
	return m.d, m.left
}

// The room of a page: a lane has so many bars and marks, and all lanes together,
// with what is said about them, so many bytes. What has no room is counted.
const (
	maxMarks = 1000
	maxBytes = 16 << 20
)

// add adds a group, as far as there is room.
func (m *maker) add(g group) {
	size := 100 + len(g.Search)
	for i := range g.Lanes {
		l := &g.Lanes[i]
		if cut := max(len(l.Spans)-maxMarks, 0) + max(len(l.Marks)-maxMarks, 0); cut > 0 {
			l.Spans, l.Marks = l.Spans[:min(len(l.Spans), maxMarks)], l.Marks[:min(len(l.Marks), maxMarks)]
			l.Title = strings.TrimPrefix(l.Title+"\n"+words.Count(cut, "bar or mark", "bars and marks")+" left out", "\n")
		}
		size += 100 + len(l.Label) + len(l.Title) + len(l.Result) + 50*len(l.Spans) + 60*len(l.Marks)
	}
	if m.bytes += size; m.bytes > maxBytes {
		m.left++
		return
	}
	m.d.Groups = append(m.d.Groups, g)
}

// text returns the place of s among the texts.
func (m *maker) text(lines ...string) int64 {
	kept := lines[:0:0]
	for _, l := range lines {
		if l != "" {
			kept = append(kept, l)
		}
	}
	s := strings.Join(kept, "\n")
	at, ok := m.texts[s]
	if !ok {
		at = int64(len(m.d.Texts))
		m.texts[s] = at
		m.d.Texts = append(m.d.Texts, s)
		m.bytes += len(s)
	}
	return at
}

// span finds the first and the last instant.
func (m *maker) span() {
	from, to := bound(m.tl.First), bound(m.tl.Last)
	for _, g := range m.tl.Guests {
		to = max(to, bound(g.Exec.At))
	}
	m.d.From, m.d.To = min(from, to), max(from, to)+1
}

// guests are those with findings first, the worst before the others.
func (m *maker) guests() {
	list := slices.Clone(m.tl.Guests)
	rank := func(g *timeline.Guest) int {
		fs := m.findings[g.ID]
		if len(fs) == 0 {
			return int(words.NumClasses)
		}
		return int(words.Worst(fs))
	}
	slices.SortStableFunc(list, func(a, b *timeline.Guest) int { return cmp.Compare(rank(a), rank(b)) })
	for _, g := range list {
		for i := range g.Disks {
			m.used[g.Disks[i].Mapping] = true
		}
		m.add(m.guest(g))
	}
}

func (m *maker) guest(g *timeline.Guest) group {
	fs := m.findings[g.ID]
	out := group{id: guestKey(g.ID), Kind: "guest"}
	out.classify(fs)
	out.Lanes = append(out.Lanes, m.guestLane(g, fs))
	search := []string{g.Name, g.Identity, g.UUID, g.ID, g.Binary}
	for i := range g.Disks {
		d := &g.Disks[i]
		mp := m.mappings[d.Mapping]
		search = append(search, d.Path)
		if mp != nil {
			search = append(search, mp.Name, mp.UUID)
		}
		out.Lanes = append(out.Lanes, m.diskLane(d, mp))
	}
	out.Search = strings.ToLower(whole(strings.Join(search, "\n")))
	return out
}

// others are the mappings that no guest uses.
func (m *maker) others() {
	for _, mp := range m.tl.Mappings {
		if m.used[mp.ID] {
			continue
		}
		l := m.mappingLane(mp, "", nil)
		l.Label, l.Title = whole(mp.Name), whole(mp.ID)
		if ready := readyBy(mp, ""); ready != nil {
			m.result(&l, m.t.Ready(ready))
		}
		fs := m.unused[mappingKey(mp.ID)]
		m.looks(&l, fs)
		out := group{
			id: mappingKey(mp.ID), Kind: "mapping", Private: mp.Layer != "" && len(fs) == 0, Lanes: []lane{l},
			Search: strings.ToLower(whole(mp.Name + "\n" + mp.ID)),
		}
		out.classify(fs)
		m.add(out)
	}
}

// absent are the disks that somebody looked for in vain, and that never existed
// in this boot: nothing else has a lane for them.
func (m *maker) absent() {
	for _, f := range m.tl.Findings {
		key := unusedKey(f)
		if f.GuestID != "" || f.Disk == "" || m.mappings[f.Mapping] != nil || m.unused[key] == nil {
			continue
		}
		l := lane{Label: whole(f.Disk), Spans: []bar{}, Marks: []mark{}}
		fs := m.unused[key]
		delete(m.unused, key) // one lane for all that is said of it
		m.looks(&l, fs)
		m.result(&l, m.t.Ready(nil))
		out := group{id: key, Kind: "mapping", Lanes: []lane{l}, Search: strings.ToLower(whole(f.Disk))}
		out.classify(fs)
		m.add(out)
	}
}

// looks marks when somebody looked in vain for a disk that no guest uses, and
// the time until it was ready.
func (m *maker) looks(l *lane, fs []*timeline.Finding) {
	for _, f := range fs {
		what := "looked for " + whole(f.Disk)
		if f.Error != "" {
			what += ": " + whole(f.Error)
		}
		m.key = append(m.key, bound(f.At))
		l.Marks = append(l.Marks, mark{int64(bound(f.At)), 0, markFailed, 0, m.text(what, by(f.By), "no guest ran on it in this boot")})
		if f.Ready == nil {
			continue
		}
		m.key = append(m.key, bound(f.Ready.At))
		if from, to := bound(f.At), bound(f.Ready.At); from < to && f.Margin != nil {
			l.Spans = append(l.Spans, bar{int64(from), int64(to), barEarly, m.text(m.t.Margin(f.Margin, words.Plain).Long)})
			m.result(l, m.t.Margin(f.Margin, words.Bad))
		}
	}
}

// classify notes which findings the group is about.
func (g *group) classify(fs []*timeline.Finding) {
	if len(fs) > 0 {
		g.Class = classes[words.Worst(fs)]
	}
	for _, f := range fs {
		if kind := name(f.Kind, words.NameCols); !slices.Contains(g.Kinds, kind) {
			g.Kinds = append(g.Kinds, kind)
		}
	}
}

func (m *maker) result(l *lane, r words.Result) {
	l.Result, l.ResultClass = r.Long, classNames[r.Style]
}

// quiet is the least time without anything that ends what is worth seeing
// first: a boot is a burst of seconds or minutes, a guest ends days later.
const quiet = event.Time(60e9)

// view chooses what is in view first: from the first to the last key instant,
// without what lies far beyond the rest.
func (m *maker) view() {
	slices.Sort(m.key)
	if len(m.key) == 0 {
		m.d.View = [2]event.Time{m.d.From, m.d.To}
		return
	}
	from, to := m.key[0], m.key[0]
	for _, at := range m.key[1:] {
		if at-to > max(quiet, 2*(to-from)) {
			break
		}
		to = at
	}
	margin := max((to-from)/25, 1e6)
	m.d.View = [2]event.Time{max(from-margin, 0), to + margin}
	m.d.From, m.d.To = min(m.d.From, m.d.View[0]), max(m.d.To, m.d.View[1])
}

// bound keeps the times of a damaged log within what can be added up.
func bound(t event.Time) event.Time { return min(max(t, 0), 1<<60) }

func itoa(n int) string { return strconv.Itoa(n) }
