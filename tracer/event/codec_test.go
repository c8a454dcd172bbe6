package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

// undressed is Event without its methods: what reflection makes of the type.
type undressed Event

// fill sets everything under v to values that differ from zero.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"b": "<2>", "a": "1"}))
	case reflect.String:
		v.SetString("text \"é\\\n" + strings.Repeat("x", *n%3))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(-*n))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	default:
		panic("the codec knows no " + v.Type().String())
	}
}

func full() *Event {
	var e Event
	var n int
	fill(reflect.ValueOf(&e).Elem(), &n)
	return &e
}

// The lists of fields in codec.go are complete and name the members as the
// types' tags do, in their order.
func TestFieldsComplete(t *testing.T) {
	for name, e := range map[string]*Event{"full": full(), "zero": {}, "empty": emptyPayloads()} {
		want := new(bytes.Buffer)
		enc := json.NewEncoder(want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode((*undressed)(e)); err != nil {
			t.Fatal(err)
		}
		got := e.AppendJSON(nil)
		if diff := cmp.Diff(strings.TrimSpace(want.String()), string(got)); diff != "" {
			t.Errorf("%s: the lists of fields differ from the types (-types +lists):\n%s", name, diff)
		}
		decodeInto(t, got, e)
	}
}

func emptyPayloads() *Event {
	e := new(Event)
	v := reflect.ValueOf(e).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Pointer {
			f.Set(reflect.New(f.Type().Elem()))
		}
	}
	return e
}

func decodeInto(t *testing.T, line []byte, want *Event) {
	t.Helper()
	var got Event
	if err := new(Decoder).Decode(line, &got); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", line, diff)
	}
}

func TestForeignBytes(t *testing.T) {
	for _, tt := range []struct{ in, form string }{
		{"plain", `plain`},
		{"Zürich 💀", `Zürich 💀`},
		{"a\xffb", `a\udcffb`},
		{"\xc3", `\udcc3`},
		{"\xed\xb2\x80", `\udced\udcb2\udc80`}, // a surrogate in UTF-8 is not UTF-8
		{"\xf0\x9f\x92", `\udcf0\udc9f\udc92`},
		{"\ufffd", "\ufffd"},
		{"\x00\x1b[31m\x7f\u009b\t\n\r", `\u0000\u001b[31m\u007f\u009b\t\n\u000d`},
		{`\udcff`, `\\udcff`},
		{`"<&>/`, `\"<&>/`},
	} {
		e := Event{Kind: Open, Open: &OpenInfo{Path: tt.in}}
		line := e.AppendJSON(nil)
		if want := `{"path":"` + tt.form + `"`; !bytes.Contains(line, []byte(want)) {
			t.Errorf("%q: %s lacks %s", tt.in, line, want)
		}
		decodeInto(t, line, &e)
	}
}

// What other writers may write and what a newer one may add.
func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		line string
		want Event
	}{
		{`{}`, Event{}},
		{` { "kind" : "mark" , "id" : 7 } `, Event{ID: 7, Kind: Mark}},
		{`{"kind":"lunar_eclipse","id":1}`, Event{ID: 1, Kind: "lunar_eclipse"}},
		{`{"new":{"a":[1,-2.5e+3,"\"]",{}],"b":null},"id":1,"more":[true,false,[]]}`, Event{ID: 1}},
		{`{"proc":{"comm":"x","pid":3,"future":"\ud83d\ude00","args":["a",null]}}`,
			Event{Proc: &Proc{PID: 3, Comm: "x", Args: []string{"a", ""}}}},
		{`{"\u0069d":9,"proc":null,"src":null,"t_ns":null}`, Event{ID: 9}},
		{`{"src":"\ud83d\udc80"}`, Event{Src: "💀"}}, // a pair, not a foreign byte
		{`{"src":"\ud83dx\udc41"}`, Event{Src: "\ufffdx\ufffd"}},
		{`{"src":"\u00e9\/\b\f\r"}`, Event{Src: "é/\b\f\r"}},
		{`{"id":18446744073709551615,"t_ns":-9223372036854775808}`, Event{ID: 1<<64 - 1, At: -1 << 63}},
		{`{"dev":{"props":{"a":"\udc80","b":null}}}`, Event{Dev: &DevInfo{Props: map[string]string{"a": "\x80", "b": ""}}}},
		{`{"exec":{"args":[]}}`, Event{Exec: &ExecInfo{Args: []string{}}}},
		{`{"exec":{"args":null,"files":[{"path":"/dev/vg/lv","size":-1},null]}}`,
			Event{Exec: &ExecInfo{Files: []OpenInfo{{Path: "/dev/vg/lv", Size: -1}, {}}}}},
	} {
		decodeInto(t, []byte(tt.line), &tt.want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for line, offset := range map[string]int{
		``:                              0,
		`[]`:                            0,
		`{"id":1`:                       7,
		`{"id":1}x`:                     8,
		`{"id":1,}`:                     8,
		`{"id" 1}`:                      6,
		`{"id":01}`:                     6,
		`{"id":1.0}`:                    6,
		`{"id":-1}`:                     6,
		`{"id":18446744073709551616}`:   6,
		`{"proc":{"uid":4294967296}}`:   15,
		`{"id":"1"}`:                    6,
		`{"src":1}`:                     7,
		"{\"src\":\"a\nb\"}":            9,
		`{"src":"\x"}`:                  10,
		`{"src":"\u00g0"}`:              10,
		`{"src":"a`:                     8,
		"{\"src\":\"\xff\"}":            8,
		"{\"src\":\"a\x00\x00":          9,
		`{"new":tru}`:                   7,
		`{"new":-}`:                     8,
		`{"new":` + deep(maxDepth+10):   7 + maxDepth + 1,
		`{"proc":[]}`:                   8,
		`{"clock":{"trusted":"true"}}`:  20,
		`{"dev":{"props":{"a":1}}}`:     21,
		`{"exec":{"args":["a" "b"]}}`:   21,
		`{"exec":{"files":{"path":1}}}`: 17,
	} {
		var e Event
		err := new(Decoder).Decode([]byte(line), &e)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%.60s: error %v", line, err)
		} else if syntax.Offset != offset {
			t.Errorf("%.60s: %v, want it at byte %d", line, err, offset)
		}
	}
}

func deep(n int) string { return strings.Repeat("[", n) }

// encoding/json meets the same form wherever an Event is part of a document.
func TestMarshalInDocument(t *testing.T) {
	type document struct{ Events []Event }
	want := document{[]Event{{ID: 1, Kind: Open, Open: &OpenInfo{Path: "/dev/vg/\xff"}}}}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(`\udcff`)) {
		t.Errorf("%s lost a byte", text)
	}
	var got document
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecoderKeepsNothing(t *testing.T) {
	var d Decoder
	line := []byte(`{"src":"ebpf","open":{"path":"/dev/vg/lv"}}`)
	var first, second Event
	if err := d.Decode(line, &first); err != nil {
		t.Fatal(err)
	}
	copy(line, bytes.Repeat([]byte{'#'}, len(line)))
	if err := d.Decode([]byte(`{"id":2}`), &second); err != nil {
		t.Fatal(err)
	}
	if first.Src != "ebpf" || first.Open.Path != "/dev/vg/lv" || second.Src != "" || second.Open != nil {
		t.Errorf("got %+v, %+v", first, second)
	}
}

func samples(tb testing.TB) [][]byte {
	tb.Helper()
	text, err := os.ReadFile("testdata/events.jsonl")
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.Split(bytes.TrimSpace(text), []byte("\n"))
}

func TestSamples(t *testing.T) {
	for _, line := range samples(t) {
		var e Event
		if err := new(Decoder).Decode(line, &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if got := e.AppendJSON(nil); !bytes.Equal(got, line) {
			t.Errorf("%s\nbecame\n%s", line, got)
		}
	}
}

// Whatever is accepted is JSON, and stands for the same event when written
// again; whatever is JSON of an event to a strict reader is accepted, and
// means the same.
func FuzzDecode(f *testing.F) {
	for _, line := range samples(f) {
		f.Add(line)
	}
	f.Add(full().AppendJSON(nil))
	f.Add([]byte(`{"src":"\udcff\ud83d\udc80","x":[1.5e-3,{}],"dev":{"props":{"a":"\udc80"}}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var got Event
		err := new(Decoder).Decode(line, &got)
		if err == nil {
			if !json.Valid(line) {
				t.Fatalf("accepted, and is no JSON: %q", line)
			}
			// Empty and absent lists are one thing to optional members.
			var again, twice Event
			second := got.AppendJSON(nil)
			if err := new(Decoder).Decode(second, &again); err != nil {
				t.Fatalf("%q: %v", second, err)
			}
			third := again.AppendJSON(nil)
			if err := new(Decoder).Decode(third, &twice); err != nil || !bytes.Equal(second, third) || !reflect.DeepEqual(again, twice) {
				t.Fatalf("%q became %q, %v", second, third, err)
			}
		}
		var strict undressed
		if jsonv2.Unmarshal(line, &strict) != nil || !bytes.HasPrefix(bytes.TrimSpace(line), []byte("{")) {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if diff := cmp.Diff((*Event)(&strict), &got); diff != "" {
			t.Fatalf("%q (-encoding/json/v2 +ours):\n%s", line, diff)
		}
	})
}

// Any string survives, as a value and as a key.
func FuzzStrings(f *testing.F) {
	f.Add("/dev/vg/lv", "a\xff")
	f.Add("\xed\xa0\x80\x00", "\u2028\x7f")
	f.Fuzz(func(t *testing.T, a, b string) {
		e := Event{Kind: Kind(a), Proc: &Proc{Comm: b, Args: []string{a, b}}, Dev: &DevInfo{Props: map[string]string{a: b}}}
		line := e.AppendJSON(nil)
		if !utf8.Valid(line) || bytes.ContainsFunc(line, func(c rune) bool { return c < ' ' || c >= 0x7f && c <= lastC1 }) {
			t.Errorf("%q", line)
		}
		decodeInto(t, line, &e)
		if !utf8.ValidString(a) || !utf8.ValidString(b) {
			return
		}
		var std undressed
		if err := json.Unmarshal(line, &std); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, Event(std)); diff != "" {
			t.Errorf("encoding/json reads it differently: %s", diff)
		}
	})
}

// BenchmarkDecode reads the same lines in our own form, also with payloads that are
// used again, and as any form of JSON.
func BenchmarkDecode(b *testing.B) {
	lines := slices.DeleteFunc(samples(b), func(line []byte) bool { return !clean(line) })
	var d, again Decoder
	var p Payloads
	again.Use(&p)
	for name, decode := range map[string]func([]byte, *Event) error{
		"own-form": d.Decode,
		"own-form-again": func(line []byte, e *Event) error {
			p.Reset()
			return again.Decode(line, e)
		},
		"any-form": func(line []byte, e *Event) error { return d.any(line, e, clean(line)) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(meanLength(lines))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				var e Event
				if err := decode(lines[i%len(lines)], &e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	lines := samples(b)
	events := make([]Event, len(lines))
	for i, line := range lines {
		if err := events[i].UnmarshalJSON(line); err != nil {
			b.Fatal(err)
		}
	}
	var out []byte
	b.SetBytes(meanLength(lines))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		out = events[i%len(events)].AppendJSON(out[:0])
	}
}

// The libraries that were measured against the code here.
func BenchmarkLibraryDecode(b *testing.B) {
	lines := samples(b)
	for name, decode := range map[string]func([]byte, *undressed) error{
		"encoding-json":      func(l []byte, e *undressed) error { return json.Unmarshal(l, e) },
		"go-json-experiment": func(l []byte, e *undressed) error { return jsonv2.Unmarshal(l, e, jsontext.AllowInvalidUTF8(true)) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(meanLength(lines))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				var e undressed
				if err := decode(lines[i%len(lines)], &e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func meanLength(lines [][]byte) int64 {
	return int64(len(slices.Concat(lines...)) / len(lines))
}

// The reader of our own form and the one of all forms read the same line as the
// same event; what the first leaves to the second costs time and nothing else.
func FuzzOwnForm(f *testing.F) {
	for _, line := range samples(f) {
		f.Add(line)
	}
	f.Add(plainly(f).AppendJSON(nil))
	f.Add([]byte(`{"id":1,"t_ns":-5,"kind":"x","exec":{"args":[],"files":[{"path":"/a","size":0,"dev":{"major":1,"minor":4294967296}}]}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var got, general Event
		if !clean(line) || !own(line, &got) {
			return
		}
		if err := new(Decoder).any(line, &general, true); err != nil {
			t.Fatalf("%q is read, and is no event: %v", line, err)
		}
		if !reflect.DeepEqual(got, general) {
			t.Fatalf("%q (-general +own):\n%s", line, cmp.Diff(general, got))
		}
	})
}

// own is false where line is not of our own form.
func own(line []byte, e *Event) bool {
	return (&Decoder{payloads: new(Payloads)}).own(line, e)
}

// Payloads that are used again have nothing left of the events before.
func TestPayloads(t *testing.T) {
	lines := append(samples(t), plainly(t).AppendJSON(nil), []byte(`{"id":1,"t_ns":1,"kind":"open","proc":{"pid":1},"open":{"path":"/a","size":0}}`))
	var d Decoder
	var p Payloads
	d.Use(&p)
	for round := range 3 {
		p.Reset()
		var got []Event
		for range 2 * slabLength {
			for _, line := range lines {
				var e Event
				if err := d.Decode(line, &e); err != nil {
					t.Fatal(err)
				}
				got = append(got, e)
			}
		}
		for i := range got {
			var want Event
			if err := want.UnmarshalJSON(lines[i%len(lines)]); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got[i]); diff != "" {
				t.Fatalf("round %d (-want +got):\n%s", round, diff)
			}
		}
		slices.Reverse(lines)
	}
}

// plainly is an event with all members set, in plain ASCII.
func plainly(tb testing.TB) *Event {
	tb.Helper()
	line := regexp.MustCompile(`[^ -~]|\\.`).ReplaceAll(full().AppendJSON(nil), nil)
	e := new(Event)
	if err := e.UnmarshalJSON(line); err != nil {
		tb.Fatal(err)
	}
	return e
}

// What is written without escapes is read by the reader of our own form: every
// member of every type, and every line of the samples.
func TestOwnForm(t *testing.T) {
	lines := append(samples(t), plainly(t).AppendJSON(nil), (&Event{}).AppendJSON(nil))
	for _, line := range lines {
		var e Event
		if clean(line) && !own(line, &e) {
			t.Errorf("not read as our own form: %s", line)
		}
	}
}

// A line in which members are left out, doubled, in another order or unknown is the
// same event as ever.
func TestOtherForms(t *testing.T) {
	line := plainly(t).AppendJSON(nil)
	for _, change := range [][2]string{
		{`"pid":`, `"other":`}, {`"kind":`, ` "kind":`}, {`,"src":`, `,"src":"a","src":`}, {`"major":`, `"minor":1,"major":`}, {`":-`, `":`}, {`true`, `false`},
		{`true`, `null`}, {`"id":`, `"id":0`}, {`}`, `,}`}, {`}}`, `}`}, {`]`, `],`}, {`:`, `: `}, {`[`, `[null,`},
	} {
		other := bytes.Replace(line, []byte(change[0]), []byte(change[1]), 1)
		if bytes.Equal(other, line) {
			t.Fatalf("%q changes nothing", change)
		}
		var got, want Event
		err := new(Decoder).Decode(other, &got)
		wantErr := want.UnmarshalJSON(other)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%q: error %v, want %v", change, err, wantErr)
		} else if diff := cmp.Diff(want, got); err == nil && diff != "" {
			t.Errorf("%q (-want +got):\n%s", change, diff)
		}
	}
}
