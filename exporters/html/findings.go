package html

import (
	"cmp"
	"slices"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// verdict is what the findings come to for one guest, or for a disk that no
// guest ever opened.
type verdict struct {
	Class  string
	Guest  int // as in finding
	From   event.Time
	To     event.Time
	Causes [][]run
}

// finding is one finding in words.
type finding struct {
	ID    string // of its place in the page
	Kind  string
	Class string
	What  []run
	Why   []run
	Steps *steps // nil: not known
	Rest  []run
	// Guest is the place of the guest among the lanes' groups, -1 if none;
	// From and To are the time that it is about.
	Guest    int
	From, To event.Time
}

// steps is the time until a mapping was ready as a bar.
type steps struct {
	Parts []stepPart
	// Opened is where on it the guest opened, in thousandths; -1: not on it.
	Opened float64
}

// stepPart is one part of that, in thousandths of the whole.
type stepPart struct {
	Name, Took string
	X, Width   float64
	Decisive   bool
}

type kindCount struct {
	Kind  string
	Class string
	Count int
}

var classes = [words.NumClasses]string{
	words.Failure: "failure",
	words.Warning: "warning",
	words.Unsure:  "unsure",
	words.Note:    "note",
}

// places are the groups by what they are of.
type places map[string]int

func guestKey(id string) string   { return "guest " + id }
func mappingKey(id string) string { return "mapping " + id }

// of returns the group that f is about: its guest's, else its mapping's.
func (p places) of(f *timeline.Finding) (int, bool) {
	if at, ok := p[guestKey(f.GuestID)]; ok {
		return at, true
	}
	at, ok := p[mappingKey(f.Mapping)]
	return at, ok
}

// open is the number of findings that are in view at once.
const open = 5

func (p *page) addFindings(t *words.Teller, tl *timeline.Timeline) {
	place := make(places, len(p.Data.Groups))
	for i, g := range p.Data.Groups {
		place[g.id] = i
	}
	p.addVerdicts(t, tl, place)
	certain, withheld := words.Sort(tl.Findings)
	for i, f := range slices.Concat(certain, withheld) {
		out := newFinding(t, f, i)
		if at, ok := place.of(f); ok {
			out.Guest = at
			g := &p.Data.Groups[at]
			g.Findings = append(g.Findings, i)
		}
		switch {
		case f.Withheld != "":
			p.Withheld = append(p.Withheld, out)
		case len(p.Findings) < open:
			p.Findings = append(p.Findings, out)
		default:
			p.More = append(p.More, out)
		}
	}
}

func (p *page) addVerdicts(t *words.Teller, tl *timeline.Timeline, place places) {
	for _, v := range tl.Verdicts {
		out := verdict{Class: classes[words.Failure], Guest: -1}
		if v.AtRisk {
			out.Class = classes[words.Warning]
		}
		if at, ok := place[guestKey(v.GuestID)]; ok {
			out.Guest = at
			out.From, out.To = p.Data.Groups[at].extent()
		}
		for _, c := range v.Causes {
			out.Causes = append(out.Causes, runs(t.Cause(v, c)))
		}
		if len(p.Verdicts) < open {
			p.Verdicts = append(p.Verdicts, out)
		} else {
			p.MoreVerdicts = append(p.MoreVerdicts, out)
		}
	}
	p.Sound = runs(t.Sound(tl))
}

func newFinding(t *words.Teller, f *timeline.Finding, i int) finding {
	out := finding{
		ID:    "finding-" + itoa(i),
		Kind:  name(f.Kind, words.NameCols),
		Class: classes[words.ClassOf(f)],
		What:  runs(t.What(f)),
		Why:   runs(t.Why(f, false)),
		Steps: newSteps(t, f),
		Guest: -1,
		From:  bound(f.At),
		To:    bound(f.At),
	}
	if f.Ready != nil {
		out.From, out.To = min(out.From, bound(f.Ready.At)), max(out.To, bound(f.Ready.At))
	}
	rest := t.Ending(f.Exit)
	if f.Withheld != "" {
		rest.Say("No verdict:", words.Strong)
		rest.Say(name(f.Withheld, words.PathCols)+".", words.Plain)
	}
	rest.Append(t.Evidence(f.Evidence))
	out.Rest = runs(rest)
	return out
}

// maxSteps is as many parts as a bar can show.
const maxSteps = 12

func newSteps(t *words.Teller, f *timeline.Finding) *steps {
	decisive := f.Decisive()
	if decisive == nil || len(f.Late.Steps) < 2 || len(f.Late.Steps) > maxSteps {
		return nil
	}
	all := f.Late.Steps
	from, to := bound(all[0].From), bound(all[len(all)-1].To)
	if to <= from {
		return nil
	}
	share := func(at event.Time) float64 {
		return float64(1000*(min(max(bound(at), from), to)-from)) / float64(to-from)
	}
	s := &steps{Opened: -1}
	for i := range all {
		a := &all[i]
		s.Parts = append(s.Parts, stepPart{
			Name: t.StepName(a), Took: t.Signs.Duration(max(a.To.Sub(a.From), 0)),
			X: share(a.From), Width: max(share(a.To)-share(a.From), 0), Decisive: a == decisive,
		})
	}
	if f.At >= from && f.At <= to {
		s.Opened = share(f.At)
	}
	return s
}

// countKinds counts findings by kind, the worst first.
func countKinds(findings []*timeline.Finding) []kindCount {
	type key struct {
		class words.Class
		kind  string
	}
	counts := make(map[key]int)
	for _, f := range findings {
		counts[key{words.ClassOf(f), f.Kind}]++
	}
	keys := make([]key, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.kind, b.kind))
	})
	list := make([]kindCount, len(keys))
	for i, k := range keys {
		list[i] = kindCount{name(k.kind, words.NameCols), classes[k.class], counts[k]}
	}
	return list
}
