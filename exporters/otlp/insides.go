package otlp

import (
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/inspect"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// insides makes a span of each look into a disk of the guest, with a point for each
// layer that was seen, and returns what the guest's own span has of all of them.
func (b *boot) insides(g *timeline.Guest, parent trace.SpanID) []attribute.KeyValue {
	var all insideOf
	for i := range g.Disks {
		d := &g.Disks[i]
		in := d.Inside
		if in == nil {
			continue
		}
		s := &span{
			lane: laneGuests, id: b.spanID("inside", g.ID+"\x00"+d.Path, in.At), parent: parent,
			name: "inside " + d.Path, from: in.From, to: in.At,
			attrs: append(b.list(), keyGuest.String(nameOf(g)), semconv.FilePathKey.String(d.Path), keyInsideLive.Bool(in.Live)),
		}
		s.attrs = optional(s.attrs, keyDiskID, d.ID)
		if len(in.Unknown) > 0 {
			s.attrs = append(s.attrs, keyInsideUnknown.StringSlice(in.Unknown))
		}
		var seen insideOf
		for i := range in.Layers {
			l := &in.Layers[i]
			if l.Kind != string(inspect.KindImage) && l.Kind != string(inspect.KindDisk) {
				seen.add(l)
			}
			s.points = append(s.points, point{"layer " + strings.TrimSpace(l.Kind+" "+l.Name), in.At, layerAttrs(l)})
		}
		s.attrs = append(s.attrs, seen.attrs()...)
		b.add(s)
		all.join(&seen)
	}
	return all.attrs()
}

// insideOf is what some layers come to.
type insideOf struct {
	kinds, states []string
	short         int64
}

func (o *insideOf) add(l *event.InsideLayer) {
	o.kinds = append(o.kinds, l.Kind)
	if l.State != "" {
		o.states = append(o.states, l.State)
	}
	o.short = max(o.short, l.Short())
}

func (o *insideOf) join(other *insideOf) {
	o.kinds, o.states = append(o.kinds, other.kinds...), append(o.states, other.states...)
	o.short = max(o.short, other.short)
}

func (o *insideOf) attrs() []attribute.KeyValue {
	joined := func(list []string) string {
		return strings.Join(slices.Compact(slices.Sorted(slices.Values(list))), ",")
	}
	attrs := optional(nil, keyInsideKind, joined(o.kinds))
	attrs = optional(attrs, keyInsideState, joined(o.states))
	if o.short > 0 {
		attrs = append(attrs, keyInsideShort.Int64(o.short))
	}
	return attrs
}

func layerAttrs(l *event.InsideLayer) []attribute.KeyValue {
	attrs := []attribute.KeyValue{keyInsideKind.String(l.Kind)}
	attrs = optional(attrs, keyInsideName, l.Name)
	attrs = optional(attrs, keyInsideDetail, l.Detail)
	attrs = optional(attrs, keyInsideUUID, l.UUID)
	attrs = optional(attrs, keyInsideState, l.State)
	attrs = optional(attrs, keyReason, l.Why)
	if l.Needs > 0 {
		attrs = append(attrs, keyInsideNeeds.Int64(l.Needs))
	}
	if l.Has >= 0 {
		attrs = append(attrs, keyInsideHas.Int64(l.Has))
	}
	if short := l.Short(); short > 0 {
		attrs = append(attrs, keyInsideShort.Int64(short))
	}
	if len(l.Damage) > 0 || l.Absent > 0 {
		attrs = append(attrs, keyInsideDamaged.Bool(true))
	}
	return attrs
}
