package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
)

// What a gap can concern: an ability of a source, or all.
const (
	whatAll    = "all"
	whatDM     = "dm"
	whatOpen   = "open"
	whatExec   = "exec"
	whatExit   = "exit"
	whatUevent = "uevent"
	whatUdev   = "udev"
	whatLink   = "link"
	whatMount  = "mount"
	whatWay    = "way" // where the links of guests' paths led
)

// needed is what verdicts are made of. Links and exact instants make margins
// narrower; without them the windows are wider, and still true.
var needed = []string{whatDM, whatOpen, whatExec, whatExit, whatUevent, whatUdev}

// Names of sources and states that the record's coverage depends on.
const (
	sourceSnapshot = "snapshot"
	sourceMounts   = "mounts"
	stateAttached  = "attached"
	stateUpgraded  = "upgraded"
	stateEnded     = "ended"
	markStart      = "start"
	markStop       = "stop"
	markRelinquish = "relinquish" // the host goes down, and the log's disk with it
)

// gaps are the parts of the boot that the record does not cover.
type gaps []Gap

// overlap reports whether something about what can be missing in [from, to].
func (g gaps) overlap(what string, from, to event.Time) bool {
	return g.find([]string{what}, from, to, ofNobody) != nil
}

// whose says of which gaps of one user, or one guest, it matters that events may be
// missing: nothing is missing there about anybody else.
type whose func(own *Gap) bool

func ofNobody(*Gap) bool  { return false }
func ofAnybody(*Gap) bool { return true }

// find returns the first gap in [from, to] that concerns one of the subjects, and
// everybody or one of those users or guests.
func (g gaps) find(subjects []string, from, to event.Time, users whose) *Gap {
	for i := range g {
		gap := &g[i]
		if gap.From <= to && gap.To >= from && gap.concerns(subjects...) && (!gap.own() || users(gap)) {
			return gap
		}
	}
	return nil
}

// own reports whether the gap is of one user, or one guest, alone.
func (g *Gap) own() bool { return g.UID != 0 || g.PID != 0 }

// concerns reports whether something about one of the subjects can be missing.
func (g *Gap) concerns(subjects ...string) bool {
	return g.What == whatAll || slices.Contains(subjects, g.What)
}

// reason says what is missing, and why.
func (g *Gap) reason() string {
	if g.What == whatAll {
		return g.Why
	}
	return g.What + ": " + g.Why
}

// lossSubject maps what a source lost to what may be missing.
func lossSubject(l *event.LossInfo) string {
	what := strings.ToLower(l.What)
	switch {
	case strings.HasPrefix(what, "dm"):
		return whatDM
	case what == "fork":
		return whatExec
	case slices.Contains(harmless, what):
		return what
	case what == whatLink, what == whatWay, what == whatLook, slices.Contains(needed, what):
		return what
	case l.Source == whatUevent, l.Source == whatUdev, l.Source == "net":
		return l.Source
	default:
		return whatAll
	}
}

// harmless is what is recorded and no verdict depends on: a network link, a
// start that nobody looked at, a look into a disk. Where such a look is missing, the
// disk says so.
var harmless = []string{"net", "hold", "inside"}

// whatLook is an open by a program that is not known as a guest. No guest is in doubt
// where one of root's was lost, but the boot is: it can have been a hypervisor's that
// bootrace has no parser for.
const whatLook = "look"

// ofUser maps what was lost of one user alone. Of users other than root nothing
// says what a device is: a link of theirs is in a folder that is theirs.
var ofUser = map[string][]string{
	"exec": {whatExec}, "fork": {whatExec}, "exit": {whatExit}, "open": {whatOpen},
	"guest": {whatOpen, whatExit}, // a process that was not followed, or what is known of its disks
	"way":   {whatWay, whatOpen},
	"mount": {whatMount}, // of FUSE: nobody else's disks are there
}

// lossGaps are the gaps of losses that matter.
func lossGaps(losses []Loss) gaps {
	var out gaps
	for i := range losses {
		l := &losses[i]
		if l.UID != 0 || l.PID != 0 {
			for _, what := range ofUser[l.What] {
				out = append(out, Gap{From: l.From, To: l.At, What: what, UID: l.UID, PID: l.PID, Event: l.Event, Why: lossReason(&l.LossInfo)})
			}
			continue
		}
		what := lossSubject(&l.LossInfo)
		if slices.Contains(harmless, what) {
			continue
		}
		out = append(out, Gap{From: l.From, To: l.At, What: what, Event: l.Event, Why: lossReason(&l.LossInfo)})
	}
	return out
}

func lossReason(l *event.LossInfo) string {
	why := fmt.Sprintf("%s may have lost events (%s)", l.Source, l.What)
	switch {
	case l.Count > 0:
		why = fmt.Sprintf("%s lost %d events (%s)", l.Source, l.Count, l.What)
		if l.Why != "" {
			why += ": " + l.Why
		}
	case l.Why != "":
		why = l.Why
	}
	if l.Recovered {
		why += "; a snapshot has since put the states right"
	}
	return why
}

// laterKind is what is known of a kind of events that a later version recorded:
// how many there are, and when they were.
type laterKind struct {
	count    int
	from, to event.Time
}

func (b *Builder) addLater(e *event.Event) {
	s := stampOf(e)
	k := b.later[e.Kind]
	if k == nil {
		k = &laterKind{from: s.from, to: s.at}
		b.later[event.Kind(strings.Clone(string(e.Kind)))] = k
	}
	k.count++
	k.from, k.to = min(k.from, s.from), max(k.to, s.at)
}

// laterGaps are the times of events that only a later version understands. What
// they would have said is not known, so it may concern anything.
func (b *Builder) laterGaps() gaps {
	var out gaps
	for kind, k := range b.later {
		out = append(out, Gap{
			From: k.from, To: k.to, What: whatAll,
			Why: fmt.Sprintf("%s of a later version of bootrace: %s; upgrade it to read them", counted(k.count, "event"), kind),
		})
	}
	return out.sort()
}

// coverage works out which sources were attached when.
type coverage struct {
	sources []*sourceFact // in order of time
	marks   []Mark        // in order of time
	losses  []Loss
	last    event.Time
}

// spans lists the sources for the Timeline.
func (c *coverage) spans() []Source {
	out := []Source{}
	open := map[string]int{}
	for _, f := range c.sources {
		i, known := open[f.info.Name]
		switch f.info.State {
		case stateEnded:
			if known {
				out[i].Ended = &f.at
				delete(open, f.info.Name)
			}
		case stateUpgraded:
			if known {
				out[i].Abilities = merged(out[i].Abilities, f.info.Abilities)
			}
		default:
			open[f.info.Name] = len(out)
			out = append(out, Source{Name: f.info.Name, Attached: f.at, Abilities: f.info.Abilities})
		}
	}
	return out
}

// merged replaces abilities by those of the same name.
func merged(old, add []event.Ability) []event.Ability {
	out := slices.Clone(old)
	for _, a := range add {
		if i := slices.IndexFunc(out, func(o event.Ability) bool { return o.Name == a.Name }); i >= 0 {
			out[i] = a
		} else {
			out = append(out, a)
		}
	}
	return out
}

// tells reports whether a source that was attached with f sees what.
func tells(f *event.SourceInfo, what string) bool {
	for _, a := range f.Abilities {
		if a.Name == what {
			return a.OK
		}
	}
	// The uevent and udev sources are abilities by themselves.
	return f.Name == what
}

// since returns when a source was first attached that tells what, nil if none was.
func (c *coverage) since(what string) *event.Time {
	for _, f := range c.sources {
		if f.info.State != stateEnded && tells(&f.info, what) {
			return &f.at
		}
	}
	return nil
}

// partly returns why the sources miss some or all of what: the last reason given, empty
// if there is none.
func (c *coverage) partly(what string) string {
	why := ""
	for _, f := range c.sources {
		for _, a := range f.info.Abilities {
			switch {
			case f.info.State == stateEnded || a.Name != what:
			case a.Why != "" || a.OK:
				why = a.Why
			default:
				why = f.info.Name + " can't tell"
			}
		}
	}
	for i := range c.losses {
		if l := &c.losses[i]; l.Source == sourceMounts && c.since(what) == nil {
			why = lossReason(&l.LossInfo)
		}
	}
	return why
}

// gaps returns, for each thing that is needed, the times in which no source
// told it. existed says why the time before the first one counts, empty if
// nothing existed then.
func (c *coverage) gaps(existed string) gaps {
	var out gaps
	for _, what := range needed {
		out = append(out, c.absent(what, existed)...)
	}
	return out
}

func (c *coverage) absent(what, existed string) gaps {
	var out gaps
	attached, since, ever := "", event.Time(0), false // since: of the attachment, or of its end
	last := ""
	for _, f := range c.sources {
		switch {
		case f.info.State == stateEnded:
			if attached == f.info.Name {
				attached, last, since = "", attached, f.at
			}
		case !tells(&f.info, what):
		case attached == "":
			if why := absence(ever, existed); why != "" {
				out = append(out, Gap{From: since, To: f.at, What: what, Why: why, Event: f.id})
			}
			attached, since, ever = f.info.Name, f.at, true
		case f.info.State == stateAttached && attached == f.info.Name:
			out = append(out, c.restart(what, since, f))
			since = f.at
		}
	}
	if attached == "" && !c.closed(last, since) {
		why := "no source tells of these events"
		if ever {
			why = "the source of these events ended"
		}
		out = append(out, Gap{From: since, To: c.last, What: what, Why: why})
	}
	return out
}

func absence(ever bool, existed string) string {
	switch {
	case ever:
		return "the source of these events was away"
	case existed != "":
		return "tracing began late: " + existed
	default:
		return ""
	}
}

// restart is the time between two runs of the service in one boot: from the
// loss that the second one notes first, else from its start, to the source's
// attachment. earlier is when the first run had attached it.
func (c *coverage) restart(what string, earlier event.Time, f *sourceFact) Gap {
	gap := Gap{From: f.at, To: f.at, What: what, Event: f.id, Why: "bootrace was restarted"}
	for i := range c.marks {
		if m := &c.marks[i]; m.Name == markStart && m.At <= f.at {
			gap.From = m.At
		}
	}
	for i := range c.losses {
		if l := &c.losses[i]; l.UID == 0 && l.PID == 0 && lossSubject(&l.LossInfo) == whatAll && l.At <= f.at && l.At >= earlier {
			gap.From = min(gap.From, l.From)
		}
	}
	return gap
}

// closed reports whether source ended at from because the record did: the
// sources end first then. One that failed has noted a loss.
func (c *coverage) closed(source string, from event.Time) bool {
	failed := slices.ContainsFunc(c.losses, func(l Loss) bool { return l.Source == source && l.At >= from })
	if source == "" || failed {
		return false
	}
	for i := len(c.marks) - 1; i >= 0; i-- {
		switch m := &c.marks[i]; m.Name {
		case markStop, markRelinquish:
			return m.At >= from
		case markStart:
			return false
		}
	}
	return false
}

// tail is the gap at the end of a record that nobody closed.
func (c *coverage) tail() gaps {
	for i := len(c.marks) - 1; i >= 0; i-- {
		switch c.marks[i].Name {
		case markStop, markRelinquish:
			return nil
		case markStart:
			return c.unfinished()
		}
	}
	return c.unfinished()
}

func (c *coverage) unfinished() gaps {
	return gaps{{From: c.last, To: c.last, What: whatAll, Why: "the record has no end: the host or the service stopped without notice"}}
}

// sort orders gaps by time.
func (g gaps) sort() gaps {
	slices.SortStableFunc(g, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.What, b.What), cmp.Compare(a.Why, b.Why), cmp.Compare(a.Event, b.Event))
	})
	return slices.Compact(g)
}

// joined returns gaps in order of time, as a Timeline lists them: those that
// differ in nothing but their subject are one.
func (g gaps) joined() []Gap {
	out := []Gap{}
	for _, gap := range g {
		i := slices.IndexFunc(out, func(o Gap) bool {
			return o.From == gap.From && o.To == gap.To && o.UID == gap.UID && o.PID == gap.PID && o.Why == gap.Why
		})
		if i < 0 {
			out = append(out, gap)
		} else if out[i].What != gap.What {
			out[i].What += "," + gap.What
		}
	}
	return out
}

// completeFrom returns the instant from which on nothing is missing until the
// record's end, nil if there is none.
func (g gaps) completeFrom(last event.Time) *event.Time {
	var from event.Time
	for _, gap := range g {
		if gap.From == last && gap.To == last {
			continue // the missing end is beyond the record
		}
		from = max(from, gap.To)
	}
	if from >= last && len(g) > 0 && from != 0 {
		return nil
	}
	return &from
}
