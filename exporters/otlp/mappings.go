package otlp

import (
	"cmp"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// laneOf is the lane of a device: device-mapper's own, and one for all other
// storage.
func laneOf(m *timeline.Mapping) string {
	if m.Kind == blockdev.Mapping {
		return laneMapper
	}
	return laneStorage
}

// verb is what makes such a device usable.
func verb(m *timeline.Mapping) string {
	switch m.Kind {
	case blockdev.Mapping:
		return "activate "
	case timeline.KindMount:
		return "mount "
	}
	return "appear "
}

// mappings makes the spans of devices and udev: for each life of a
// device one from its creation until udev had finished with it, with the
// states that it went through and udev's part as children. What happens to it
// later has spans of its own, because the first one must not change any more.
func (b *boot) mappings() {
	for _, m := range b.tl.Mappings {
		for _, l := range m.Lives {
			b.life(m, l)
			b.sweep()
		}
	}
}

// period is the part of a life in which a mapping becomes usable.
type period struct{ from, to event.Time }

// activationOf is from the creation, or where that was not seen the first
// thing that was, until udev first had finished with the live device.
func activationOf(l *timeline.Life) (p period, ok bool) {
	if len(l.Steps) == 0 {
		return period{}, false
	}
	first := l.Steps[0]
	p.from, p.to = first.From, first.At
	if first.OrBefore {
		p.from = first.At
	}
	for _, i := range []*timeline.Instant{l.Created, l.Live, l.Udev} {
		if i != nil && !i.OrBefore {
			p.from, p.to = min(p.from, i.From), max(p.to, i.At)
		}
	}
	return p, true
}

func (b *boot) life(m *timeline.Mapping, l *timeline.Life) {
	p, ok := activationOf(l)
	if !ok {
		return
	}
	s := &span{
		lane: laneOf(m), id: b.spanID("mapping", m.ID, p.from), parent: b.root,
		name: verb(m) + m.Name, from: p.from, to: p.to, attrs: b.mappingAttrs(m, l),
	}
	a := activation{id: s.id, start: p.from}
	if l.Removed != nil {
		a.end = l.Removed.At
	}
	b.activations[m.ID] = append(b.activations[m.ID], a)
	if l.Backfilled {
		s.name = "found " + m.Name
		s.attrs = append(s.attrs, keyFound.Bool(true))
	}
	s.attrs = append(s.attrs, keyState.String(stateOf(l)))
	b.commandLink(s, m, l)
	b.states(m, l, s)
	b.handling(m, l, s)
	b.changes(m, l, s, p)
	b.add(s)
}

func (b *boot) mappingAttrs(m *timeline.Mapping, l *timeline.Life) []attribute.KeyValue {
	attrs := append(b.list(), keyMapping.String(m.Name), keyKind.String(string(m.Kind)))
	attrs = optional(attrs, keyMappingUUID, m.UUID)
	attrs = optional(attrs, keyVG, m.VG)
	attrs = optional(attrs, keyLV, m.LV)
	if !l.Dev.IsZero() {
		attrs = append(attrs, keyDev.String(number(l.Dev)))
	}
	if l.Size > 0 {
		attrs = append(attrs, keySize.Int64(l.Size))
	}
	if len(l.Table) > 0 {
		attrs = append(attrs, keyTable.StringSlice(l.Table))
	}
	if l.Private {
		attrs = append(attrs, keyPrivate.Bool(true))
	}
	return attrs
}

// stateOf is how far an activation has come: created, loaded, live, linked.
func stateOf(l *timeline.Life) string {
	switch {
	case l.Udev != nil:
		return "linked"
	case l.Live != nil:
		return timeline.StepLive
	}
	state := timeline.StepCreated
	for _, s := range l.Steps {
		switch s.Kind {
		case timeline.StepLoaded:
			state = timeline.StepLoaded
		case timeline.StepFound:
			state = cmp.Or(s.State, state)
		}
	}
	return state
}

// states are the times that the mapping spent in each state until it was
// usable: what took long shows as a long bar.
func (b *boot) states(m *timeline.Mapping, l *timeline.Life, parent *span) {
	var loaded *timeline.Instant
	for i := range l.Steps {
		if s := &l.Steps[i]; s.Kind == timeline.StepLoaded && (l.Live == nil || s.At <= l.Live.At) {
			loaded = &s.Instant
			break
		}
	}
	b.state(m, parent, timeline.StepCreated, l.Created, first(loaded, l.Live))
	b.state(m, parent, timeline.StepLoaded, loaded, l.Live)
	b.state(m, parent, timeline.StepLive, l.Live, l.Udev)
}

func first(instants ...*timeline.Instant) *timeline.Instant {
	for _, i := range instants {
		if i != nil {
			return i
		}
	}
	return nil
}

func (b *boot) state(m *timeline.Mapping, parent *span, name string, from, to *timeline.Instant) {
	if from == nil || to == nil || from.OrBefore || to.At < from.At {
		return
	}
	b.add(&span{
		lane: laneOf(m), id: b.spanID("state "+name, m.ID, from.At), parent: parent.id,
		name: name, from: from.At, to: to.At,
		attrs: window(append(b.list(), keyMapping.String(m.Name), keyState.String(name)), *from),
	})
}

// handling makes a span of each time that udev handled the device: from the
// kernel's announcement to the end of its rules. The links it made are points
// of it.
func (b *boot) handling(m *timeline.Mapping, l *timeline.Life, parent *span) {
	var all []*span
	for i := range l.Steps {
		s := &l.Steps[i]
		if s.Kind != timeline.StepUdev || s.OrBefore {
			continue
		}
		h := &span{
			lane: laneUdev, id: b.spanID("udev", m.ID+"\x00"+s.Detail, s.At), parent: parent.id,
			name: "udev " + s.Detail + " " + m.Name, from: announced(l, s), to: s.At,
			attrs: append(b.list(), keyMapping.String(m.Name), keyAction.String(s.Detail)),
		}
		if !l.Dev.IsZero() {
			h.attrs = append(h.attrs, keyDev.String(number(l.Dev)))
		}
		all = append(all, h)
	}
	for i := range l.Steps {
		if s := &l.Steps[i]; s.Kind == timeline.StepLink && !s.OrBefore {
			owner := handlerOf(all, s.At, parent)
			owner.points = append(owner.points, point{"link", s.At, []attribute.KeyValue{keyPath.String(s.Detail)}})
		}
	}
	for _, h := range all {
		b.add(h)
	}
}

// announced is when the kernel announced what udev had finished with at s.
func announced(l *timeline.Life, s *timeline.Step) event.Time {
	at := s.From
	for i := range l.Steps {
		if u := &l.Steps[i]; u.Kind == timeline.StepUevent && u.Detail == s.Detail && u.At <= s.At && u.At >= s.From {
			at = u.At
		}
	}
	return at
}

// handlerOf returns the handling during which a link was made, the one that
// began last; else the mapping itself, if the link belongs to its activation.
func handlerOf(all []*span, at event.Time, parent *span) *span {
	owner := parent
	for _, h := range all {
		if h.from <= at && at <= h.to && (owner == parent || h.from > owner.from) {
			owner = h
		}
	}
	return owner
}

// changes are what else happened: requests that failed, and what came after
// the activation.
func (b *boot) changes(m *timeline.Mapping, l *timeline.Life, parent *span, p period) {
	for i := range l.Steps {
		s := &l.Steps[i]
		if !isChange(s, p) {
			continue
		}
		c := &span{
			lane: laneOf(m), id: b.spanID("change "+s.Kind, fmt.Sprint(m.ID, "\x00", s.Detail, s.Event), s.At), parent: parent.id,
			name: s.Kind + " " + m.Name, from: s.From, to: s.At,
			attrs: append(append(b.list(), keyMapping.String(m.Name), keyStep.String(s.Kind)), b.processAttrs(s.By)...),
		}
		c.attrs = optional(c.attrs, keyDetail, s.Detail)
		if s.Errno != 0 {
			c.attrs = append(c.attrs, semconv.ErrorTypeKey.String(errorName(s.Errno)))
			c.failure = s.Detail + ": " + errorName(s.Errno)
		}
		b.add(c)
	}
}

func isChange(s *timeline.Step, p period) bool {
	switch s.Kind {
	case timeline.StepFailed, timeline.StepRenamed, timeline.StepRemoved, timeline.StepSuspend, timeline.StepResumed:
		return true
	case timeline.StepLoaded, timeline.StepLive:
		return s.At > p.to
	}
	return false
}
