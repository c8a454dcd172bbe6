package words

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Sort splits findings into certain and withheld ones, each worst first, then
// by time.
func Sort(all []*timeline.Finding) (certain, withheld []*timeline.Finding) {
	for _, f := range all {
		if f.Withheld != "" {
			withheld = append(withheld, f)
		} else {
			certain = append(certain, f)
		}
	}
	for _, list := range [][]*timeline.Finding{certain, withheld} {
		slices.SortStableFunc(list, func(a, b *timeline.Finding) int {
			return cmp.Or(cmp.Compare(ClassOf(a), ClassOf(b)), cmp.Compare(a.At, b.At))
		})
	}
	return certain, withheld
}

// guestCounts tells how many guests had each outcome that calls for a word.
var guestCounts = []struct {
	outcome   timeline.Outcome
	one, many string
	style     Style
}{
	{timeline.OutcomeFailed, "guest failed", "guests failed", Bad},
	{timeline.OutcomeUnknown, "guest not known", "guests not known", Warn},
	{timeline.OutcomeAtRisk, "guest at risk", "guests at risk", Warn},
	{timeline.OutcomeFine, "guest fine", "guests fine", Good},
}

// Outcome is the headline of a boot: how many guests failed, are not known, were
// at risk, and are fine; and whether there may have been others.
func (t *Teller) Outcome(tl *timeline.Timeline) Paragraph {
	var p Paragraph
	for _, c := range guestCounts {
		if n := tl.Summary.Counts.Of(c.outcome); n > 0 {
			if len(p.Words) > 0 {
				p.Join(",", Plain)
			}
			p.Add(Count(n, c.one, c.many), c.style)
		}
	}
	switch {
	case len(p.Words) > 0 && len(tl.Summary.Unknown) > 0:
		p.Join(";", Plain)
		p.Say("others may have been missed", Warn)
	case len(tl.Summary.Unknown) > 0:
		p.Say("no guest was seen, and some may have been missed", Warn)
	case len(p.Words) == 0:
		p.Say("no guest was started", Good)
	}
	return p
}

// Summary is the one line that answers the question.
func (t *Teller) Summary(tl *timeline.Timeline) Paragraph {
	p := t.Outcome(tl)
	p.Join(":", Plain)
	p.Append(t.Tally(tl))
	p.Say("in boot", Plain)
	p.Add(t.Name(ShortID(tl.BootID), NameCols), Strong)
	if tl.Host.Name != "" {
		p.Say("of host", Plain)
		p.Add(t.Name(tl.Host.Name, NameCols), Strong)
	}
	return p
}

// Tally says how many findings there are: "2 races, 1 near miss".
func (t *Teller) Tally(tl *timeline.Timeline) Paragraph {
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
	var p Paragraph
	if races > 0 {
		p.Add(Count(races, "race", "races"), Bad)
	} else {
		p.Add("no races", calm(tl))
	}
	for _, k := range sortedKinds(others) {
		p.Join(",", Plain)
		p.Add(Count(others[k], k.one, k.many), k.class.Style())
	}
	if withheld > 0 {
		p.Join(",", Plain)
		p.Add(itoa(withheld)+" without a verdict", Unsure.Style())
	}
	return p
}

// calm is the style of "no races": green only where it is sure.
func calm(tl *timeline.Timeline) Style {
	if tl.Complete {
		return Good
	}
	return Strong
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

// Coverage says for which part of the boot the record can be trusted.
func (t *Teller) Coverage(tl *timeline.Timeline) Paragraph {
	var p Paragraph
	missing, end := tl.Gaps()
	switch {
	case tl.Complete:
		p.Say("The record is complete: nothing that a verdict depends on is missing.", Dim)
	case len(missing) == 0 && tl.Events > 0:
		p.Say("The record ends at", Warn)
		p.Add(t.At(tl.Last), Warn)
		p.Say("and has no proper end, so what came after that is not known"+t.because(end), Warn)
	case tl.CompleteFrom != nil:
		p.Say("The record is complete from", Warn)
		p.Add(t.At(*tl.CompleteFrom), Warn)
		p.Say("on; what happened before may be missing"+t.because(missing), Warn)
	default:
		p.Say("The record is not complete, so a failure may be missing"+t.because(missing), Warn)
	}
	if len(missing) > 0 && len(end) > 0 {
		p.Say("It ends at", Warn)
		p.Add(t.At(tl.Last), Warn)
		p.Say("and has no proper end"+t.because(end), Warn)
	}
	return p
}

// because lists the reasons why the record is not complete.
func (t *Teller) because(gaps []timeline.Gap) string {
	const most = 4
	var whys []string
	for _, g := range gaps {
		why := strings.Replace(t.Name(g.Why, PathCols), "these events", plainEvents(g.What), 1)
		if why != "" && !slices.Contains(whys, why) {
			whys = append(whys, why)
		}
	}
	if len(whys) == 0 {
		return "."
	}
	if more := len(whys) - most; more > 0 {
		whys = append(whys[:most], Count(more, "more reason", "more reasons"))
	}
	return ": " + strings.Join(whys, "; ") + "."
}

// plainEvents are the events of a gap, as an operator calls them.
func plainEvents(what string) string {
	switch what {
	case "open":
		return "opens of disks"
	case "exec":
		return "starts of programs"
	case "exit":
		return "ends of guests"
	case "dm":
		return "device-mapper's requests"
	case "link":
		return "links"
	case "mount":
		return "mounts"
	case "uevent":
		return "the kernel's uevents"
	case "udev":
		return "what udev did"
	}
	if strings.Contains(what, ",") { // several, as where the service was away
		return "most events"
	}
	return what
}

// Finding tells all of f but its kind, and its steps (Steps): what happened, why the
// device was late, how the guest ended, and the evidence.
func (t *Teller) Finding(f *timeline.Finding) Paragraph {
	p := t.What(f)
	p.Append(t.Why(f, false))
	p.Append(t.Ending(f.Exit))
	t.remarks(&p, f)
	p.Append(t.Evidence(f.Evidence))
	return p
}

// remarks says what takes f its weight: that an operator accepted it, or that the
// record does not prove it.
func (t *Teller) remarks(p *Paragraph, f *timeline.Finding) {
	if f.Accepted != nil {
		p.Say("It was accepted at", Plain)
		p.Add(t.Instant(f.Accepted)+".", Plain)
	}
	if f.Withheld != "" {
		p.Say("No verdict:", Strong)
		p.Say(t.Name(f.Withheld, PathCols)+".", Plain)
	}
}

// What tells what happened, in a sentence.
func (t *Teller) What(f *timeline.Finding) Paragraph {
	var p Paragraph
	p.tell(textOf(f), t.says(f))
	return p
}

const (
	briefText   = "{guest}, {disk}" + briefMargin + "[: {layer} is short by {short}]"
	unusedText  = "no guest ran on {disk}" + briefMargin // nobody's disk: a volume that was looked for in vain
	unseenText  = "starts went on without being looked at[: {reason}]"
	shareText   = "[{count} ]events of {reason} are not recorded"
	briefMargin = "[, {early} too early][, {spare} to spare][, between {worst} too early and {best} to spare]"
)

// Brief tells f in as few words as it takes.
func (t *Teller) Brief(f *timeline.Finding) Paragraph {
	var p Paragraph
	text := briefText
	switch {
	case f.Kind == timeline.OverShare:
		text = shareText
	case f.Guest == "" && f.Disk != "":
		text = unusedText
	case f.Guest == "":
		text = unseenText
	}
	p.tell(text, t.says(f))
	if s := f.Decisive(); s != nil {
		p.Join(":", Plain)
		p.tell(" "+delay(s), t.saysStep(s))
	}
	if f.Withheld != "" {
		p.Join(";", Plain)
		p.Say("no verdict: "+t.Name(f.Withheld, PathCols), Plain)
	}
	return p
}

// Why tells what the time until the mapping was ready was spent on, with each
// step if detailed; nothing where that is not known.
func (t *Teller) Why(f *timeline.Finding, detailed bool) Paragraph {
	var p Paragraph
	decisive := f.Decisive()
	if decisive == nil {
		return p
	}
	if f.Race {
		p.Say("It was late because", Plain)
	} else {
		p.Say("It was ready no sooner because", Plain)
	}
	p.tell(" "+delay(decisive), t.saysStep(decisive))
	if len(f.Late.Steps) > 1 && detailed {
		t.steps(&p, f.Late)
	}
	p.Join(".", Plain)
	return p
}

// steps lists all steps with the time that each took, and marks the longest.
func (t *Teller) steps(p *Paragraph, a *timeline.Account) {
	const most = 16
	p.Say("(step by step:", Dim)
	for i := range a.Steps {
		if i == most {
			p.Say("and more,", Dim)
			break
		}
		t.step(p, &a.Steps[i], i == a.Longest)
	}
	p.endList("")
	p.Join(")", Dim)
}

// Step is one line of the way to a device that is ready: when something was done,
// how long it took, and what it was.
type Step struct {
	At, Took, What string
	// Decisive is the step that the guest came too early for. Opened is the guest's
	// open, between the steps: it took no time.
	Decisive, Opened bool
}

// maxSteps is as many steps as are told one by one.
const maxSteps = 16

// Steps lists what the time until f's device was ready was spent on, in order, with
// the guest's open among it; nil where that is one step, or not known.
func (t *Teller) Steps(f *timeline.Finding) []Step {
	if f.Decisive() == nil || len(f.Late.Steps) < 2 {
		return nil
	}
	var list []Step
	opened := Step{At: t.At(f.At), What: "the guest opens it", Opened: true}
	switch {
	case f.Kind == timeline.Held, f.Kind == timeline.WouldHold:
		opened.What = "the guest is to start"
	case f.Kind == timeline.NotExecuted:
		opened.What = "libvirt is to start the guest"
	case f.Guest == "":
		opened.What = "somebody looks for it"
	}
	told := false
	for i := range f.Late.Steps {
		if i == maxSteps {
			list = append(list, Step{What: Count(len(f.Late.Steps)-i, "more step", "more steps")})
			break
		}
		s := &f.Late.Steps[i]
		if !told && f.At < s.To {
			list, told = append(list, opened), true
		}
		list = append(list, Step{At: t.At(s.To), Took: "+" + t.Signs.Duration(took(s)), What: t.StepName(s), Decisive: s == f.Decisive()})
	}
	if !told {
		list = append(list, opened)
	}
	return list
}

func (t *Teller) step(p *Paragraph, s *timeline.AccountStep, longest bool) {
	p.Say(t.StepName(s), Dim)
	if !longest {
		p.Add("+"+t.Signs.Duration(took(s))+",", Dim)
		return
	}
	p.Add("+"+t.Signs.Duration(took(s)), Strong)
	p.Say("(the longest),", Dim)
}

// StepName is the short name of a part of the time until a mapping was ready.
func (t *Teller) StepName(s *timeline.AccountStep) string {
	name, ok := stepNames[s.Kind]
	if !ok {
		name = t.Name(s.Kind, NameCols)
	}
	switch s.Kind {
	case timeline.StepDisk, timeline.StepUsable, timeline.StepWritten, timeline.StepPV, timeline.StepLayer,
		timeline.StepGroupDisk, timeline.StepGroupUsable, timeline.StepGroupWritten, timeline.StepGroupPV:
		name = strings.TrimSpace(t.Name(s.Detail, NameCols) + " " + name)
	}
	return name
}

func took(s *timeline.AccountStep) event.Duration { return max(s.To.Sub(s.From), 0) }

func delay(step *timeline.AccountStep) string {
	if step.Again && step.Kind != timeline.StepCreated && step.Kind != timeline.StepResumed {
		return "it took {took} until it came back"
	}
	if s, ok := delays[step.Kind]; ok {
		return s
	}
	return unknownDelay
}

func (t *Teller) saysStep(s *timeline.AccountStep) part {
	return func(name string) (Span, bool) {
		switch name {
		case "took":
			return Span{t.Signs.Duration(took(s)), Strong}, true
		case "at": // since the boot began
			return Span{t.Signs.Duration(max(event.Duration(s.To), 0)), Strong}, true
		case "detail":
			return Span{t.Name(s.Detail, PathCols), Plain}, s.Detail != ""
		case "step":
			return Span{t.Name(s.Kind, NameCols), Plain}, true
		case "by":
			return Span{t.process(s.By), Plain}, s.By != nil
		case "before":
			return Span{beforeStep(s), Plain}, true
		case "?nobody":
			return Span{}, s.By == nil
		case "queued":
			return Span{t.Signs.Duration(s.Queued), Plain}, s.Behind > 0
		case "behind":
			return Span{Count(s.Behind, "other device's event", "other devices' events"), Plain}, s.Behind > 0
		}
		return Span{}, false
	}
}

// beforeStep is what the time of a step counts from.
func beforeStep(s *timeline.AccountStep) string {
	if s.Again {
		return "it had been removed"
	}
	if s.From == 0 {
		return "the boot began"
	}
	return "what it lies on was usable"
}

// Ending says how the guest ended, nothing if it still ran.
func (t *Teller) Ending(e *timeline.Exit) Paragraph {
	var p Paragraph
	switch {
	case e == nil:
		return p
	case e.Signal != 0:
		p.Say("The guest was killed by signal "+itoa(e.Signal)+" at", Plain)
	default:
		p.Say("The guest ended with status "+itoa(e.Status)+" at", Plain)
	}
	p.Add(t.Instant(&e.Instant)+".", Plain)
	return p
}

// Evidence lists the ids of the events that prove a finding.
func (t *Teller) Evidence(ids []uint64) Paragraph {
	var p Paragraph
	if len(ids) == 0 {
		return p
	}
	const most = 16
	p.Say("Events", Dim)
	for i, id := range ids {
		if i == most {
			p.Say(fmt.Sprintf("and %d more,", len(ids)-most), Dim)
			break
		}
		p.Say(fmt.Sprintf("%d,", id), Dim)
	}
	p.endList(".")
	return p
}

// ShortID is the beginning of a boot id: enough to name a boot.
func ShortID(id string) string {
	if i := strings.IndexByte(id, '-'); i == 8 {
		return id[:i]
	}
	return id
}
