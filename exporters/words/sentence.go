package words

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/inspect"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// part looks up a {name} of a template: its text, and false where that is not known.
type part func(name string) (Span, bool)

// tell adds a template to the paragraph (see kind). glue: what comes next joins the last
// word, without a blank.
func (p *Paragraph) tell(template string, says part) {
	glue := !strings.HasPrefix(template, " ") && len(p.Words) > 0
	for template != "" {
		i := strings.IndexAny(template, " {[")
		if i < 0 {
			i = len(template)
		}
		p.attach(Span{template[:i], Plain}, &glue)
		if template = template[i:]; template == "" {
			return
		}
		switch template[0] {
		case ' ':
			glue, template = false, template[1:]
		case '{':
			name, rest, _ := strings.Cut(template[1:], "}")
			s, _ := says(name)
			if flowing[name] {
				p.flow(s, &glue)
			} else {
				p.attach(s, &glue)
			}
			template = rest
		case '[':
			group, rest, _ := strings.Cut(template[1:], "]")
			if known(group, says) {
				if strings.HasPrefix(group, " ") {
					glue = false
				}
				p.tellGroup(group, says, &glue)
			}
			template = rest
		}
	}
}

// tellGroup tells an optional part; groups do not nest.
func (p *Paragraph) tellGroup(group string, says part, glue *bool) {
	if !*glue {
		group = " " + strings.TrimPrefix(group, " ")
	}
	p.tell(group, says)
	*glue = !strings.HasSuffix(group, " ")
}

func (p *Paragraph) attach(s Span, glue *bool) {
	if s.Text == "" {
		return
	}
	if *glue {
		p.Join(s.Text, s.Style)
	} else {
		p.Add(s.Text, s.Style)
	}
	*glue = true
}

// flowing are the parts that may be broken at blanks; all others stay together.
var flowing = map[string]bool{
	"by": true, "looker": true, "outcome": true, "wouldend": true, "why": true, "disks": true, "behind": true, "unproven": true,
	"devices": true, "filter": true, "said": true, "before": true, "earlier": true, "taken": true,
	"layer": true, "seen": true, "wholeon": true,
}

func (p *Paragraph) flow(s Span, glue *bool) {
	for i, w := range strings.Fields(s.Text) {
		if i > 0 {
			*glue = false
		}
		p.attach(Span{w, s.Style}, glue)
	}
}

func known(group string, says part) bool {
	for {
		_, rest, found := strings.Cut(group, "{")
		if !found {
			return true
		}
		name, rest, _ := strings.Cut(rest, "}")
		if _, ok := says(name); !ok {
			return false
		}
		group = rest
	}
}

// says returns the parts of f.
func (t *Teller) says(f *timeline.Finding) part {
	return func(name string) (Span, bool) {
		switch name {
		case "guest":
			return Span{t.Name(f.Guest, NameCols), Strong}, true
		case "disk":
			return Span{t.Name(f.Disk, PathCols), Strong}, f.Disk != ""
		case "backing":
			return Span{t.Name(f.BackingOf, PathCols), Plain}, f.BackingOf != ""
		case "mapping":
			if f.Device != "" {
				return Span{t.Name(f.Device, PathCols), Plain}, true
			}
			return Span{t.Name(f.MappingName, NameCols), Plain}, f.MappingName != ""
		case "at":
			return Span{t.At(f.At), Plain}, true
		case "ready":
			return t.saysReady(f.Ready)
		case "early", "spare", "worst", "best":
			return t.saysMargin(name, f.Margin, ClassOf(f).Style())
		case "error":
			return Span{t.Name(f.Error, NameCols), Plain}, f.Error != ""
		case "kind":
			return Span{t.Name(f.Kind, NameCols), Plain}, true
		case "looker":
			if f.By == nil {
				return Span{"a process", Plain}, true
			}
			return Span{t.process(f.By), Strong}, true
		case "looks":
			return Span{itoa(f.Looks), Plain}, f.Looks > 1
		case "?never": // there is no time from which on it was ready
			return Span{}, f.Ready == nil && (f.Kind != timeline.Held || f.State != "")
		case "nomapping":
			return Span{"a device that is not known", Plain}, f.MappingName == "" && f.Device == ""
		case "earlier":
			return Span{t.earlier(f.Earlier), Plain}, f.Earlier != nil
		case "nowpath":
			return Span{t.Name(f.NowPath, PathCols), Strong}, f.NowPath != ""
		case "beneath":
			return Span{t.Name(f.Beneath, PathCols), Plain}, f.Beneath != ""
		case "size":
			return Span{Bytes(f.Size), Strong}, f.Size > 0
		case "count":
			return Span{itoa(f.Count), Plain}, f.Count > 1
		case "wouldend":
			return t.wouldEnd(f)
		case "held":
			return Span{t.Signs.Duration(f.Held), Strong}, f.Held > 0
		case "outcome":
			return Span{t.outcome(f), Plain}, true
		case "reason":
			return Span{t.Name(f.Reason, PathCols), Plain}, f.Reason != ""
		}
		if s, ok := t.saysInside(name, f.Inside); ok {
			return s, true
		}
		return t.saysLast(name, f.Last)
	}
}

// saysInside says what is wrong inside a disk.
func (t *Teller) saysInside(name string, in *timeline.Trouble) (Span, bool) {
	if in == nil {
		return Span{}, false
	}
	switch name {
	case "layer":
		return Span{"its " + t.Name(in.Layer, PathCols), Strong}, true
	case "seen":
		return Span{t.Name(in.What, PathCols), Plain}, true
	case "needs":
		return Span{Bytes(in.Needs), Strong}, in.Needs > 0
	case "has":
		return Span{Bytes(in.Has), Strong}, in.Needs > 0
	case "short":
		return Span{Bytes(in.Needs - in.Has), Strong}, in.Needs > 0
	case "atbyte":
		return Span{strconv.FormatInt(in.AtByte, 10), Plain}, true
	case "more":
		return Span{itoa(in.More) + " more", Plain}, in.More > 0
	case "?unneeded":
		return Span{}, in.Spare
	case "since":
		return Span{t.Name(ShortID(in.Since), NameCols), Plain}, in.Since != ""
	case "whole":
		return Span{t.Name(ShortID(in.Whole), NameCols), Plain}, in.Whole != ""
	case "wholeon":
		return Span{t.Name(in.WholeOn, PathCols), Plain}, in.WholeOn != ""
	case "position":
		return Span{position(in, in.Generation), Plain}, true
	case "position0":
		return Span{position(in, in.Before), Plain}, true
	}
	return Span{}, false
}

// position tells a generation: of XFS the cycle and the block of its log.
func position(in *timeline.Trouble, n uint64) string {
	if strings.HasSuffix(in.Layer, string(inspect.KindXFS)) {
		return "cycle " + strconv.FormatUint(n>>32, 10) + ", block " + strconv.FormatUint(n&(1<<32-1), 10)
	}
	return strconv.FormatUint(n, 10)
}

// outcomes say how a hold ended, by its outcome and the reason of its release.
var outcomes = map[ending]string{
	{event.HoldAllowed, event.ReleaseReady}:     "it went on when everything was ready",
	{event.HoldAllowed, event.ReleaseDeadline}:  "it went on at its deadline, not ready",
	{event.HoldAllowed, event.ReleaseByHand}:    "it was released by hand, not ready",
	{event.HoldAllowed, event.ReleaseTraceMode}: "it went on, not ready, when the mode was changed to trace",
	{event.HoldAllowed, event.ReleaseEnd}:       "it went on, not ready, when bootrace ended",
	{event.HoldDenied, event.ReleaseDeadline}:   "it was denied at its deadline",
	{event.HoldDenied, event.HoldIdentity}:      "it was denied, as that is not what it last ran on",
	{event.HoldDenied, event.HoldFilesystem}:    "it was denied, as what is inside is not whole",
	{event.HoldGone, event.ReleaseKilled}:       "it was killed before everything was ready",
}

// ending is how a hold ended.
type ending struct {
	outcome event.HoldOutcome
	reason  event.HoldReason
}

// wouldEnd says how a hold would have ended that did not last until the disks were
// ready.
func (t *Teller) wouldEnd(f *timeline.Finding) (Span, bool) {
	switch {
	case f.Reason != string(event.ReleaseDeadline):
		return Span{}, false
	case f.Outcome == event.HoldDenied:
		return Span{"and denied it at that deadline", Plain}, true
	}
	return Span{"and let it go on at that deadline, not ready", Plain}, true
}

func (t *Teller) outcome(f *timeline.Finding) string {
	text, ok := outcomes[ending{f.Outcome, event.HoldReason(f.Reason)}]
	switch {
	case ok:
		return text
	case f.Outcome == "":
		return "how that ended is not recorded"
	default:
		return "it was " + string(f.Outcome) + ": " + t.Name(f.Reason, PathCols)
	}
}

// earlier says when a disk had been ready before: "from A to B, when X removed it".
func (t *Teller) earlier(e *timeline.Earlier) string {
	if e == nil {
		return ""
	}
	s := "from " + t.Instant(&e.From) + " to " + t.Instant(&e.To)
	switch {
	case e.By != nil && e.By.Comm != "":
		s += ", when " + t.process(e.By) + " removed it"
	case e.Removed:
		s += ", when it was removed"
	}
	return s
}

// saysLast says what the guest last ran on.
func (t *Teller) saysLast(name string, l *timeline.Last) (Span, bool) {
	if l == nil {
		return Span{}, false
	}
	switch name {
	case "last":
		if l.Device != "" {
			return Span{t.Name(l.Device, PathCols), Plain}, true
		}
		return Span{t.Name(cmp.Or(l.Name, l.UUID, "a device that is not known"), NameCols), Plain}, true
	case "lastwhat":
		if l.Kind != "" {
			return Span{"the", Plain}, true
		}
		return Span{"the " + noun(blockdev.Mapping, ofLVM(l.UUID)), Plain}, true
	case "lastpath":
		return Span{t.Name(l.Path, PathCols), Plain}, l.Path != ""
	case "lastsize":
		return Span{Bytes(l.Size), Strong}, l.Size > 0
	case "lastboot":
		return Span{t.Name(ShortID(l.BootID), NameCols), Plain}, l.BootID != ""
	case "came":
		return t.saysReady(l.Came)
	}
	return Span{}, false
}

func (t *Teller) saysReady(ready *timeline.Instant) (Span, bool) {
	if ready == nil || ready.OrBefore {
		return Span{}, false
	}
	return Span{t.Instant(ready), Plain}, true
}

// saysMargin gives a margin, which lies between NS and NS+Width: early or spare
// where all of that is on one side, else worst and best.
func (t *Teller) saysMargin(name string, m *timeline.Margin, st Style) (Span, bool) {
	side := SideOf(m)
	switch {
	case side == Unknown:
		return Span{}, false
	case name == string(side) && m.AtLeast:
		return Span{"at least " + t.Signs.Duration(m.NS), st}, true
	case name == string(side):
		return Span{t.amount(m), st}, true
	case name == "worst" && side == Either:
		return Span{t.Signs.Duration(-m.NS), st}, true
	case name == "best" && side == Either:
		return Span{t.Signs.Duration(m.NS + m.Width), st}, true
	}
	return Span{}, false
}

// Instant is i as text tells it: the middle of the window in which it lies, and
// half the window's width.
func (t *Teller) Instant(i *timeline.Instant) string {
	if i.OrBefore {
		return t.At(i.At) + " or before"
	}
	return t.At(MiddleOf(i)) + t.window(max(i.At.Sub(i.From), 0))
}

// MiddleOf is the middle of the window in which i lies.
func MiddleOf(i *timeline.Instant) event.Time {
	return i.At.Add(-max(i.At.Sub(i.From), 0) / 2)
}

// Middle is the margin that text tells: the middle of what it can be.
func Middle(m *timeline.Margin) event.Duration { return m.NS + max(m.Width, 0)/2 }

// amount is how large a margin is, whichever its side: its middle, and half its
// width.
func (t *Teller) amount(m *timeline.Margin) string {
	return t.Signs.Duration(Middle(m).Abs()) + t.window(m.Width)
}

// Side is on which side of zero a margin lies.
type Side string

// The sides.
const (
	Unknown Side = ""
	Early   Side = "early"  // the guest came first
	Spare   Side = "spare"  // the mapping was ready first
	Either  Side = "either" // the record does not tell
)

// SideOf returns on which side of zero all of m lies.
func SideOf(m *timeline.Margin) Side {
	switch {
	case m == nil, m.NS < 0 && m.AtLeast:
		return Unknown
	case m.NS >= 0:
		return Spare
	case m.NS+m.Width < 0:
		return Early
	}
	return Either
}

// window is the uncertainty of a value in the middle of a window, empty where
// it is exact.
func (t *Teller) window(width event.Duration) string {
	if width <= 0 {
		return ""
	}
	return " " + t.Signs.PlusMinus + t.Signs.Duration(width/2)
}
