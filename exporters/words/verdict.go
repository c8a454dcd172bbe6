package words

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Cause says what one cause of a verdict comes to, and what helps: a paragraph
// that begins with whom it is about.
func (t *Teller) Cause(v *timeline.Verdict, c *timeline.Cause) Paragraph {
	var p Paragraph
	if v.Guest == "" {
		p.Say("No guest on", Plain)
		p.Add(t.Name(first(c.Disks), PathCols)+":", Strong)
	} else {
		p.Say("Guest", Plain)
		p.Add(t.Name(v.Guest, NameCols)+":", Strong)
	}
	p.Append(t.reason(v, c))
	t.cures(&p, c, t.saysCause(v, c))
	return p
}

// reason is Cause without whom it is about, and without what helps.
func (t *Teller) reason(v *timeline.Verdict, c *timeline.Cause) Paragraph {
	var p Paragraph
	says := t.saysCause(v, c)
	unproven := c.Withheld != "" && c.Kind != timeline.CauseUnexplained // which says it itself
	if unproven {
		p.Say("perhaps", Warn)
	}
	p.tell(" "+causeText(v, c), says)
	t.answer(&p, c, says)
	if unproven {
		p.Say("The record does not prove it:", Strong)
		p.Say(t.Name(c.Withheld, PathCols)+".", Plain)
	}
	return p
}

// causeText returns the template that tells c.
func causeText(v *timeline.Verdict, c *timeline.Cause) string {
	told, risk := causes[c.Kind], c.Outcome == timeline.OutcomeAtRisk
	switch {
	case v.Guest == "" && told.looked != "":
		return told.looked
	case v.Guest == "":
	case risk && told.risk != "":
		return told.risk
	case c.Unopened && told.unopened != "":
		return told.unopened
	case slices.Contains(c.Findings, timeline.NotExecuted) && told.dropped != "":
		return told.dropped
	}
	return cmp.Or(told.text, "{kind}. It concerns {disks}.")
}

// NotKnown says why it is not known how a start went.
func (t *Teller) NotKnown(v *timeline.Verdict) Paragraph {
	var p Paragraph
	p.Say("Guest", Plain)
	p.Add(t.Name(v.Guest, NameCols)+":", Strong)
	p.Append(t.notKnown(v))
	return p
}

func (t *Teller) notKnown(v *timeline.Verdict) Paragraph {
	var p Paragraph
	p.Say("not known.", Warn)
	for _, why := range v.Unknown {
		p.Say(Capital(t.Name(why, PathCols))+".", Plain)
	}
	return p
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// answer says what LVM had to say, and what follows.
func (t *Teller) answer(p *Paragraph, c *timeline.Cause, says part) {
	var told, inferred []string
	for _, s := range c.Settings {
		if timeline.Inferred(s) {
			inferred = append(inferred, s)
		} else {
			told = append(told, s)
		}
	}
	switch {
	case len(c.Settings) > 0:
	case c.NoAnswer != "":
		p.Say("LVM was asked for the reason, and gave no answer: "+t.Name(c.NoAnswer, PathCols)+".", Plain)
	case c.Kind == timeline.CauseNeverActivated && c.Asked:
		p.Say("LVM knows the volume, and no setting that forbids its activation. Why nothing activated it is not known.", Plain)
	}
	for i, s := range told {
		if i == 0 {
			p.Say("LVM says that", Plain)
		} else {
			p.Say("and that", Plain)
		}
		text, ok := settingTexts[s]
		if !ok {
			p.Say(t.Name(s, NameCols), Strong)
			continue
		}
		p.tell(" "+text, says)
	}
	if len(told) > 0 {
		p.Join(".", Plain)
	}
	for _, s := range inferred {
		p.tell(" "+inferredTexts[s], says)
	}
}

// cures says what helps, in order.
func (t *Teller) cures(p *Paragraph, c *timeline.Cause, says part) {
	for i, cure := range c.Cures {
		text := cmp.Or(cures[cure].text, t.Name(cure, NameCols))
		if i == 0 {
			p.Say("To do:", Good)
		} else {
			p.Say("or:", Good)
		}
		p.tell(" "+text, says)
		if i < len(c.Cures)-1 {
			p.Join(";", Plain)
		}
	}
	if len(c.Cures) > 0 {
		p.Join(".", Plain)
	}
}

func (t *Teller) saysCause(v *timeline.Verdict, c *timeline.Cause) part {
	return func(name string) (Span, bool) {
		switch name {
		case "guest":
			return Span{t.Name(cmp.Or(v.Guest, "GUEST"), NameCols), Plain}, true
		case "nowpath":
			return Span{t.Name(c.NowPath, PathCols), Strong}, c.NowPath != ""
		case "beneath":
			return Span{t.Name(c.Beneath, PathCols), Plain}, c.Beneath != ""
		case "disks":
			return Span{t.disks(c.Disks), Strong}, true
		case "it":
			return Span{plural(len(c.Disks), "it", "they"), Plain}, true
		case "was":
			return Span{plural(len(c.Disks), "was", "were"), Plain}, true
		case "taken":
			return t.saysTaken(c)
		case "by":
			return Span{t.process(c.By), Plain}, c.By != nil
		case "looker":
			return Span{t.process(c.Looker), Plain}, c.Looker != nil
		case "holder":
			return Span{t.Name(c.Holder, NameCols), Strong}, c.Holder != ""
		case "unproven":
			return Span{t.Name(c.Withheld, PathCols), Plain}, c.Withheld != ""
		case "held":
			return Span{t.Signs.Duration(c.Held), Plain}, c.Held > 0
		case "error":
			return Span{t.Name(c.Error, NameCols), Plain}, c.Error != ""
		case "kind":
			return Span{t.Name(c.Kind, NameCols), Plain}, true
		case "wait", "deadline", "program", "ended", "?trace", "?untried":
			return t.saysHold(name, c.Hold)
		case "why":
			return Span{t.clause(c.Step), Plain}, c.Step != nil
		case "volume", "group":
			return Span{t.volume(name, first(c.Disks)), Plain}, true
		case "now":
			if c.Device != "" {
				return Span{t.Name(c.Device, PathCols), Strong}, true
			}
			return Span{t.Name(cmp.Or(c.Mapping, "a device that is not known"), NameCols), Strong}, c.Last != nil
		case "size":
			return Span{Bytes(c.Size), Strong}, c.Size > 0
		case "?shorter":
			return Span{}, c.Shorter
		case "?unproved":
			return Span{}, c.Inside == nil
		}
		if s, ok := t.saysInside(name, c.Inside); ok {
			return s, true
		}
		if s, ok := t.saysLVM(name, c); ok {
			return s, true
		}
		return t.saysLast(name, c.Last)
	}
}

// saysTaken says that the disks had been there before, and what became of that.
func (t *Teller) saysTaken(c *timeline.Cause) (Span, bool) {
	if c.Earlier == nil {
		return Span{}, false
	}
	it := plural(len(c.Disks), "it", "them")
	s := "Before that " + plural(len(c.Disks), "it", "they") + " had been ready"
	switch by := c.Earlier.By; {
	case by != nil && by.Comm != "":
		s += ", until " + t.process(by) + " removed " + it
	case c.Earlier.Removed:
		s += ", and " + plural(len(c.Disks), "was", "were") + " removed again"
	}
	return Span{s, Plain}, true
}

// saysLVM says what a cause's settings are about.
func (t *Teller) saysLVM(name string, c *timeline.Cause) (Span, bool) {
	d := c.LVM
	if d == nil {
		d = &timeline.LVMDetail{}
	}
	switch name {
	case "owner":
		return Span{t.Name(d.Owner, NameCols), Strong}, d.Owner != ""
	case "filter":
		return Span{t.Name(d.Filter, PathCols), Plain}, d.Filter != ""
	case "said":
		return Span{t.Name(d.Said, PathCols), Plain}, d.Said != ""
	case "part":
		return Span{t.Name(d.Part, PathCols), Strong}, d.Part != ""
	case "pool":
		return Span{t.Name(cmp.Or(d.Pool, "VG/POOL"), PathCols), Strong}, true
	case "repairable": // never a thin volume: what can be repaired is its pool
		if d.Pool != "" {
			return Span{t.Name(d.Pool, PathCols), Plain}, true
		}
		return Span{t.volume("volume", first(c.Disks)), Plain}, true
	case "devices":
		if len(d.Devices) == 0 {
			return Span{}, false
		}
		return Span{t.disks(d.Devices), Strong}, true
	}
	return Span{}, false
}

// saysHold says what a hold came to, or would.
func (t *Teller) saysHold(name string, a *timeline.HoldAdvice) (Span, bool) {
	if a == nil {
		return Span{"ended", Plain}, false
	}
	switch name {
	case "?trace":
		return Span{}, a.Mode == string(config.Trace)
	case "?untried":
		return Span{}, a.Untried
	case "wait":
		return Span{t.Signs.Duration(a.Wait), Plain}, a.Wait > 0
	case "deadline":
		return Span{t.Signs.Duration(a.Deadline), Plain}, a.Deadline > 0
	case "program":
		return Span{t.Name(a.Program, PathCols), Plain}, a.Program != ""
	}
	switch a.Ended {
	case event.HoldDenied:
		return Span{"denied", Plain}, true
	case event.HoldGone:
		return Span{"killed", Plain}, true
	}
	return Span{"not over", Plain}, true
}

// clause is a step as a part of a sentence.
func (t *Teller) clause(s *timeline.AccountStep) string {
	if s == nil {
		return ""
	}
	var p Paragraph
	p.tell(delay(s), t.saysStep(s))
	return p.String()
}

func (t *Teller) disks(list []string) string {
	const most = 4
	var names []string
	for i, d := range list {
		if i == most && len(list) > most+1 {
			names = append(names, itoa(len(list)-most)+" more")
			break
		}
		names = append(names, t.Name(d, PathCols))
	}
	switch n := len(names); n {
	case 0:
		return "its disks"
	case 1:
		return names[0]
	default:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
}

func (t *Teller) volume(what, disk string) string {
	vg, lv, ok := devmap.Volume(disk)
	switch {
	case !ok && what == "group":
		return "VG"
	case !ok:
		return "VG/LV"
	case what == "group":
		return t.Name(vg, NameCols)
	}
	return t.Name(vg+"/"+lv, PathCols)
}

// process tells a process by its command line, and where that came from.
func (t *Teller) process(by *event.Proc) string {
	if by == nil {
		return ""
	}
	s := t.Name(by.Comm, NameCols)
	if len(by.Args) > 0 {
		args := append([]string{path.Base(by.Args[0])}, by.Args[1:]...)
		s = "`" + t.Name(strings.Join(args, " "), PathCols) + "`"
	}
	s += " (process " + itoa(by.PID)
	if by.Unit != "" {
		s += " of " + t.Name(by.Unit, NameCols)
	}
	if by.Parent != "" {
		s += ", started by " + t.Name(by.Parent, NameCols)
	}
	return s + ")"
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// Sound says how many guests had their disks in time. What is in the disks is another
// matter, which Insides tells where somebody looked.
func (t *Teller) Sound(tl *timeline.Timeline) Paragraph {
	var p Paragraph
	if n := tl.Summary.Counts.Fine; n > 0 {
		p.Say(Count(n, "guest", "guests")+" had all disks in time. If one of them is down, it did not come too early for them.", Dim)
	}
	return p
}
