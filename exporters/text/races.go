package text

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Races writes the findings in words, a paragraph each, the worst first; then
// those for which the record allows no verdict, with the reason. It says what
// the record covers, and so what it means that there are none.
func Races(w io.Writer, tl *timeline.Timeline, opts Options) error {
	p := newPrinter(w, opts)
	p.summary(tl)
	p.coverage(tl)
	certain, withheld := sortFindings(tl.Findings)
	for _, f := range certain {
		p.line()
		p.finding(f)
	}
	if len(withheld) > 0 {
		p.line()
		var t paragraph
		t.say("Possible, but the record does not prove it", strong)
		t.write(p, 2)
	}
	for _, f := range withheld {
		p.line()
		p.finding(f)
	}
	return p.flush()
}

// sortFindings splits findings into certain and withheld ones, each worst
// first, then by time.
func sortFindings(all []*timeline.Finding) (certain, withheld []*timeline.Finding) {
	for _, f := range all {
		if f.Withheld != "" {
			withheld = append(withheld, f)
		} else {
			certain = append(certain, f)
		}
	}
	for _, list := range [][]*timeline.Finding{certain, withheld} {
		slices.SortStableFunc(list, func(a, b *timeline.Finding) int {
			return cmp.Or(cmp.Compare(classOf(a), classOf(b)), cmp.Compare(a.At, b.At))
		})
	}
	return certain, withheld
}

// summary writes the one line that answers the question.
func (p *printer) summary(tl *timeline.Timeline) {
	var t paragraph
	p.tally(&t, tl)
	t.say("in boot", plain)
	t.add(p.name(shortID(tl.BootID), nameCols), strong)
	if tl.Host.Name != "" {
		t.say("of host", plain)
		t.add(p.name(tl.Host.Name, nameCols), strong)
	}
	t.write(p, 2)
}

// tally adds how many findings there are: "2 races, 1 near miss".
func (p *printer) tally(t *paragraph, tl *timeline.Timeline) {
	races := len(tl.Races())
	withheld := 0
	others := make(map[kind]int)
	for _, f := range tl.Findings {
		if f.Withheld != "" {
			withheld++
		} else if !f.Race {
			others[kindOf(f)]++
		}
	}
	if races > 0 {
		t.add(count(races, "race", "races"), bad)
	} else {
		t.add("no races", p.calm(tl))
	}
	for _, k := range sortedKinds(others) {
		t.join(",", plain)
		t.add(count(others[k], k.one, k.many), classes[k.class].style)
	}
	if withheld > 0 {
		t.join(",", plain)
		t.add(itoa(withheld)+" without a verdict", classes[unsure].style)
	}
}

// calm is the style of "no races": green only where it is sure.
func (p *printer) calm(tl *timeline.Timeline) style {
	if tl.Complete {
		return good
	}
	return strong
}

func sortedKinds(counts map[kind]int) []kind {
	list := make([]kind, 0, len(counts))
	for k := range counts {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.class, b.class), strings.Compare(a.one, b.one))
	})
	return list
}

// coverage says for which part of the boot the record can be trusted.
func (p *printer) coverage(tl *timeline.Timeline) {
	var t paragraph
	switch {
	case tl.Complete:
		t.say("The record is complete: nothing that a verdict depends on is missing.", dim)
	case tl.CompleteFrom != nil:
		t.say("The record is complete from", warn)
		t.add(seconds(*tl.CompleteFrom), warn)
		t.say("on; what happened before may be missing"+p.because(tl), warn)
	default:
		t.say("The record is not complete, so a race may be missing"+p.because(tl), warn)
	}
	t.write(p, 2)
}

// because lists the reasons why the record is not complete.
func (p *printer) because(tl *timeline.Timeline) string {
	const most = 4
	var whys []string
	for _, g := range tl.Incomplete {
		why := p.name(g.Why, pathCols)
		if why != "" && !slices.Contains(whys, why) {
			whys = append(whys, why)
		}
	}
	if len(whys) == 0 {
		return "."
	}
	if more := len(whys) - most; more > 0 {
		whys = append(whys[:most], count(more, "more reason", "more reasons"))
	}
	return ": " + strings.Join(whys, "; ") + "."
}

// finding writes one finding as a paragraph.
func (p *printer) finding(f *timeline.Finding) {
	var t paragraph
	c := classes[classOf(f)]
	t.add(string(p.signs.glyph(c.sign)), c.style)
	t.add(p.name(f.Kind, nameCols)+":", c.style)
	t.tell(" "+textOf(f), p.says(f))
	p.late(&t, f)
	p.ending(&t, f.Exit)
	if f.Withheld != "" {
		t.say("No verdict:", strong)
		t.say(p.name(f.Withheld, pathCols)+".", plain)
	}
	p.evidence(&t, f.Evidence)
	t.write(p, 2)
}

// late says what the time until the mapping was ready was spent on.
func (p *printer) late(t *paragraph, f *timeline.Finding) {
	i := decisive(f)
	if i < 0 {
		return
	}
	if f.Race {
		t.say("It was late because", plain)
	} else {
		t.say("It was ready no sooner because", plain)
	}
	steps := f.Late.Steps
	t.tell(" "+delay(steps[i].Kind), p.saysStep(&steps[i]))
	if len(steps) > 1 {
		p.steps(t, steps)
	}
	t.join(".", plain)
}

// decisive returns the index of the step that took most of the time between
// the open and ready, -1 if nothing is known. It need not be the longest: the
// first step counts from the boot, and what was over when the guest came made
// nobody wait. Where the guest did not wait at all, it is the longest.
func decisive(f *timeline.Finding) int {
	if f.Late == nil || len(f.Late.Steps) == 0 {
		return -1
	}
	most, at := event.Duration(0), -1
	for i, s := range f.Late.Steps {
		if d := s.To.Sub(max(s.From, f.At)); d > most {
			most, at = d, i
		}
	}
	if at < 0 {
		at = min(max(f.Late.Longest, 0), len(f.Late.Steps)-1)
	}
	return at
}

// steps lists all steps with the time that each took.
func (p *printer) steps(t *paragraph, steps []timeline.AccountStep) {
	const most = 12
	t.say("(step by step:", dim)
	for i := range steps {
		if i == most {
			t.say("and more,", dim)
			break
		}
		p.stepTime(t, &steps[i])
	}
	last := t.words[len(t.words)-1]
	last[len(last)-1].text = strings.TrimSuffix(last[len(last)-1].text, ",")
	t.join(")", dim)
}

func (p *printer) stepTime(t *paragraph, s *timeline.AccountStep) {
	name, ok := stepNames[s.Kind]
	if !ok {
		name = p.name(s.Kind, nameCols)
	}
	if s.Kind == timeline.StepDisk && s.Detail != "" {
		name = p.name(s.Detail, nameCols) + " appeared"
	}
	t.say(name, dim)
	t.add(duration(max(s.To.Sub(s.From), 0), p.signs)+",", dim)
}

func delay(kind string) string {
	if s, ok := delays[kind]; ok {
		return s
	}
	return unknownDelay
}

func (p *printer) saysStep(s *timeline.AccountStep) part {
	return func(name string) (span, bool) {
		switch name {
		case "took":
			return span{duration(max(s.To.Sub(s.From), 0), p.signs), strong}, true
		case "detail":
			return span{p.name(s.Detail, pathCols), plain}, s.Detail != ""
		case "step":
			return span{p.name(s.Kind, nameCols), plain}, true
		}
		return span{}, false
	}
}

// ending says how the guest ended.
func (p *printer) ending(t *paragraph, e *timeline.Exit) {
	switch {
	case e == nil:
		return
	case e.Signal != 0:
		t.say("The guest was killed by signal "+itoa(e.Signal)+" at", plain)
	default:
		t.say("The guest ended with status "+itoa(e.Status)+" at", plain)
	}
	t.add(seconds(e.At)+".", plain)
}

// evidence lists the ids of the events that prove a finding.
func (p *printer) evidence(t *paragraph, ids []uint64) {
	if len(ids) == 0 {
		return
	}
	const most = 16
	t.say("Events", dim)
	for i, id := range ids {
		if i == most {
			t.say(fmt.Sprintf("and %d more,", len(ids)-most), dim)
			break
		}
		t.say(fmt.Sprintf("%d,", id), dim)
	}
	last := t.words[len(t.words)-1]
	last[0].text = strings.TrimSuffix(last[0].text, ",") + "."
}

// shortID is the beginning of a boot id: enough to name a boot.
func shortID(id string) string {
	if i := strings.IndexByte(id, '-'); i == 8 {
		return id[:i]
	}
	return id
}
