package otlp

import (
	"fmt"
	"strings"

	"go.opentelemetry.io/otel/attribute"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// overview makes the boot's own span, the parent of all, and one for each part
// that the record does not cover. left is what has no room in the trace.
func (b *boot) overview(left timeline.Left) {
	tl := b.tl
	races := len(tl.Races())
	s := &span{
		lane: laneBoot, id: b.root, name: "boot", to: tl.Last,
		attrs: []attribute.KeyValue{
			keyResult.String(string(tl.Summary.Outcome)),
			keyRace.Bool(races > 0),
			keyRaces.Int(races), keyFindings.Int(len(tl.Findings)),
			keyGuests.Int(len(tl.Guests)), keyMappings.Int(len(tl.Mappings)),
			keyClockTrusted.Bool(b.memory.Wall.Trusted), keyClockError.Int64(b.memory.Wall.Uncertainty),
		},
	}
	if failed := tl.Summary.Counts.Failed; failed > 0 {
		s.failure = counted(failed, "guest") + " failed"
		if races > 0 {
			s.failure += ", " + counted(races, "race")
		}
	}
	if kinds := findingKinds(tl.Findings); len(kinds) > 0 {
		s.attrs = append(s.attrs, keyFinding.String(strings.Join(kinds, ",")))
	}
	if whys := reasons(tl.Incomplete); len(whys) > 0 {
		s.attrs = append(s.attrs, keyIncomplete.StringSlice(whys))
	}
	if left.Any() {
		teller := words.Teller{Signs: words.ASCII, Name: func(text string, _ int) string { return text }}
		said := teller.LeftOut(left)
		s.attrs = append(s.attrs, keyLeftOut.String(said.String()))
	}
	b.marks(s)
	b.losses(s)
	b.add(s)
	for _, g := range tl.Incomplete {
		b.gap(g)
	}
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// findingKinds lists the kinds of findings, each once, in their order.
func findingKinds(findings []*timeline.Finding) []string {
	var kinds []string
	seen := map[string]bool{}
	for _, f := range findings {
		if !seen[f.Kind] {
			seen[f.Kind] = true
			kinds = append(kinds, f.Kind)
		}
	}
	return kinds
}

// reasons are why the record is not complete, each once.
func reasons(gaps []timeline.Gap) []string {
	var whys []string
	seen := map[string]bool{}
	for _, g := range gaps {
		if !seen[g.Why] {
			seen[g.Why] = true
			whys = append(whys, g.Why)
		}
	}
	return whys
}

// marks are points of the boot, but the one that names the boot before: it is
// a link to that.
func (b *boot) marks(s *span) {
	for _, m := range b.tl.Marks {
		if m.Name == event.MarkPrevious {
			if id, err := TraceID(m.Text); err == nil && len(s.links) == 0 {
				s.links = append(s.links, link{boot: id, id: bootSpanID(id),
					attrs: []attribute.KeyValue{keyStep.String("previous boot"), keyBootID.String(m.Text)}})
			}
			continue
		}
		s.points = append(s.points, point{m.Name, m.At, optional(nil, keyText, m.Text)})
	}
	for _, src := range b.tl.Sources {
		var cannot []string
		for _, a := range src.Abilities {
			if !a.OK {
				cannot = append(cannot, strings.TrimSuffix("no "+a.Name+": "+a.Why, ": "))
			}
		}
		attrs := []attribute.KeyValue{keySource.String(src.Name)}
		if cannot != nil {
			attrs = append(attrs, keyText.StringSlice(cannot))
		}
		s.points = append(s.points, point{"attached", src.Attached, attrs})
	}
}

func (b *boot) losses(s *span) {
	for _, l := range b.tl.Losses {
		attrs := []attribute.KeyValue{keySource.String(l.Source), keyDetail.String(l.What)}
		s.points = append(s.points, point{"lost", l.At, optional(window(attrs, l.Instant), keyText, l.Why)})
	}
}

// gap shows where in the boot the record can't be trusted.
func (b *boot) gap(g timeline.Gap) {
	from := max(g.From, 0)
	b.add(&span{
		lane: laneBoot, id: b.spanID("gap", g.What+"\x00"+g.Why, from), parent: b.root,
		name: "not recorded: " + g.What, from: from, to: min(max(g.To, from), max(b.tl.Last, from)),
		attrs: []attribute.KeyValue{keyText.String(g.Why)},
	})
}

// seconds is a duration as people read it.
func seconds(d event.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }
