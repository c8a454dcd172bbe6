package words

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// On a large host hundreds of guests wait for the same few commands, and a guest
// that is restarted in a loop fails at each start. What has one reason is told
// once, with the number of guests and starts, and one of them as an example.

// mostReasons is how many groups may differ only in what exactly was waited for:
// the command line, the disk beneath, the volume group. Where there are more, as
// where an agent runs a command for each guest, these are one group.
const mostReasons = 8

// mostNames is how many guests of a group are named.
const mostNames = 4

// reason is what makes findings or causes alike: rough has all that makes the sentence
// another, exact what only changes a name in it. Of what differs in no more than exact,
// mostReasons are told apart.
type reason struct{ rough, exact string }

// gather puts the items of one reason together, in the order of their first; each
// group has the number of exact reasons in it.
func gather[T any](list []T, reasonOf func(T) reason) (groups [][]T, reasons []int) {
	exact := map[reason]bool{}
	kinds := map[string]int{} // exact reasons by rough one
	for _, item := range list {
		if r := reasonOf(item); !exact[r] {
			exact[r] = true
			kinds[r.rough]++
		}
	}
	place := map[reason]int{}
	for _, item := range list {
		r := reasonOf(item)
		n := 1
		if kinds[r.rough] > mostReasons {
			n, r.exact = kinds[r.rough], ""
		}
		at, known := place[r]
		if !known {
			at = len(groups)
			place[r] = at
			groups, reasons = append(groups, nil), append(reasons, n)
		}
		groups[at] = append(groups[at], item)
	}
	return groups, reasons
}

func joined(parts ...string) string { return strings.Join(parts, "\x00") }

func flag(set bool) string {
	if set {
		return "1"
	}
	return ""
}

// command tells what a process ran, whichever process it was.
func command(p *event.Proc) reason {
	if p == nil {
		return reason{}
	}
	return reason{joined(p.Comm, p.Unit, p.Parent), joined(p.Args...)}
}

// stepReason is why something took so long.
func stepReason(s *timeline.AccountStep) reason {
	if s == nil {
		return reason{}
	}
	r := command(s.By)
	r.rough = joined(s.Kind, r.rough)
	switch s.Kind {
	case timeline.StepDisk, timeline.StepUsable, timeline.StepWritten, timeline.StepPV, timeline.StepLayer,
		timeline.StepGroupDisk, timeline.StepGroupUsable, timeline.StepGroupWritten, timeline.StepGroupPV:
		r.exact = joined(s.Detail, r.exact)
	}
	return r
}

// FindingGroup is findings of one kind and for one reason, by time.
type FindingGroup struct {
	Findings []*timeline.Finding
	// Reasons is how many commands, or devices, are behind them.
	Reasons int
}

// Group puts together what is alike in findings, which Sort has sorted: the worst
// first, then what concerns most guests. Disks that one guest opened in one start
// stay apart: each is told. So are a few guests that ran on other disks than
// before: which ones says more than that there were several.
func Group(findings []*timeline.Finding) []FindingGroup {
	lists, reasons := gather(findings, findingReason)
	var groups []FindingGroup
	for i, list := range lists {
		if starts(list) == 1 || list[0].Last != nil && guests(list) > 1 && guests(list) <= mostNames {
			for _, f := range list {
				groups = append(groups, FindingGroup{[]*timeline.Finding{f}, 1})
			}
			continue
		}
		groups = append(groups, FindingGroup{list, reasons[i]})
	}
	slices.SortStableFunc(groups, func(a, b FindingGroup) int {
		return cmp.Or(cmp.Compare(ClassOf(a.Findings[0]), ClassOf(b.Findings[0])), cmp.Compare(guests(b.Findings), guests(a.Findings)),
			cmp.Compare(a.Findings[0].At, b.Findings[0].At))
	})
	return groups
}

func findingReason(f *timeline.Finding) reason {
	r := reason{rough: joined(f.Kind, flag(f.Race), f.Withheld, f.State, f.Error, f.Reason, string(f.Outcome), f.Beneath,
		string(deviceOf(f)), flag(f.BackingOf != ""), flag(f.InVain), flag(f.Accepted != nil), flag(f.Guest != ""), flag(f.Ready != nil), flag(f.Earlier != nil), flag(f.Failed()))}
	for _, more := range []reason{stepReason(f.Decisive()), command(f.By)} {
		r.rough, r.exact = joined(r.rough, more.rough), joined(r.exact, more.exact)
	}
	return r
}

// whose names the guest that a finding is about, or the disk that has none.
func whose(f *timeline.Finding) string { return cmp.Or(f.Guest, f.Disk) }

func distinct[T any](list []T, of func(T) string) []string {
	var out []string
	known := map[string]bool{}
	for _, item := range list {
		if s := of(item); !known[s] {
			known[s] = true
			out = append(out, s)
		}
	}
	return out
}

func guests(list []*timeline.Finding) int { return len(distinct(list, whose)) }

func starts(list []*timeline.Finding) int {
	return len(distinct(list, func(f *timeline.Finding) string { return cmp.Or(f.GuestID, f.Guest, f.Disk) }))
}

// Group tells a group of findings: how many guests it concerns, who they are, and
// one of them in full. A group of one is told as that finding is.
func (t *Teller) Group(g *FindingGroup) Paragraph {
	first := g.Findings[0]
	if len(g.Findings) == 1 {
		return t.Finding(first)
	}
	var p Paragraph
	names := distinct(g.Findings, whose)
	many := starts(g.Findings)
	if len(names) == 1 {
		p.Say("guest", Plain)
		p.Add(t.Name(names[0], NameCols)+",", Strong)
		p.Say(itoa(many)+" starts from", Plain)
		p.Add(t.At(first.At), Plain)
		p.Say("to", Plain)
		p.Add(t.At(g.Findings[len(g.Findings)-1].At), Plain)
	} else {
		p.Add(t.countOf(len(names), first.Guest), Strong)
		if many > len(names) {
			p.Say("in "+itoa(many)+" starts", Plain)
		}
	}
	t.marginRange(&p, g.Findings)
	t.reasons(&p, g.Reasons)
	if len(names) > 1 {
		p.Join(":", Plain)
		t.names(&p, names)
		p.Join(". One of them:", Plain)
	} else {
		p.Join(". The first time:", Plain)
	}
	p.Append(t.What(first))
	p.Append(t.Why(first, false))
	t.remarks(&p, first)
	p.Append(t.Evidence(first.Evidence))
	return p
}

// countOf is "12 guests", or "12 disks" of which no guest is known.
func (t *Teller) countOf(n int, guest string) string {
	if guest == "" {
		return Count(n, "disk", "disks")
	}
	return Count(n, "guest", "guests")
}

// reasons says that one example does not stand for all commands.
func (t *Teller) reasons(p *Paragraph, n int) {
	if n > 1 {
		p.Say("("+itoa(n)+" different commands or devices)", Plain)
	}
}

// More says how to see the guests that are not named, nothing where all are.
func (t *Teller) More(tl *timeline.Timeline) Paragraph {
	var p Paragraph
	if len(tl.Summary.Guests) > mostNames+1 && (tl.Summary.Counts.Failed+tl.Summary.Counts.AtRisk+tl.Summary.Counts.Unknown) > mostNames+1 {
		p.Say("--guest NAME tells one guest alone, --format json everything.", Dim)
	}
	return p
}

// names lists guests up to a bound.
func (t *Teller) names(p *Paragraph, names []string) {
	for i, name := range names {
		if i == mostNames && len(names) > mostNames+1 {
			p.Say("and "+itoa(len(names)-mostNames)+" more", Dim)
			return
		}
		p.Add(t.Name(name, NameCols), Plain)
		if i < len(names)-1 {
			p.Join(",", Plain)
		}
	}
}

// marginRange says from what to what guests were too early, or had to spare.
func (t *Teller) marginRange(p *Paragraph, list []*timeline.Finding) {
	var least, most *timeline.Margin
	for _, f := range list {
		side := SideOf(f.Margin)
		switch {
		case side != Early && side != Spare || f.Margin.AtLeast || least != nil && side != SideOf(least):
			return // not of one kind: the one that is told says its own
		case least == nil:
			least, most = f.Margin, f.Margin
		}
		if Middle(f.Margin).Abs() < Middle(least).Abs() {
			least = f.Margin
		}
		if Middle(f.Margin).Abs() > Middle(most).Abs() {
			most = f.Margin
		}
	}
	if least == nil {
		return
	}
	p.Join(",", Plain)
	st := ClassOf(list[0]).Style()
	if t.amount(least) != t.amount(most) {
		p.Add(t.amount(least), st)
		p.Say("to", Plain)
	}
	p.Add(t.amount(most), st)
	p.Say(map[Side]string{Early: "too early", Spare: "to spare"}[SideOf(least)], Plain)
}

// startCause is one cause of a verdict, or that nothing is known: cause is nil then.
type startCause struct {
	verdict *timeline.Verdict
	cause   *timeline.Cause
	guest   *timeline.GuestSummary // nil in a timeline that has none
	name    string
}

func (a *startCause) outcome() timeline.Outcome {
	if a.cause != nil {
		return a.cause.Outcome
	}
	return a.verdict.Outcome
}

// Verdicts tells what the findings come to: a paragraph for each reason, the worst
// outcome first, then what concerns most guests, then by time. It says nothing of
// starts that went well.
func (t *Teller) Verdicts(tl *timeline.Timeline) []Advice {
	all := startCauses(tl)
	deadline := enoughFor(all)
	groups, reasons := gather(all, func(a startCause) reason { return causeReason(&a) })
	for i := range slices.Backward(groups) {
		if g := groups[i]; g[0].cause != nil && g[0].cause.Last != nil && len(told(g)) > 1 && len(told(g)) <= mostNames {
			var apart [][]startCause
			for _, name := range told(g) {
				apart = append(apart, slices.DeleteFunc(slices.Clone(g), func(a startCause) bool { return a.name != name }))
			}
			groups = slices.Replace(groups, i, i+1, apart...)
			reasons = slices.Replace(reasons, i, i+1, slices.Repeat([]int{1}, len(apart))...)
		}
	}
	order := make([]int, len(groups))
	for i := range order {
		order[i] = i
	}
	rank := func(g []startCause) int { return slices.Index(timeline.Outcomes(), g[0].outcome()) }
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(rank(groups[a]), rank(groups[b])), cmp.Compare(len(told(groups[b])), len(told(groups[a]))),
			cmp.Compare(groups[a][0].verdict.At, groups[b][0].verdict.At))
	})
	var out []Advice
	cured, commanded := map[string]string{}, map[string]bool{}
	for _, i := range order {
		out = append(out, Advice{t.verdictGroup(groups[i], reasons[i], cured), groupCommands(groups[i], deadline, commanded)})
	}
	return out
}

// startCauses lists what is to be told, by time.
func startCauses(tl *timeline.Timeline) []startCause {
	of := map[int]*timeline.GuestSummary{}
	for i := range tl.Summary.Guests {
		for _, n := range tl.Summary.Guests[i].Verdicts {
			of[n] = &tl.Summary.Guests[i]
		}
	}
	var list []startCause
	for i, v := range tl.Verdicts {
		if v.Outcome == timeline.OutcomeFine {
			continue
		}
		one := startCause{verdict: v, guest: of[i], name: v.Guest}
		if one.name == "" && len(v.Causes) > 0 {
			one.name = first(v.Causes[0].Disks)
		}
		for _, c := range v.Causes {
			one.cause = c
			list = append(list, one)
		}
		if len(v.Causes) == 0 {
			list = append(list, one)
		}
	}
	return list
}

func causeReason(a *startCause) reason {
	v, c := a.verdict, a.cause
	if c == nil {
		return reason{rough: joined("", flag(v.Guest != ""), joined(v.Unknown...))}
	}
	r := reason{rough: joined(c.Kind, string(c.Outcome), string(c.DeviceKind), c.Withheld, flag(v.Guest != ""), flag(c.Unopened), flag(c.Earlier != nil), c.Error, c.NoAnswer, c.Beneath, flag(c.Shorter),
		flag(c.Asked), flag(c.Held > 0), flag(slices.Contains(c.Findings, timeline.NotExecuted)), joined(c.Settings...), joined(c.Cures...))}
	if c.Last != nil {
		r.rough = joined(r.rough, c.Last.Kind, flag(c.Last.Came != nil))
	}
	for _, more := range []reason{stepReason(c.Step), command(c.By), command(c.Looker)} {
		r.rough, r.exact = joined(r.rough, more.rough), joined(r.exact, more.exact)
	}
	if len(c.Settings) > 0 {
		group, _, _ := devmap.Volume(first(c.Disks))
		r.exact = joined(r.exact, group)
	}
	if h := c.Hold; h != nil {
		r.rough = joined(r.rough, h.Mode, h.Program, string(h.Ended), h.Deadline.String(), flag(h.Untried))
	}
	if d := c.LVM; d != nil {
		r.exact = joined(r.exact, d.Owner, d.Pool, d.Part, d.Filter, d.Said, joined(d.Devices...))
	}
	return r
}

// told names the guests of a group, each once.
func told(group []startCause) []string {
	return distinct(group, func(a startCause) string { return a.name })
}

// verdictGroup tells one reason, of whom it is, and what helps. cured has of each
// list of cures the guest in whose group it was told.
func (t *Teller) verdictGroup(group []startCause, reasons int, cured map[string]string) Paragraph {
	example := group[0]
	for _, a := range group { // the hold that has to last longest is long enough for all
		if wait(&a) > wait(&example) {
			example = a
		}
	}
	v, c := example.verdict, example.cause
	var p Paragraph
	switch names := told(group); {
	case len(names) > 1:
		t.many(&p, group, names, reasons)
		p.Add(t.Name(example.name, PathCols)+":", Strong)
	case group[0].guest != nil && group[0].guest.Starts > 1 && v.Guest != "":
		t.again(&p, group)
	case c == nil:
		return t.NotKnown(v)
	default:
		return t.Cause(v, c)
	}
	if c == nil {
		p.Append(t.notKnown(v))
		return p
	}
	p.Append(t.reason(v, c))
	cures := joined(c.Cures...)
	if earlier := cured[cures]; earlier != "" {
		p.Say("To do:", Good)
		p.Say("the same as for", Plain)
		p.Add(t.Name(earlier, PathCols)+".", Plain)
		return p
	}
	cured[cures] = example.name
	t.cures(&p, c, t.saysCause(v, c))
	return p
}

func wait(a *startCause) event.Duration {
	if a.cause == nil || a.cause.Hold == nil {
		return 0
	}
	return a.cause.Hold.Wait
}

// outcomeVerbs say how it went for several guests, and for one.
var outcomeVerbs = map[timeline.Outcome][2]string{
	timeline.OutcomeFailed:  {"failed", "failed"},
	timeline.OutcomeUnknown: {"are not known", "is not known"},
	timeline.OutcomeAtRisk:  {"were at risk", "was at risk"},
}

// many says whom a reason concerns, where that is more than one guest.
func (t *Teller) many(p *Paragraph, group []startCause, names []string, reasons int) {
	p.Add(t.countOf(len(names), group[0].verdict.Guest), Strong)
	if group[0].verdict.Guest == "" {
		p.Say("without a guest, for one reason", Plain)
	} else {
		p.Say(outcomeVerbs[group[0].outcome()][0], OutcomeClass(group[0].outcome()).Style())
		if n := len(distinct(group, startOf)); n > len(names) {
			p.Say("in "+itoa(n)+" starts", Plain)
		}
		p.Say("for one reason", Plain)
	}
	t.reasons(p, reasons)
	p.Join(":", Plain)
	t.names(p, names)
	var down, unclear int
	seen := make(map[string]bool, len(names))
	for i := range group {
		if seen[group[i].name] {
			continue
		}
		seen[group[i].name] = true
		switch s := group[i].guest; {
		case s == nil || s.Guest == "":
		case s.Runs == timeline.RunsNo:
			down++
		case s.Runs == timeline.RunsUnknown:
			unclear++
		}
	}
	switch {
	case down == len(names):
		p.Join(";", Plain)
		p.Say("none of them runs at the end of the record", Plain)
	case down > 0:
		p.Join(";", Plain)
		p.Say(itoa(down)+" of them "+plural(down, "does", "do")+" not run at the end of the record", Plain)
	}
	if unclear > 0 {
		p.Join(";", Plain)
		p.Say("of "+itoa(unclear)+" it is not known whether "+plural(unclear, "it runs", "they run"), Plain)
	}
	p.Join(". One of them,", Plain)
}

func startOf(a startCause) string { return joined(a.verdict.GuestID, Seconds(a.verdict.At)) }

// again says how often one guest was started in vain, and whether it runs now.
func (t *Teller) again(p *Paragraph, group []startCause) {
	s, v := group[0].guest, group[0].verdict
	p.Say("Guest", Plain)
	p.Add(t.Name(v.Guest, NameCols), Strong)
	n := len(distinct(group, startOf))
	all := n
	if group[0].outcome() == s.Outcome {
		all = s.Bad // for other reasons, too
	}
	times := func(n int) string { return plural(n, "once", itoa(n)+" times") }
	p.Say(outcomeVerbs[group[0].outcome()][1]+" "+times(all)+" in "+itoa(s.Starts)+" starts,", OutcomeClass(group[0].outcome()).Style())
	if all > n {
		p.Say(times(n)+" for this reason,", Plain)
	}
	if n == 1 {
		p.Say("at", Plain)
	} else {
		p.Say("from", Plain)
		p.Add(t.At(v.At), Plain)
		p.Say("to", Plain)
	}
	p.Add(t.At(group[len(group)-1].verdict.At)+";", Plain)
	switch {
	case s.Runs == timeline.RunsNo:
		p.Say("it does not run at the end of the record.", Plain)
	case s.Runs == timeline.RunsUnknown:
		p.Say("whether it runs is not known.", Plain)
	case s.Since != nil:
		p.Say("it runs since", Plain)
		p.Add(t.At(*s.Since)+".", Plain)
	default:
		p.Say("it runs.", Plain)
	}
	p.Say(plural(n, "Why:", "One time:"), Plain)
}
