package html

import (
	"cmp"
	"maps"
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
	Causes [][]run // all but the last
	Last   []run
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
	at, ok := p[unusedKey(f)]
	return at, ok
}

// unusedKey is the group of what a finding without a guest is about: the mapping,
// or where that never existed the path that was looked for.
func unusedKey(f *timeline.Finding) string {
	if f.Mapping != "" {
		return mappingKey(f.Mapping)
	}
	return "disk " + f.Disk
}

// open is the number of findings that are in view at once.
const open = 3

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
	verdicts := slices.DeleteFunc(slices.Clone(tl.Verdicts), func(v *timeline.Verdict) bool { return v.Outcome == timeline.OutcomeFine })
	slices.SortStableFunc(verdicts, func(a, b *timeline.Verdict) int { return risk(a) - risk(b) }) // then by time
	for _, v := range verdicts {
		out := verdict{Class: classes[words.OutcomeClass(v.Outcome)], Guest: -1}
		if at, ok := place[guestKey(v.GuestID)]; ok {
			out.Guest = at
			out.From, out.To = p.Data.Groups[at].extent()
		}
		for i, c := range v.Causes {
			if said := runs(t.Cause(v, c)); i < len(v.Causes)-1 {
				out.Causes = append(out.Causes, said)
			} else {
				out.Last = said
			}
		}
		if len(v.Causes) == 0 {
			out.Last = runs(t.NotKnown(v))
		}
		if len(p.Verdicts) < open {
			p.Verdicts = append(p.Verdicts, out)
		} else {
			p.MoreVerdicts = append(p.MoreVerdicts, out)
		}
	}
}

// risk orders outcomes, the worst first.
func risk(v *timeline.Verdict) int { return slices.Index(timeline.Outcomes(), v.Outcome) }

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
	counts, worst := make(map[string]int), make(map[string]words.Class)
	for _, f := range findings {
		class := words.ClassOf(f)
		if counts[f.Kind] > 0 {
			class = min(class, worst[f.Kind])
		}
		counts[f.Kind]++
		worst[f.Kind] = class
	}
	kinds := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(worst[a], worst[b]), cmp.Compare(a, b))
	})
	list := make([]kindCount, len(kinds))
	for i, kind := range kinds {
		list[i] = kindCount{name(kind, words.NameCols), classes[worst[kind]], counts[kind]}
	}
	return list
}
