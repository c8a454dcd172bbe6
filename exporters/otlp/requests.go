package otlp

import (
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// Limits of a request. A collector and Jaeger take 4 MiB over gRPC, and answer
// more with an error that no retry heals.
const (
	maxSpans = 2000
	maxBytes = 3 << 20
)

// Limits of a span: one that is larger is cut, and says so.
const (
	maxSpanBytes = 1 << 20
	maxText      = 16 << 10 // bytes of one text
	maxList      = 1000     // values of one list
	maxPoints    = 1000
	maxLinks     = 1000
	fewText      = 256 // where all of that together is too large
	fewList      = 16
	fewPoints    = 100
)

// requests puts the spans that make makes into requests, and what does not fit into
// the next.
func requests(b *boot, make func()) iter.Seq[ptrace.Traces] {
	return func(yield func(ptrace.Traces) bool) {
		r := request{boot: b}
		b.emit = func(s *span) bool {
			if !r.fits() && !yield(r.take()) {
				return false
			}
			r.add(s)
			return true
		}
		make()
		if !b.done && r.spans > 0 {
			yield(r.take())
		}
	}
}

// request is one request in the making.
type request struct {
	boot   *boot
	traces ptrace.Traces
	lanes  map[string]ptrace.SpanSlice
	spans  int
	bytes  int
	sizer  ptrace.ProtoMarshaler
}

// fits reports whether there is room for the largest span, and its lane.
func (r *request) fits() bool {
	const lane = 64 << 10
	return r.spans < maxSpans && r.bytes+maxSpanBytes+lane <= maxBytes
}

func (r *request) take() ptrace.Traces {
	t := r.traces
	*r = request{boot: r.boot}
	return t
}

func (r *request) add(s *span) {
	if r.spans == 0 {
		r.traces, r.lanes = ptrace.NewTraces(), map[string]ptrace.SpanSlice{}
	}
	lane, ok := r.lanes[s.lane]
	if !ok {
		rs := r.traces.ResourceSpans().AppendEmpty()
		rs.SetSchemaUrl(semconv.SchemaURL)
		putAll(rs.Resource().Attributes(), r.boot.resource(s.lane), limits{maxText, maxList, maxPoints})
		ss := rs.ScopeSpans().AppendEmpty()
		ss.Scope().SetName(scopeName)
		ss.Scope().SetVersion(scopeVersion)
		r.bytes += r.sizer.ResourceSpansSize(rs)
		lane = ss.Spans()
		r.lanes[s.lane] = lane
	}
	out := lane.AppendEmpty()
	const frame = 8 // of a span within its list: tag and length
	r.bytes += r.boot.fill(out, s, &r.sizer) + frame
	r.spans++
}

// resource describes a lane.
func (b *boot) resource(lane string) []attribute.KeyValue {
	h := b.tl.Host
	attrs := []attribute.KeyValue{
		semconv.ServiceNameKey.String(lane), semconv.ServiceNamespaceKey.String(namespace),
		keyBootID.String(b.tl.BootID), semconv.OSTypeLinux,
	}
	attrs = optional(attrs, semconv.HostNameKey, h.Name)
	attrs = optional(attrs, semconv.HostIDKey, h.MachineID)
	attrs = optional(attrs, semconv.OSDescriptionKey, h.OS)
	return optional(attrs, semconv.OSVersionKey, b.tl.Kernel)
}

// limits are how much of a span is kept.
type limits struct{ text, list, points int }

// fill makes out of s and returns its size. A span that is too large loses
// first its further points, then the ends of its texts.
func (b *boot) fill(out ptrace.Span, s *span, sizer *ptrace.ProtoMarshaler) int {
	for _, l := range []limits{{maxText, maxList, maxPoints}, {maxText, fewList, fewPoints}, {fewText, fewList, fewPoints}} {
		b.write(out, s, l)
		if size := sizer.SpanSize(out); size <= maxSpanBytes {
			return size
		}
		ptrace.NewSpan().CopyTo(out)
	}
	// Even its attributes alone are too many; none of ours comes here.
	b.write(out, &span{id: s.id, parent: s.parent, name: s.name, from: s.from, to: s.to, failure: s.failure}, limits{fewText, 0, 0})
	out.Attributes().PutStr(string(keyCut), "everything but the name")
	return sizer.SpanSize(out)
}

func (b *boot) write(out ptrace.Span, s *span, l limits) {
	cut := &cuts{}
	out.SetTraceID(pcommon.TraceID(b.id))
	out.SetSpanID(pcommon.SpanID(s.id))
	out.SetParentSpanID(pcommon.SpanID(s.parent))
	out.SetName(cut.text("name", s.name, min(l.text, 1<<10)))
	out.SetKind(ptrace.SpanKindInternal)
	out.SetStartTimestamp(b.wall(int64(s.from)))
	out.SetEndTimestamp(b.wall(int64(s.to)))
	if s.failure != "" {
		out.Status().SetCode(ptrace.StatusCodeError)
		out.Status().SetMessage(cut.text("status", s.failure, l.text))
	}
	out.Attributes().EnsureCapacity(len(s.attrs) + 1)
	cut.put(out.Attributes(), s.attrs, l)
	points := s.points[:min(len(s.points), l.points)]
	cut.count("events", len(s.points)-len(points), len(s.points))
	out.Events().EnsureCapacity(len(points))
	for _, p := range points {
		e := out.Events().AppendEmpty()
		e.SetName(cut.text("event", p.name, l.text))
		e.SetTimestamp(b.wall(int64(p.at)))
		cut.put(e.Attributes(), p.attrs, l)
	}
	b.writeLinks(out, s, l, cut)
	if len(cut.said) > 0 {
		out.Attributes().PutStr(string(keyCut), strings.Join(cut.said, ", "))
	}
}

func (b *boot) writeLinks(out ptrace.Span, s *span, l limits, cut *cuts) {
	links := s.links[:min(len(s.links), maxLinks)]
	cut.count("links", len(s.links)-len(links), len(s.links))
	for _, k := range links {
		to := out.Links().AppendEmpty()
		to.SetTraceID(pcommon.TraceID(b.id))
		if k.boot.IsValid() {
			to.SetTraceID(pcommon.TraceID(k.boot))
		}
		to.SetSpanID(pcommon.SpanID(k.id))
		cut.put(to.Attributes(), k.attrs, l)
	}
}

// wall is a time since the boot as nanoseconds since 1970.
func (b *boot) wall(at int64) pcommon.Timestamp {
	return pcommon.Timestamp(max(b.memory.Wall.WallOffset+at, 0))
}

// cuts notes what was left out of a span.
type cuts struct{ said []string }

func (c *cuts) count(what string, lost, all int) {
	if lost > 0 {
		c.said = append(c.said, fmt.Sprintf("%s: %d of %d left out", what, lost, all))
	}
}

func (c *cuts) text(what, text string, most int) string {
	text = valid(text)
	if len(text) <= most {
		return text
	}
	end := most
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	c.said = append(c.said, fmt.Sprintf("%s: %d of %d bytes left out", what, len(text)-end, len(text)))
	return text[:end]
}

func putAll(to pcommon.Map, attrs []attribute.KeyValue, l limits) { new(cuts).put(to, attrs, l) }

func (c *cuts) put(to pcommon.Map, attrs []attribute.KeyValue, l limits) {
	for _, a := range attrs {
		key := string(a.Key)
		switch a.Value.Type() {
		case attribute.BOOL:
			to.PutBool(key, a.Value.AsBool())
		case attribute.INT64:
			to.PutInt(key, a.Value.AsInt64())
		case attribute.STRINGSLICE:
			list := a.Value.AsStringSlice()
			c.count(key, len(list)-min(len(list), l.list), len(list))
			values := to.PutEmptySlice(key)
			for _, text := range list[:min(len(list), l.list)] {
				values.AppendEmpty().SetStr(c.text(key, text, l.text))
			}
		case attribute.INT64SLICE:
			list := a.Value.AsInt64Slice()
			c.count(key, len(list)-min(len(list), l.list), len(list))
			values := to.PutEmptySlice(key)
			for _, n := range list[:min(len(list), l.list)] {
				values.AppendEmpty().SetInt(n)
			}
		default:
			to.PutStr(key, c.text(key, a.Value.String(), l.text))
		}
	}
}

// valid is text as UTF-8, which OTLP demands: any other byte becomes \xNN.
func valid(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&out, `\x%02x`, text[i])
		} else {
			out.WriteString(text[i : i+n])
		}
		i += n
	}
	return out.String()
}
