package html

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// record is bootrace's own lane: since when it saw what, and what it missed.
func (m *maker) record() {
	l := lane{Label: "bootrace", Title: "what was recorded, and what was missed", Spans: []bar{}, Marks: []mark{}}
	for _, k := range m.tl.Marks {
		m.mark(&l, &k.Instant, markService, m.text(whole(k.Name), whole(k.Text)))
	}
	for _, s := range m.tl.Sources {
		l.Marks = append(l.Marks, mark{int64(bound(s.Attached)), 0, markService, 0, m.text("source " + whole(s.Name) + " attached")})
		if s.Ended != nil {
			l.Marks = append(l.Marks, mark{int64(bound(*s.Ended)), 0, markService, 0, m.text("source " + whole(s.Name) + " ended")})
		}
	}
	for _, s := range m.tl.Losses {
		m.mark(&l, &s.Instant, markLoss, m.text(lost(s), whole(s.Why)))
	}
	if len(l.Marks) > 0 {
		m.d.Groups = append(m.d.Groups, group{Kind: "record", Lanes: []lane{l}})
	}
}

func lost(l timeline.Loss) string {
	s := "lost: " + whole(l.What) + " of " + whole(l.Source)
	if l.Count > 0 {
		s += fmt.Sprintf(", %d", l.Count)
	}
	return s
}

// mark adds a mark for an instant.
func (m *maker) mark(l *lane, i *timeline.Instant, kind int64, text int64) {
	at := bound(i.At)
	window := max(at-bound(i.From), 0)
	if i.OrBefore {
		window = 0
	}
	l.Marks = append(l.Marks, mark{int64(at), int64(window), kind, int64(i.Event), text})
}

func (m *maker) guestLane(g *timeline.Guest, fs []*timeline.Finding) lane {
	l := lane{Label: whole(guestName(g)), Title: m.guestTitle(g), Spans: []bar{}, Marks: []mark{}}
	m.result(&l, m.t.Guest(g, fs))
	m.key = append(m.key, bound(g.Exec.At))
	end := m.d.To
	if g.Exit != nil {
		end = bound(g.Exit.At)
	}
	for i := range g.Holds {
		m.hold(&l, &g.Holds[i])
	}
	if !g.Unstarted {
		l.Spans = append(l.Spans, bar{int64(bound(g.Exec.At)), int64(end), barRun, m.text("running")})
	}
	switch {
	case g.Unstarted:
		if g.Domain != nil {
			m.mark(&l, g.Domain, markCrash, m.text("libvirt was about to start it", "its program never ran"))
		}
	case g.Backfilled:
		m.mark(&l, &g.Exec, markFound, m.text("ran before tracing began", "its opens are not known"))
	default:
		m.mark(&l, &g.Exec, markExec, m.text("exec", whole(g.Binary), "pid "+itoa(g.PID)))
	}
	for i := range g.Disks {
		m.opens(&l, &g.Disks[i])
	}
	if e := g.Exit; e != nil {
		m.exit(&l, e)
	}
	return l
}

func (m *maker) guestTitle(g *timeline.Guest) string {
	lines := []string{whole(cmp.Or(g.Binary, "its program never ran")) + ", pid " + itoa(g.PID)}
	if g.UUID != "" {
		lines = append(lines, "uuid "+whole(g.UUID))
	}
	if g.Identity != "" && g.Identity != g.UUID && g.Identity != g.Name {
		lines = append(lines, "known by "+whole(g.IdentityFrom)+" "+whole(g.Identity))
	}
	if g.Truncated {
		lines = append(lines, "its command line was too long to record: there may be further disks")
	}
	return strings.Join(lines, "\n")
}

// guestName is what people call the guest.
func guestName(g *timeline.Guest) string {
	return cmp.Or(g.Name, g.Identity, g.UUID, "pid "+itoa(g.PID))
}

func (m *maker) hold(l *lane, h *timeline.Hold) {
	to, how := m.d.To, "not released in this record"
	if h.Released != nil {
		to, how = bound(h.Released.At), "for "+m.t.Signs.Duration(max(h.Released.At.Sub(h.At), 0))
	}
	m.key = append(m.key, bound(h.At), bound(to))
	lines := []string{"start held", how, whole(string(h.Reason))}
	if h.Outcome != "" {
		lines = append(lines, "then "+whole(string(h.Outcome)))
	}
	for _, b := range h.Blockers {
		lines = append(lines, "waits for "+whole(b))
	}
	if h.More > 0 {
		lines = append(lines, "and for "+itoa(h.More)+" more")
	}
	l.Spans = append(l.Spans, bar{int64(bound(h.At)), int64(max(to, bound(h.At))), barHeld, m.text(lines...)})
}

func (m *maker) exit(l *lane, e *timeline.Exit) {
	kind, how := int64(markExit), "exit with status "+itoa(e.Status)
	if e.Signal != 0 {
		how = "killed by signal " + itoa(e.Signal)
	}
	if e.Signal != 0 || e.Status != 0 {
		kind = markCrash
	}
	m.mark(l, &e.Instant, kind, m.text(how))
}

// opens adds a guest's opens of one disk.
func (m *maker) opens(l *lane, d *timeline.Disk) {
	for i := range d.Uses {
		u := &d.Uses[i]
		m.key = append(m.key, bound(u.At))
		kind, what := int64(markOpened), "opened "+whole(d.Path)
		if u.Errno != 0 {
			kind, what = markFailed, "open of "+whole(d.Path)+" failed: "+whole(cmp.Or(u.Error, "errno "+itoa(u.Errno)))
		}
		m.mark(l, &u.Instant, kind, m.text(what, m.openFacts(d, u)))
	}
}

func (m *maker) openFacts(d *timeline.Disk, u *timeline.Use) string {
	var lines []string
	if d.BackingOf != "" {
		lines = append(lines, "a backing file of "+whole(d.BackingOf))
	}
	if u.Margin != nil {
		lines = append(lines, m.t.Margin(u.Margin, words.Plain).Long)
	}
	if u.Count > 1 {
		lines = append(lines, itoa(u.Count)+" opens with the same outcome")
	}
	if u.Size == 0 && u.Errno == 0 && u.Type == "block" {
		lines = append(lines, "size 0")
	}
	return strings.Join(lines, "\n")
}

func (m *maker) diskLane(d *timeline.Disk, mp *timeline.Mapping) lane {
	l := m.mappingLane(mp, d.Path, d.Uses)
	l.Label = whole(d.Path)
	var title []string
	if mp != nil {
		title = append(title, whole(mp.Name), whole(mp.ID))
	}
	if d.BackingOf != "" {
		title = append(title, "a backing file of "+whole(d.BackingOf))
	}
	if inside := m.t.InsideOf(d); inside != "" {
		title = append(title, "inside:", inside)
	}
	l.Title = strings.Join(title, "\n")
	m.opens(&l, d)
	m.early(&l, d)
	failed := slices.ContainsFunc(d.Uses, func(u timeline.Use) bool { return u.Errno != 0 })
	if mp == nil && !failed {
		m.result(&l, words.Result{Long: "no mapping", Style: words.Dim})
	} else {
		m.result(&l, m.t.Ready(readyBy(mp, d.Path)))
	}
	return l
}

// early adds the time that the guest came too early.
func (m *maker) early(l *lane, d *timeline.Disk) {
	for i := range d.Uses {
		u := &d.Uses[i]
		if u.Margin == nil || u.NS >= 0 || u.AtLeast || u.Ready == nil {
			continue
		}
		m.key = append(m.key, bound(u.Ready.At))
		if from, to := bound(u.At), bound(u.Ready.At); from < to {
			l.Spans = append(l.Spans, bar{int64(from), int64(to), barEarly, m.text(m.t.Margin(u.Margin, words.Plain).Long)})
		}
	}
}

// readyBy returns when the mapping was first ready by the path, or by any of
// its paths where that is empty; nil if never.
func readyBy(mp *timeline.Mapping, path string) *timeline.Instant {
	if mp == nil {
		return nil
	}
	var first *timeline.Instant
	for _, l := range mp.Lives {
		for i := range l.Paths {
			p := &l.Paths[i]
			if p.Ready != nil && (path == "" || p.Path == path) && (first == nil || p.Ready.At < first.At) {
				first = p.Ready
			}
		}
	}
	return first
}

// mappingLane is a mapping's life; with a path, as the guest sees it that opens
// it by that path.
func (m *maker) mappingLane(mp *timeline.Mapping, path string, uses []timeline.Use) lane {
	l := lane{Spans: []bar{}, Marks: []mark{}}
	if mp == nil {
		return l
	}
	for _, life := range mp.Lives {
		m.steps(&l, life, path)
		m.paths(&l, life, path)
		m.states(&l, life, path)
		if len(uses) > 0 && life.Live != nil && !life.Live.OrBefore {
			m.key = append(m.key, bound(life.Live.At))
		}
	}
	return l
}

var stepMarks = map[string]int64{
	timeline.StepFound:   markFound,
	timeline.StepCreated: markCreated,
	timeline.StepLoaded:  markLoaded,
	timeline.StepLive:    markLive,
	timeline.StepResumed: markResumed,
	timeline.StepSuspend: markSuspended,
	timeline.StepRemoved: markRemoved,
	timeline.StepUevent:  markUevent,
	timeline.StepUdev:    markUdev,
	timeline.StepLink:    markLink,
	timeline.StepFailed:  markRefused,
}

// stepWords say what a step is, where its kind does not.
var stepWords = map[string]string{
	timeline.StepFound:  "existed before tracing began",
	timeline.StepLoaded: "table loaded",
	timeline.StepUevent: "kernel announced it",
	timeline.StepUdev:   "udev has finished",
	timeline.StepLink:   "link made",
	timeline.StepFailed: "request failed",
}

// steps adds a mark for each step but ready, and the link that paths tells.
func (m *maker) steps(l *lane, life *timeline.Life, path string) {
	for i := range life.Steps {
		s := &life.Steps[i]
		if s.Kind == timeline.StepReady || s.Kind == timeline.StepLink && s.Detail == path {
			continue
		}
		kind, ok := stepMarks[s.Kind]
		if !ok {
			kind = markOther
		}
		what := cmp.Or(stepWords[s.Kind], whole(s.Kind))
		if s.Detail != "" {
			what += ": " + whole(s.Detail)
		}
		if s.Errno != 0 {
			what += " (errno " + itoa(s.Errno) + ")"
		}
		m.mark(l, &s.Instant, kind, m.text(what, whole(s.State), by(s.By)))
	}
}

// by says which process did something.
func by(p *event.Proc) string {
	if p == nil {
		return ""
	}
	command := strings.Join(p.Args, " ")
	if command == "" {
		command = p.Comm
	}
	return "by " + name(command, words.PathCols) + ", pid " + itoa(p.PID)
}

// paths adds when the path was linked and ready: without one of interest, the
// first time that any was.
func (m *maker) paths(l *lane, life *timeline.Life, path string) {
	var ready *timeline.Path
	for i := range life.Paths {
		p := &life.Paths[i]
		if path != "" && p.Path != path {
			continue
		}
		if path != "" && p.Link && !p.Made.OrBefore {
			m.mark(l, &p.Made, markLinked, m.text("link made: "+whole(p.Path)))
		}
		if p.Ready != nil && (ready == nil || p.Ready.At < ready.Ready.At) {
			ready = p
		}
	}
	if ready != nil {
		if ready.Ready.OrBefore {
			m.mark(l, ready.Ready, markFound, m.text("ready by "+whole(ready.Path), "since when is not known: before tracing began"))
		} else {
			m.mark(l, ready.Ready, markReady, m.text("ready by "+whole(ready.Path)))
		}
	}
}

// states adds the bars: how the mapping was, from when to when.
func (m *maker) states(l *lane, life *timeline.Life, path string) {
	changes := changesOf(life, path)
	for i, c := range changes {
		to := m.d.To
		if i+1 < len(changes) {
			to = bound(changes[i+1].at)
		}
		if c.bar != none && bound(c.at) < to {
			l.Spans = append(l.Spans, bar{int64(bound(c.at)), int64(to), c.bar, m.text(barWords[c.bar])})
		}
	}
}

var barWords = [...]string{
	barPending:   "exists, without a live table",
	barLive:      "live, not yet ready",
	barSuspended: "suspended",
	barReady:     "ready",
}

// none is no bar: the mapping does not exist.
const none = -1

// change is where a mapping became something else.
type change struct {
	at   event.Time
	rank int // of two at one instant, the higher is later
	bar  int64
}

func changesOf(life *timeline.Life, path string) []change {
	var list []change
	add := func(i *timeline.Instant, rank int, bar int64) {
		if i != nil {
			list = append(list, change{bound(i.At), rank, bar})
		}
	}
	add(life.Created, 0, barPending)
	for i := range life.Steps {
		s := &life.Steps[i]
		switch {
		case s.Kind == timeline.StepFound && s.State == "live":
			add(&s.Instant, 1, barLive)
		case s.Kind == timeline.StepFound && s.State == "suspended", s.Kind == timeline.StepSuspend:
			add(&s.Instant, 2, barSuspended)
		case s.Kind == timeline.StepFound:
			add(&s.Instant, 0, barPending)
		case s.Kind == timeline.StepResumed, s.Kind == timeline.StepLive:
			add(&s.Instant, 3, barLive)
		}
	}
	if life.Live != nil && !life.Live.OrBefore {
		add(life.Live, 1, barLive)
	}
	var ready *timeline.Instant
	for i := range life.Paths {
		if p := &life.Paths[i]; p.Ready != nil && (path == "" || p.Path == path) && (ready == nil || p.Ready.At < ready.At) {
			ready = p.Ready
		}
	}
	add(ready, 4, barReady)
	add(life.Removed, 5, none)
	slices.SortStableFunc(list, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.rank, b.rank))
	})
	return settle(list)
}

// settle lets a mapping that was ready be ready again after a suspend.
func settle(list []change) []change {
	wasReady := false
	for i := range list {
		switch list[i].bar {
		case barReady:
			wasReady = true
		case barLive:
			if wasReady {
				list[i].bar = barReady
			}
		case none:
			wasReady = false
		}
	}
	return list
}
