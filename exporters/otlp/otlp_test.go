package otlp

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

const raceLog = "../../cmd/bootrace/testdata/logs/race.jsonl"

// eventsOf reads a recorded boot.
func eventsOf(t testing.TB, path string) (timeline.Boot, []event.Event) {
	t.Helper()
	log, err := bootlog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var events []event.Event
	for e, err := range log.Events() {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	h := log.Header()
	return timeline.Boot{ID: h.BootID, Host: h.HostName, Kernel: h.Kernel}, events
}

func standsOf(boot timeline.Boot, events []event.Event) iter.Seq2[timeline.Stand, error] {
	return timeline.NewBuilder(boot, timeline.Options{}).Stands(func(yield func(event.Event, error) bool) {
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
	}, false, 0)
}

func requestsOf(t testing.TB, stands iter.Seq2[timeline.Stand, error]) []ptrace.Traces {
	t.Helper()
	var all []ptrace.Traces
	for r, err := range EncodeAll(stands) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// placed is a span and the lane that it is in.
type placed struct {
	ptrace.Span
	lane string
}

func spansOf(requests []ptrace.Traces) []placed {
	var all []placed
	for _, r := range requests {
		for _, rs := range r.ResourceSpans().All() {
			lane, _ := rs.Resource().Attributes().Get("service.name")
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					all = append(all, placed{s, lane.Str()})
				}
			}
		}
	}
	return all
}

func named(t *testing.T, spans []placed, name string) placed {
	t.Helper()
	var found []placed
	for _, s := range spans {
		if s.Name() == name {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans are named %q", len(found), name)
	}
	return found[0]
}

func (p placed) attr(key attribute.Key) string {
	v, ok := p.Attributes().Get(string(key))
	if !ok {
		return "(none)"
	}
	return v.AsString()
}

// The boot in which web-a came before its volume.
func TestRace(t *testing.T) {
	spans := spansOf(requestsOf(t, standsOf(eventsOf(t, raceLog))))
	for _, want := range []struct{ name, lane, parent string }{
		{"boot", laneBoot, ""},
		{"activate vg0-web--a", laneMapper, "boot"},
		{"udev change vg0-web--a", laneUdev, "activate vg0-web--a"},
		{"guest web-a", laneGuests, "boot"},
		{"open /dev/vg0/web-a", laneGuests, "guest web-a"},
		{"too early: /dev/vg0/web-a", laneGuests, "open /dev/vg0/web-a"},
		{"guest db-b", laneGuests, "boot"},
	} {
		s := named(t, spans, want.name)
		if s.lane != want.lane {
			t.Errorf("%s is in lane %s", want.name, s.lane)
		}
		if want.parent == "" && !s.ParentSpanID().IsEmpty() || want.parent != "" && named(t, spans, want.parent).SpanID() != s.ParentSpanID() {
			t.Errorf("%s is not a child of %q", want.name, want.parent)
		}
	}
	open := named(t, spans, "open /dev/vg0/web-a")
	if open.Status().Code() != ptrace.StatusCodeError || !strings.Contains(open.Status().Message(), "missing: /dev/vg0/web-a (ENOENT), 2.571 s too early") {
		t.Errorf("the race's status is %s %q", open.Status().Code(), open.Status().Message())
	}
	for key, want := range map[attribute.Key]string{
		keyRace: "true", keyFinding: "missing", keyGuest: "web-a", "file.path": "/dev/vg0/web-a", "error.type": "ENOENT",
	} {
		if got := open.attr(key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	if open.Links().Len() != 1 || open.Links().At(0).SpanID() != named(t, spans, "activate vg0-web--a").SpanID() {
		t.Error("the open has no link to the activation")
	}
	if s := named(t, spans, "open /dev/vg0/db-b"); s.Status().Code() != ptrace.StatusCodeUnset || s.attr(keyRace) != "false" {
		t.Errorf("an open that went well has status %s, race %s", s.Status().Code(), s.attr(keyRace))
	}
	if s := named(t, spans, "boot"); s.attr(keyRaces) != "1" || s.attr(keyRace) != "true" || s.attr(keyResult) != "failed" || s.Status().Message() != "1 guest failed, 1 race" {
		t.Errorf("the boot: %v %s", s.Attributes().AsRaw(), s.Status().Message())
	}
}

// What has to hold of every span of every boot.
func checkSpans(t *testing.T, spans []placed) {
	t.Helper()
	ids := map[pcommon.SpanID]bool{}
	for _, s := range spans {
		if ids[s.SpanID()] {
			t.Errorf("%s: its id is there twice", s.Name())
		}
		ids[s.SpanID()] = true
	}
	for _, s := range spans {
		switch {
		case s.SpanID().IsEmpty():
			t.Errorf("%s has no id", s.Name())
		case s.EndTimestamp() <= s.StartTimestamp():
			t.Errorf("%s ends at %d, before it starts at %d", s.Name(), s.EndTimestamp(), s.StartTimestamp())
		case s.Name() != "boot" && !ids[s.ParentSpanID()]:
			t.Errorf("the parent of %s is not there", s.Name())
		case s.attr(keyComplete) == "(none)":
			t.Errorf("%s does not say whether the record is complete", s.Name())
		}
		for _, l := range s.Links().All() {
			if l.TraceID() == s.TraceID() && !ids[l.SpanID()] {
				t.Errorf("%s links to nothing", s.Name())
			}
		}
	}
}

func TestEverySpan(t *testing.T) {
	for _, path := range []string{raceLog, "../../cmd/bootrace/testdata/logs/clean.jsonl"} {
		checkSpans(t, spansOf(requestsOf(t, standsOf(eventsOf(t, path)))))
	}
}

// Exporting again gives the same bytes.
func TestTwice(t *testing.T) {
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := WriteJSON(out, EncodeAll(standsOf(eventsOf(t, raceLog)))); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("they differ")
	}
}

// The lines are OTLP JSON: pdata reads from them what was written.
func TestJSONLines(t *testing.T) {
	requests := requestsOf(t, standsOf(eventsOf(t, raceLog)))
	var file bytes.Buffer
	if err := WriteJSON(&file, func(yield func(ptrace.Traces, error) bool) {
		for _, r := range requests {
			if !yield(r, nil) {
				return
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	m, u := ptrace.ProtoMarshaler{}, ptrace.JSONUnmarshaler{DisallowUnknownFields: true}
	lines := bytes.Split(bytes.TrimSuffix(file.Bytes(), []byte("\n")), []byte("\n"))
	if len(lines) != len(requests) {
		t.Fatalf("%d lines for %d requests", len(lines), len(requests))
	}
	for i, line := range lines {
		read, err := u.UnmarshalTraces(line)
		if err != nil {
			t.Fatal(err)
		}
		want, err1 := m.MarshalTraces(requests[i])
		got, err2 := m.MarshalTraces(read)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("line %d does not say what was written", i+1)
		}
	}
}

func settled(at event.Time) event.Event {
	return event.Event{At: at, Kind: event.Mark, Src: "service", Mark: &event.MarkInfo{Name: event.MarkSettled}}
}

// Wherever marks cut the record, each span is made once, and what was made at a
// mark stays as it is, whatever follows.
func TestSettled(t *testing.T) {
	boot, events := eventsOf(t, raceLog)
	for cut := 1; cut < len(events); cut += 29 {
		marked := slices.Insert(slices.Clone(events), cut, settled(events[cut-1].At))
		whole := requestsOf(t, standsOf(boot, marked))
		checkSpans(t, spansOf(whole))
		part := boot
		part.Current = true
		early := requestsOf(t, standsOf(part, marked[:cut+1]))
		for i := range early {
			if !slices.Equal(proto(t, early[i]), proto(t, whole[i])) {
				t.Fatalf("cut at %d: what was made at the mark differs from what is made later", cut)
			}
		}
	}
}

func proto(t *testing.T, r ptrace.Traces) []byte {
	t.Helper()
	m := ptrace.ProtoMarshaler{}
	data, err := m.MarshalTraces(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The wall clock that was known first stays, and so does the boot's span.
func TestClockStays(t *testing.T) {
	boot, events := eventsOf(t, raceLog)
	last := events[len(events)-1].At
	events = append(events, settled(last),
		event.Event{At: last + 1, Kind: event.Clock, Clock: &event.ClockInfo{WallOffset: 1, Trusted: true}},
		event.Event{At: last + 2, Kind: event.Exec, Proc: &event.Proc{PID: 999}, Exec: &event.ExecInfo{Args: []string{"qemu-kvm", "-name", "late"}}})
	spans := spansOf(requestsOf(t, standsOf(boot, events)))
	before, late := named(t, spans, "guest db-b"), named(t, spans, "guest late")
	if late.StartTimestamp() < before.StartTimestamp() {
		t.Error("a later clock reading moved the guest that came later")
	}
}

// A boot whose record has a gap says so on each span, and has a span for it.
func TestIncomplete(t *testing.T) {
	boot, events := eventsOf(t, raceLog)
	events = slices.DeleteFunc(events, func(e event.Event) bool { return e.Source != nil && e.Source.Name == "udev" })
	spans := spansOf(requestsOf(t, standsOf(boot, events)))
	gaps := 0
	for _, s := range spans {
		if s.attr(keyComplete) != "false" {
			t.Errorf("%s says that the record is complete", s.Name())
		}
		if strings.HasPrefix(s.Name(), "not recorded: ") {
			gaps++
		}
	}
	if gaps == 0 {
		t.Error("no span shows what was not recorded")
	}
}

// A guest of which there was only a vain look for its disk is there, too.
func TestNeverStarted(t *testing.T) {
	boot, events := eventsOf(t, raceLog)
	last := events[len(events)-1]
	events = append(events, event.Event{ID: last.ID + 1, At: last.At + 1, Kind: event.Open,
		Proc: &event.Proc{PID: 4711, Comm: "agent"}, Open: &event.OpenInfo{Path: "/dev/vg0/web-c", Errno: 2, Size: -1}})
	spans := spansOf(requestsOf(t, standsOf(boot, events)))
	checkSpans(t, spans)
	if s := named(t, spans, "never-started /dev/vg0/web-c"); s.lane != laneGuests || s.attr("process.executable.name") != "agent" {
		t.Errorf("lane %s, %v", s.lane, s.Attributes().AsRaw())
	}
}

// A start that was held has the hold as a child, and begins with it.
func TestHold(t *testing.T) {
	boot, events := eventsOf(t, raceLog)
	i := slices.IndexFunc(events, func(e event.Event) bool { return e.Kind == event.Exec })
	at, proc := events[i].At, events[i].Proc
	for j, e := range []event.Event{
		{At: at, Kind: event.Hold, Proc: proc, Hold: &event.HoldInfo{Reason: "not ready", Blockers: []string{"/dev/vg0/web-a"}}},
		{At: at + 1e6, Kind: event.Release, Proc: proc, Hold: &event.HoldInfo{Reason: "ready"}},
	} {
		events = slices.Insert(events, i+1+j, e)
	}
	spans := spansOf(requestsOf(t, standsOf(boot, events)))
	checkSpans(t, spans)
	held := slices.DeleteFunc(spans, func(p placed) bool { return p.lane != laneHold })
	if len(held) != 1 || held[0].EndTimestamp()-held[0].StartTimestamp() != 1e6 {
		t.Errorf("%d holds", len(held))
	}
}

func TestNoClock(t *testing.T) {
	boot, events := eventsOf(t, raceLog)
	events = slices.DeleteFunc(events, func(e event.Event) bool { return e.Clock != nil })
	for _, err := range EncodeAll(standsOf(boot, events)) {
		if !errors.Is(err, ErrNoClock) {
			t.Errorf("got %v", err)
		}
	}
}

// The boot before is a link, where the record names it.
func TestPrevious(t *testing.T) {
	boot, events := eventsOf(t, raceLog)
	const before = "c87a4a11-ab7f-490c-8d68-d7171f250ef2"
	events = append(events, event.Event{At: events[0].At, Kind: event.Mark, Mark: &event.MarkInfo{Name: event.MarkPrevious, Text: before}})
	s := named(t, spansOf(requestsOf(t, standsOf(boot, events))), "boot")
	id, err := TraceID(before)
	if err != nil {
		t.Fatal(err)
	}
	if s.Links().Len() != 1 || s.Links().At(0).TraceID() != pcommon.TraceID(id) || s.Links().At(0).SpanID() != pcommon.SpanID(bootSpanID(id)) {
		t.Errorf("links %d", s.Links().Len())
	}
}

func TestTraceID(t *testing.T) {
	for id, ok := range map[string]bool{
		"c87a4a11-ab7f-490c-8d68-d7171f250ef2": true,
		"":                                     false,
		"c87a4a11":                             false,
		"00000000-0000-0000-0000-000000000000": false,
		"x87a4a11-ab7f-490c-8d68-d7171f250ef2": false,
	} {
		got, err := TraceID(id)
		if (err == nil) != ok {
			t.Errorf("%q: %v", id, err)
		}
		if ok && got.String() != strings.ReplaceAll(id, "-", "") {
			t.Errorf("%q: %s", id, got)
		}
	}
}

// requestsWith are those of a boot with spans of the test's own.
func requestsWith(t testing.TB, spans ...*span) iter.Seq[ptrace.Traces] {
	t.Helper()
	tl := &timeline.Timeline{BootID: "c87a4a11-ab7f-490c-8d68-d7171f250ef2", Complete: true}
	b, err := newBoot(timeline.Stand{Timeline: tl}, &Memory{Wall: &event.ClockInfo{WallOffset: 1e18}, Spans: map[trace.SpanID]struct{}{}})
	if err != nil {
		t.Fatal(err)
	}
	return requests(b, func() {
		for _, s := range spans {
			b.add(s)
		}
	})
}

// A span that is too large is cut, says what it lost, and fits.
func TestCut(t *testing.T) {
	long := strings.Repeat("ä", maxText)
	for name, c := range map[string]struct {
		span span
		said string
	}{
		"text":  {span{attrs: []attribute.KeyValue{keyText.String(long)}}, "bootrace.text: 16384 of 32768 bytes left out"},
		"list":  {span{attrs: []attribute.KeyValue{keyTable.StringSlice(make([]string, 5000))}}, "bootrace.mapping.table: 4000 of 5000 left out"},
		"point": {span{points: make([]point, 5000)}, "events: 4000 of 5000 left out"},
		"links": {span{links: make([]link, 5000)}, "links: 4000 of 5000 left out"},
		"all": {span{points: slices.Repeat([]point{{name: long, attrs: []attribute.KeyValue{keyText.String(long)}}}, 5000)},
			"events: 4900 of 5000 left out"},
		"many keys": {span{attrs: manyKeys(30000)}, "everything but the name"},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.span
			s.id, s.name, s.lane = [8]byte{1}, "large", laneGuests
			for r := range requestsWith(t, &s) {
				if got := named(t, spansOf([]ptrace.Traces{r}), "large"); !strings.Contains(got.attr(keyCut), c.said) {
					t.Errorf("it says %.300q", got.attr(keyCut))
				}
				if size := len(proto(t, r)); size > maxSpanBytes+1<<10 {
					t.Errorf("%d bytes", size)
				}
			}
		})
	}
}

func manyKeys(n int) []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, n)
	for i := range attrs {
		attrs[i] = attribute.String(fmt.Sprintf("key %d with a long name that takes room", i), "value")
	}
	return attrs
}

// Requests keep within what receivers take, and lose nothing.
func TestRequests(t *testing.T) {
	text := keyText.String(strings.Repeat("x", maxText))
	var spans []*span
	for i := range 9000 {
		s := &span{id: [8]byte{1, byte(i >> 8), byte(i)}, lane: laneGuests, name: "s"}
		if i%2 == 0 {
			s.lane = laneUdev
		}
		if i > 8000 {
			s.attrs = []attribute.KeyValue{text}
		}
		spans = append(spans, s)
	}
	n := 0
	for r := range requestsWith(t, spans...) {
		n += r.SpanCount()
		if r.SpanCount() > maxSpans {
			t.Errorf("a request of %d spans", r.SpanCount())
		}
		if size := len(proto(t, r)); size > maxBytes {
			t.Errorf("a request of %d bytes", size)
		}
	}
	if n != len(spans) {
		t.Errorf("%d of %d spans", n, len(spans))
	}
}

func FuzzValid(f *testing.F) {
	f.Add("vg0/web-a")
	f.Add("\xff\x00<script>")
	f.Fuzz(func(t *testing.T, text string) {
		got := new(cuts).text("x", text, 64)
		m, u := ptrace.JSONMarshaler{}, ptrace.JSONUnmarshaler{}
		traces := ptrace.NewTraces()
		traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().SetName(got)
		data, err := m.MarshalTraces(traces)
		if err != nil {
			t.Fatal(err)
		}
		read, err := u.UnmarshalTraces(data)
		if err != nil {
			t.Fatal(err)
		}
		if back := read.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Name(); back != got || len(got) > 64 {
			t.Errorf("%q became %q", got, back)
		}
	})
}
