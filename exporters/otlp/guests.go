package otlp

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// quiet ends a guest's start: after so long without opening anything it runs.
// A guest lives for months, and a span must end.
const quiet = 30 * event.Duration(1e9)

// guests makes the spans of each guest: its start, from its exec, or where it
// was held from that, until it has opened its disks, with the hold, the exec
// and each open as children.
func (b *boot) guests() {
	for _, g := range b.tl.Guests {
		b.guest(g)
		b.sweep()
	}
	for _, f := range b.tl.Findings {
		if f.GuestID == "" {
			b.neverStarted(f)
			b.sweep()
		}
	}
}

// neverStarted is a guest of which there is nothing but a vain look for its
// disk.
func (b *boot) neverStarted(f *timeline.Finding) {
	s := &span{
		lane: laneGuests, id: b.spanID("never started", f.Disk, f.At), parent: b.root,
		name: f.Kind + " " + f.Disk, from: f.At, to: f.At,
		attrs: append(b.findingAttrs(f), b.processAttrs(f.By)...),
	}
	if f.Withheld == "" {
		s.failure = findingText(f)
	}
	if a := b.activationAt(f.Mapping, f.At); a != nil {
		s.links = append(s.links, link{id: a.id, attrs: []attribute.KeyValue{keyStep.String("activation of the disk")}})
	}
	b.add(s)
	b.chain([]*timeline.Finding{f}, s.id)
}

func (b *boot) guest(g *timeline.Guest) {
	p := startOf(g)
	s := &span{
		lane: laneGuests, id: b.spanID("guest", g.ID, p.from), parent: b.root,
		name: "guest " + nameOf(g), from: p.from, to: p.to, attrs: b.guestAttrs(g),
	}
	if g.Backfilled {
		s.attrs = append(s.attrs, keyBackfilled.Bool(true))
	}
	b.verdict(s, b.findingsOf(g))
	s.attrs = optional(s.attrs, keyCause, b.causesOf(g))
	if v := b.verdictOf(g); v != nil {
		s.attrs = append(s.attrs, keyResult.String(string(v.Outcome)))
		if v.Outcome == timeline.OutcomeFailed && s.failure == "" {
			s.failure = cmp.Or(b.causesOf(g), "failed")
		}
	}
	if e := g.Exit; e != nil && e.At <= p.to {
		s.attrs = append(s.attrs, exitAttrs(e)...)
		if failed(e) {
			s.failure = strings.TrimPrefix(s.failure+"; "+exitText(e), "; ")
		}
	}
	b.holds(g, s.id)
	if !g.Backfilled && !g.Unstarted {
		b.add(&span{
			lane: laneGuests, id: b.spanID("exec", g.ID, g.Exec.At), parent: s.id,
			name: "exec " + lastPart(g.Binary), from: g.Exec.From, to: g.Exec.At, attrs: b.guestAttrs(g),
		})
	}
	for i := range g.Disks {
		for j := range g.Disks[i].Uses {
			b.use(g, &g.Disks[i], j, s.id)
		}
	}
	s.attrs = append(s.attrs, b.insides(g, s.id)...)
	b.exit(g, s.id)
	b.add(s)
}

// startOf is from the guest's exec, or its hold, until it opened no more.
func startOf(g *timeline.Guest) period {
	p := period{g.Exec.From, g.Exec.At}
	if g.Exec.OrBefore {
		p.from = g.Exec.At
	}
	for _, h := range g.Holds {
		p.from = min(p.from, h.From)
		if h.Released != nil {
			p.to = max(p.to, h.Released.At)
		}
	}
	var opens []event.Time
	for i := range g.Disks {
		for j := range g.Disks[i].Uses {
			opens = append(opens, usesOf(&g.Disks[i].Uses[j])...)
		}
	}
	slices.Sort(opens)
	for _, at := range opens {
		if at > p.to && at.Sub(p.to) <= quiet {
			p.to = at
		}
	}
	if e := g.Exit; e != nil && e.At >= p.from && e.At.Sub(p.to) <= quiet {
		p.to = max(p.to, e.At)
	}
	return p
}

// usesOf lists the instants of a run of opens.
func usesOf(u *timeline.Use) []event.Time {
	at := []event.Time{u.At}
	for _, o := range u.Opens {
		at = append(at, o.At)
	}
	return at
}

func nameOf(g *timeline.Guest) string { return cmp.Or(g.Name, g.Identity, g.ID) }

func lastPart(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func (b *boot) guestAttrs(g *timeline.Guest) []attribute.KeyValue {
	attrs := append(b.list(), keyGuest.String(nameOf(g)), semconv.ProcessPIDKey.Int(g.PID))
	attrs = optional(attrs, keyGuestUUID, g.UUID)
	attrs = optional(attrs, keyIdentity, g.Identity)
	attrs = optional(attrs, keyIdentityFrom, g.IdentityFrom)
	attrs = optional(attrs, semconv.ProcessExecutablePathKey, g.Binary)
	if g.PPID != 0 {
		attrs = append(attrs, semconv.ProcessParentPIDKey.Int(g.PPID))
	}
	return attrs
}

// findingsOf are those of all disks of the guest, and of the guest itself.
func (b *boot) findingsOf(g *timeline.Guest) []*timeline.Finding {
	if b.byGuest == nil {
		b.byGuest = map[string][]*timeline.Finding{}
		for _, f := range b.tl.Findings {
			b.byGuest[f.GuestID] = append(b.byGuest[f.GuestID], f)
		}
	}
	return b.byGuest[g.ID]
}

// verdictOf is what is said about a start.
func (b *boot) verdictOf(g *timeline.Guest) *timeline.Verdict {
	if b.byStart == nil {
		b.byStart = map[string]*timeline.Verdict{}
		for _, v := range b.tl.Verdicts {
			b.byStart[v.GuestID] = v
		}
	}
	return b.byStart[g.ID]
}

// causesOf are the kinds of what the findings come to.
func (b *boot) causesOf(g *timeline.Guest) string {
	var kinds []string
	if v := b.verdictOf(g); v != nil {
		for _, c := range v.Causes {
			if c.Withheld == "" && !slices.Contains(kinds, c.Kind) {
				kinds = append(kinds, c.Kind)
			}
		}
	}
	return strings.Join(kinds, ",")
}

// verdict marks s with what was found: a race or another failure is an error,
// and each finding a point with its evidence.
func (b *boot) verdict(s *span, findings []*timeline.Finding) {
	race := false
	for _, f := range findings {
		race = race || f.Race && f.Withheld == ""
		s.points = append(s.points, point{f.Kind, f.At, b.findingAttrs(f)})
	}
	s.attrs = append(s.attrs, keyRace.Bool(race))
	if kinds := findingKinds(findings); len(kinds) > 0 {
		s.attrs = append(s.attrs, keyFinding.String(strings.Join(kinds, ",")))
	}
	if race {
		s.failure = strings.Join(raceTexts(findings), "; ")
	}
}

func raceTexts(findings []*timeline.Finding) []string {
	const most = 3
	var texts []string
	for _, f := range findings {
		if !f.Race || f.Withheld != "" {
			continue
		}
		if len(texts) == most {
			return append(texts, "and more")
		}
		texts = append(texts, findingText(f))
	}
	return texts
}

// findingText says it in one line; the attributes have all of it.
func findingText(f *timeline.Finding) string {
	text := f.Kind + ": " + f.Disk
	if f.Error != "" {
		text += " (" + f.Error + ")"
	}
	if f.Negative() {
		text += ", " + seconds(-(f.NS + f.Width/2)) + " too early"
	}
	return text
}

func (b *boot) findingAttrs(f *timeline.Finding) []attribute.KeyValue {
	if attrs, made := b.made[f]; made {
		return attrs
	}
	attrs := append(b.list(),
		keyFinding.String(f.Kind), keyRace.Bool(f.Race && f.Withheld == ""), keyGuest.String(f.Guest),
		semconv.FilePathKey.String(f.Disk), keyText.String(findingText(f)), keyEvidence.Int64Slice(signed(f.Evidence)))
	attrs = optional(attrs, keyWithheld, f.Withheld)
	attrs = optional(attrs, keyBackingOf, f.BackingOf)
	attrs = optional(attrs, keyMapping, f.MappingName)
	attrs = optional(attrs, keyState, f.State)
	attrs = optional(attrs, keyReason, f.Reason)
	attrs = optional(attrs, keyOutcome, string(f.Outcome))
	attrs = optional(attrs, semconv.ErrorTypeKey, f.Error)
	if f.Held > 0 {
		attrs = append(attrs, keyHeld.Int64(int64(f.Held)))
	}
	attrs = marginAttrs(attrs, f.Margin)
	attrs = attrs[:len(attrs):len(attrs)] // each that has more appends to its own
	b.made[f] = attrs
	return attrs
}

func marginAttrs(attrs []attribute.KeyValue, m *timeline.Margin) []attribute.KeyValue {
	if m == nil {
		return attrs
	}
	attrs = append(attrs, keyMargin.Int64(int64(m.NS)), keyMarginErr.Int64(int64(m.Width)))
	if m.AtLeast {
		attrs = append(attrs, keyAtLeast.Bool(true))
	}
	return attrs
}

func signed(ids []uint64) []int64 {
	out := make([]int64, len(ids))
	for i, id := range ids {
		out[i] = int64(id)
	}
	return out
}

// holds makes a span of each time in which the start was kept back. One that
// goes on is not over, so it has none yet.
func (b *boot) holds(g *timeline.Guest, parent trace.SpanID) {
	for _, h := range g.Holds {
		if h.Released == nil && !b.ended {
			continue
		}
		s := &span{
			lane: laneHold, id: b.spanID("hold", g.ID, h.At), parent: parent,
			name: "hold " + nameOf(g), from: h.From, to: b.tl.Last,
			attrs: append(b.list(), keyGuest.String(nameOf(g)), keyBlockers.StringSlice(h.Blockers)),
		}
		s.attrs = optional(s.attrs, keyReason, string(h.Reason))
		s.attrs = optional(s.attrs, keyOutcome, string(h.Outcome))
		s.attrs = optional(s.attrs, semconv.FilePathKey, h.Disk)
		if h.Released != nil {
			s.to = h.Released.At
		} else {
			s.failure = "not released while the record lasts"
		}
		b.add(s)
	}
}

// use makes a span of one open, or of a run of opens with the same outcome. The
// first one of each disk carries the findings.
func (b *boot) use(g *timeline.Guest, d *timeline.Disk, i int, parent trace.SpanID) {
	u := &d.Uses[i]
	s := &span{
		lane: laneGuests, id: b.spanID("open", g.ID+"\x00"+d.Path, u.At), parent: parent,
		name: "open " + d.Path, from: u.From, to: u.At, attrs: b.useAttrs(g, d, u),
	}
	for _, o := range u.Opens[min(1, len(u.Opens)):] {
		if o.At.Sub(u.At) <= quiet {
			s.points = append(s.points, point{"opened again", o.At, []attribute.KeyValue{semconv.ProcessPIDKey.Int(o.PID)}})
		}
	}
	if i == 0 {
		b.verdict(s, b.verdicts[[2]string{g.ID, d.Path}])
	} else {
		s.attrs = append(s.attrs, keyRace.Bool(false))
	}
	if u.Errno != 0 && s.failure == "" {
		s.failure = u.Error
	}
	if a := b.activationAt(u.Mapping, u.At); a != nil {
		s.links = append(s.links, link{id: a.id, attrs: []attribute.KeyValue{keyStep.String("activation of the disk")}})
	}
	b.tooEarly(g, d, u, s)
	b.add(s)
	if i == 0 {
		b.chain(b.verdicts[[2]string{g.ID, d.Path}], s.id)
	}
}

func (b *boot) useAttrs(g *timeline.Guest, d *timeline.Disk, u *timeline.Use) []attribute.KeyValue {
	attrs := append(b.list(), keyGuest.String(nameOf(g)), semconv.FilePathKey.String(d.Path), semconv.ProcessPIDKey.Int(g.PID))
	attrs = optional(attrs, keyDiskID, d.ID)
	attrs = optional(attrs, keyDiskFormat, d.Format)
	attrs = optional(attrs, keyDiskKind, d.Kind)
	attrs = optional(attrs, keyBackingOf, d.BackingOf)
	attrs = optional(attrs, keyMappingUUID, u.Mapping)
	attrs = optional(attrs, semconv.ErrorTypeKey, u.Error)
	if u.Dev != nil {
		attrs = append(attrs, keyDev.String(number(*u.Dev)))
	}
	if u.Size >= 0 && u.Errno == 0 {
		attrs = append(attrs, keySize.Int64(u.Size))
	}
	return marginAttrs(window(attrs, u.Instant), u.Margin)
}

// activationAt is the life of the mapping that was there at the time, else the
// one that came next, else the last.
func (b *boot) activationAt(mapping string, at event.Time) *activation {
	lives := b.activations[mapping]
	for i := range lives {
		if lives[i].end == 0 || lives[i].end > at {
			return &lives[i]
		}
	}
	if len(lives) > 0 {
		return &lives[len(lives)-1]
	}
	return nil
}

// tooEarly shows by how much a guest came too early: from its open until the
// disk was ready.
func (b *boot) tooEarly(g *timeline.Guest, d *timeline.Disk, u *timeline.Use, open *span) {
	if !u.Negative() || u.Ready == nil {
		return
	}
	b.add(&span{
		lane: laneGuests, id: b.spanID("too early", g.ID+"\x00"+d.Path, u.At), parent: open.id,
		name: "too early: " + d.Path, from: u.At, to: u.Ready.At, failure: "the disk was not ready",
		attrs: marginAttrs(append(b.list(), keyGuest.String(nameOf(g)), semconv.FilePathKey.String(d.Path)), u.Margin),
	})
}

// chain shows why a disk was ready no sooner: the steps from the device beneath
// it to udev's link, the longest marked.
func (b *boot) chain(findings []*timeline.Finding, open trace.SpanID) {
	for _, f := range findings {
		if f.Late == nil || len(f.Late.Steps) == 0 {
			continue
		}
		steps := f.Late.Steps
		s := &span{
			lane: laneMapper, id: b.spanID("chain", f.Mapping+"\x00"+f.Disk, steps[len(steps)-1].To), parent: b.root,
			name: "why " + f.Disk + " was ready no sooner", from: steps[0].From, to: steps[len(steps)-1].To,
			attrs: optional(append(b.list(), semconv.FilePathKey.String(f.Disk)), keyMapping, f.MappingName),
			links: []link{{id: open, attrs: []attribute.KeyValue{keyStep.String("what came too early")}}},
		}
		for i, step := range steps {
			b.add(&span{
				lane: laneMapper, id: b.spanID("chain step", fmt.Sprint(f.Mapping, "\x00", f.Disk, "\x00", i), step.From), parent: s.id,
				name: "until " + strings.TrimSpace(step.Kind+" "+step.Detail), from: step.From, to: step.To,
				attrs: append(b.list(), keyStep.String(step.Kind), keyDetail.String(step.Detail), keyLongest.Bool(i == f.Late.Longest)),
			})
		}
		b.add(s)
		return
	}
}

// exit is a point of its own: the guest may have run for long.
func (b *boot) exit(g *timeline.Guest, parent trace.SpanID) {
	e := g.Exit
	if e == nil {
		return
	}
	s := &span{
		lane: laneGuests, id: b.spanID("exit", g.ID, e.At), parent: parent,
		name: "exit " + nameOf(g), from: e.At, to: e.At, attrs: append(b.guestAttrs(g), exitAttrs(e)...),
	}
	if failed(e) {
		s.failure = exitText(e)
	}
	b.add(s)
}

func exitAttrs(e *timeline.Exit) []attribute.KeyValue {
	attrs := []attribute.KeyValue{semconv.ProcessExitCodeKey.Int(e.Status)}
	if e.Signal != 0 {
		attrs = append(attrs, keySignal.Int(e.Signal))
	}
	return attrs
}

func failed(e *timeline.Exit) bool { return e.Status != 0 || e.Signal != 0 }

func exitText(e *timeline.Exit) string {
	if e.Signal != 0 {
		return fmt.Sprintf("killed by signal %d", e.Signal)
	}
	return fmt.Sprintf("exit status %d", e.Status)
}
