package otlp

import (
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/attribute"

	jsonexport "github.com/bootrace/bootrace/exporters/json"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
	"github.com/bootrace/bootrace/tracer/timeline/histories"
)

// What was seen inside the disks of guests is on their spans, to be searched for, and
// layer by layer on those of the looks.
func TestInsides(t *testing.T) {
	h, err := histories.Load("../../tracer/timeline/testdata/inside.txtar")
	if err != nil {
		t.Fatal(err)
	}
	boot := timeline.Boot{ID: "6c1d0a3e-5f3b-4f0e-9a53-0c3f8c2d5b11"}
	events := append(h.Events, event.Event{At: h.Events[len(h.Events)-1].At + 1, Kind: event.Clock, Clock: &event.ClockInfo{WallOffset: 1e18, Trusted: true}})
	spans := spansOf(requestsOf(t, standsOf(boot, events)))
	checkSpans(t, spans)
	for name, want := range map[string]map[attribute.Key]string{
		"guest vm1":  {keyInsideKind: "xfs", keyInsideShort: "2000"},
		"guest vm3":  {keyInsideKind: "ext", keyInsideState: "clean", keyInsideShort: "(none)"},
		"guest vm7":  {keyInsideState: "errors"},
		"guest vm8":  {keyInsideState: "hibernated"},
		"guest vm9":  {keyInsideKind: "luks,mbr,partition,xfs", keyInsideState: "dirty,encrypted"},
		"guest vm10": {keyInsideShort: "2000"},
	} {
		s := named(t, spans, name)
		for key, text := range want {
			if got := s.attr(key); got != text {
				t.Errorf("%s: %s is %s, want %s", name, key, got, text)
			}
		}
	}
	// The look itself has the layers.
	guest := named(t, spans, "guest vm3")
	var look *placed
	for i := range spans {
		if spans[i].Name() == "inside /dev/vg/b" && spans[i].ParentSpanID() == guest.SpanID() {
			look = &spans[i]
		}
	}
	if look == nil {
		t.Fatal("no span of the look into vm3's disk")
	}
	var layer ptrace.SpanEvent
	for _, e := range look.Events().All() {
		if e.Name() == "layer ext" {
			layer = e
		}
	}
	for key, text := range map[attribute.Key]string{keyInsideKind: "ext", keyInsideState: "clean", keyInsideNeeds: "1000", keyInsideHas: "1000", keyInsideDamaged: "true"} {
		if v, ok := layer.Attributes().Get(string(key)); !ok || v.AsString() != text {
			t.Errorf("the layer's %s is %s, want %s", key, v.AsString(), text)
		}
	}
	// The JSON form has the same.
	tl := timeline.Build(boot, timeline.Options{}, slices.Values(events))
	var text strings.Builder
	if err := jsonexport.Write(&text, tl); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"kind":"xfs"`, `"state":"dirty"`, `"needs_bytes":3000`, `"has_bytes":1000`} {
		if !strings.Contains(strings.ReplaceAll(text.String(), `": `, `":`), part) {
			t.Errorf("the JSON has no %s", part)
		}
	}
}
