package otlp

import (
	"cmp"
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// span is one span before it has the form of OTLP. Times are since the boot.
type span struct {
	lane     string
	id       trace.SpanID
	parent   trace.SpanID
	name     string
	from, to event.Time
	attrs    []attribute.KeyValue
	points   []point
	links    []link
	failure  string // the description of status Error, empty: unset
}

// point is a span event.
type point struct {
	name  string
	at    event.Time
	attrs []attribute.KeyValue
}

// link leads to another span, of this boot where boot is not set.
type link struct {
	boot  trace.TraceID
	id    trace.SpanID
	attrs []attribute.KeyValue
}

// boot collects the spans of one boot.
type boot struct {
	tl     *timeline.Timeline
	id     trace.TraceID
	root   trace.SpanID
	ended  bool
	memory *Memory
	// emit takes each span, once it is whole; it reports whether to go on.
	emit func(*span) bool
	done bool
	// spare is room for the attributes of spans that are not whole yet.
	spare []attribute.KeyValue
	// made are the attributes of findings, which several spans have.
	made map[*timeline.Finding][]attribute.KeyValue
	// activations are the spans of the mappings' lives, by mapping and then by
	// order.
	activations map[string][]activation
	// verdicts are the findings by guest and disk.
	verdicts     map[[2]string][]*timeline.Finding
	commandsMade []command // nil: not looked for yet
	byPID        map[int][]*command
	byGuest      map[string][]*timeline.Finding
	byStart      map[string]*timeline.Verdict // by Guest.ID
	// complete is what every span says about the record.
	complete []attribute.KeyValue
}

// activation is where a mapping's life is in the trace.
type activation struct {
	id         trace.SpanID
	start, end event.Time // end 0: it was not removed
}

func newBoot(tl timeline.Stand, memory *Memory) (*boot, error) {
	id, err := TraceID(tl.BootID)
	if err != nil {
		return nil, err
	}
	b := &boot{
		tl: tl.Timeline, id: id, root: bootSpanID(id), ended: tl.Ended, memory: memory,
		activations: map[string][]activation{}, verdicts: map[[2]string][]*timeline.Finding{}, made: map[*timeline.Finding][]attribute.KeyValue{},
		complete: []attribute.KeyValue{keyComplete.Bool(tl.Complete)},
	}
	if !tl.Complete && tl.CompleteFrom != nil {
		b.complete = append(b.complete, keyCompleteFrom.Int64(int64(*tl.CompleteFrom)))
	}
	for _, f := range tl.Findings {
		key := [2]string{f.GuestID, f.Disk}
		b.verdicts[key] = append(b.verdicts[key], f)
	}
	return b, nil
}

// spanID is that of a span of this boot.
func (b *boot) spanID(kind, key string, start event.Time) trace.SpanID {
	return spanID(b.id, kind, key, start)
}

// add passes on s, unless it was made before. It must be whole. A span has to last:
// what happened at one instant lasts a nanosecond.
func (b *boot) add(s *span) {
	if _, made := b.memory.Spans[s.id]; made || b.done {
		return
	}
	b.memory.Spans[s.id] = struct{}{}
	s.to = max(s.to, s.from+1)
	s.attrs = append(s.attrs, b.complete...)
	slices.SortStableFunc(s.points, func(a, b point) int { return cmp.Compare(a.at, b.at) })
	b.done = !b.emit(s)
}

// list is an empty list of attributes. It is good until sweep.
func (b *boot) list() []attribute.KeyValue {
	const usual, least, most = 24, 1 << 10, 1 << 16
	if cap(b.spare)-len(b.spare) < usual { // the lists in the old room stay good
		b.spare = make([]attribute.KeyValue, 0, min(max(2*cap(b.spare), least), most))
	}
	n := len(b.spare)
	b.spare = b.spare[:n+usual]
	return b.spare[n : n : n+usual]
}

// sweep takes back all lists: no span that has one is still to be added.
func (b *boot) sweep() {
	b.spare = b.spare[:0]
	clear(b.made)
}

// window says how far before the given instant something can have happened.
func window(attrs []attribute.KeyValue, i timeline.Instant) []attribute.KeyValue {
	if i.From < i.At && !i.OrBefore {
		attrs = append(attrs, keyWindow.Int64(int64(i.At.Sub(i.From))))
	}
	return attrs
}

// optional appends the text where there is one.
func optional(attrs []attribute.KeyValue, key attribute.Key, text string) []attribute.KeyValue {
	if text == "" {
		return attrs
	}
	return append(attrs, key.String(text))
}

func number(d event.Dev) string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }
