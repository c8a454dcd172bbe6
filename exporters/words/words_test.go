package words

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"web-1":                  "web-1",
		"a b":                    "a b",
		`systemd\x2dname`:        `systemd\x2dname`,
		"\x1b[31m":               `\x1b[31m`,
		"\x7f":                   `\x7f`,
		"\u009b31m":              `\u009b31m`,
		"a\nb\tc\r":              `a\x0ab\x09c\x0d`,
		"\u202edlrow\u202c":      `\u202edlrow\u202c`,
		"\u2066x\u2069\u200f":    `\u2066x\u2069\u200f`,
		"\xff\xfe":               `\xff\xfe`,
		"\xed\xa0\x80":           `\xed\xa0\x80`,
		"zero\u200bwidth":        `zero\u200bwidth`,
		"\u00a0\u2028":           `\u00a0\u2028`,
		"中文 é 🚀":                 "中文 é 🚀",
		"e\u0301":                "e\u0301",
		"\u0301e":                `\u0301e`,
		"e\u0301\u0302\u0303":    "e\u0301\u0302" + `\u0303`,
		"\u2764\ufe0f":           "\u2764" + `\ufe0f`,
		"\U000e0041":             `\U000e0041`,
		"\ufffd is a fine rune":  "\ufffd is a fine rune",
		"\U0010ffff\U000f0000\a": `\U0010ffff\U000f0000\x07`,
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got, want := CleanASCII("é🚀x"), `\u00e9\U0001f680x`; got != want {
		t.Errorf("CleanASCII = %q, want %q", got, want)
	}
}

func TestBounded(t *testing.T) {
	for _, in := range []string{strings.Repeat("é", 4096), strings.Repeat("x中", 1024), strings.Repeat("🚀", 300), strings.Repeat("\x80", 4096)} {
		got := Bounded(in)
		if len(got) > MaxBytes+3 || len(got) < MaxBytes-8 {
			t.Errorf("%d bytes became %d", len(in), len(got))
		}
		if utf8.ValidString(in) && !utf8.ValidString(got) {
			t.Errorf("cut within a rune: %q", got)
		}
	}
}

func TestTell(t *testing.T) {
	says := func(name string) (Span, bool) {
		v, ok := map[string]string{"a": "A", "b": "B b"}[name]
		return Span{v, Plain}, ok
	}
	for template, want := range map[string]string{
		"x {a}, y.":                  "x A, y.",
		"x[ ({a})][: {none} late].":  "x (A).",
		"x[, {b},] y[; at {a}].":     "x, B b, y; at A.",
		"x[ {none}] y":               "x y",
		"{a}[; z {b}][: {none}] end": "A; z B b end",
	} {
		var p Paragraph
		p.tell(template, says)
		if got := p.String(); got != want {
			t.Errorf("%q tells %q, want %q", template, got, want)
		}
	}
}

// A Cleaner gets text in any pieces, and cleans it the same.
func TestCleaner(t *testing.T) {
	in := "a\u009bb\x7f\x1b[0m\u202e\U000e0041 é中🚀\xffz\n\ttab\u00a0"
	for name, c := range map[string]struct {
		make func(io.Writer) *Cleaner
		want string
	}{
		"text": {TextWriter, `a\u009bb\x7f\x1b[0m\u202e\U000e0041 é中🚀\xffz` + "\n\ttab" + `\u00a0`},
		"json": {JSONWriter, `a\u009bb\u007f\u001b[0m\u202e\udb40\udc41 é中🚀` + "\ufffdz\n\ttab" + `\u00a0`},
		"page": {PageWriter, `a\u009bb\u007f\u001b[0m\u202e\udb40\udc41 é中🚀` + "\ufffdz\n\ttab\u00a0"},
	} {
		for size := 1; size <= len(in); size++ {
			var out strings.Builder
			w := c.make(c.make(&out)) // twice is as once
			for rest := in; rest != ""; {
				n := min(size, len(rest))
				if wrote, err := w.Write([]byte(rest[:n])); err != nil || wrote != n {
					t.Fatal(wrote, err)
				}
				rest = rest[n:]
			}
			if out.String() != c.want {
				t.Fatalf("%s, %d bytes at a time: %q, want %q", name, size, out.String(), c.want)
			}
		}
	}
}

// FuzzCleaner: a JSON text says the same afterwards.
func FuzzCleaner(f *testing.F) {
	f.Add("a\u009b\x7f\u202e\U000e0041\"\\\xff", 3)
	f.Fuzz(func(t *testing.T, s string, size int) {
		s = strings.ToValidUTF8(s, "")
		text, err := json.Marshal(s)
		if err != nil {
			t.Skip()
		}
		var out strings.Builder
		w := JSONWriter(&out)
		for len(text) > 0 {
			n := min(max(size, 1), len(text))
			_, _ = w.Write(text[:n])
			text = text[n:]
		}
		var back string
		if err := json.Unmarshal([]byte(out.String()), &back); err != nil || back != s {
			t.Fatalf("%q became %q: %v", s, out.String(), err)
		}
		for _, r := range out.String() {
			if !unicode.IsPrint(r) {
				t.Fatalf("%U passed", r)
			}
		}
	})
}

// All of the program tells durations in one form: a number, a blank and a unit.
func TestDuration(t *testing.T) {
	for d, want := range map[event.Duration]string{
		7: "7 ns", 1500: "1.50 µs", 2_500_000: "2.50 ms", 18_321_000_000: "18.321 s", 60 * time.Second: "60.000 s",
		166 * time.Second: "2 min 46 s", 3600 * time.Second: "1 h", 3725 * time.Second: "1 h 2 min", 49 * time.Hour: "2 days 1 h",
	} {
		if got := Unicode.Duration(d); got != want {
			t.Errorf("%d ns: %q, want %q", d, got, want)
		}
	}
	for d, want := range map[event.Duration]string{50 * time.Millisecond: "50 ms", 80 * time.Second: "80 s", 100 * time.Second: "1 min 40 s", 18_300 * time.Millisecond: "18.3 s"} {
		if got := Unicode.Round(d); got != want {
			t.Errorf("%s, round: %q, want %q", d, got, want)
		}
	}
	if got := Long(60 * time.Second); got != "1 min" {
		t.Errorf("a minute is %q", got)
	}
}

// Each kind of finding has its sentence.
func TestFindingKinds(t *testing.T) {
	for _, kind := range timeline.FindingKinds() {
		if kinds[kind].text == "" {
			t.Errorf("kinds has no sentence for %s", kind)
		}
	}
	if len(kinds) != len(timeline.FindingKinds()) {
		t.Errorf("kinds has %d entries, and there are %d kinds of findings", len(kinds), len(timeline.FindingKinds()))
	}
}

// Each cause and each cure that package timeline names has its words.
func TestCauseKinds(t *testing.T) {
	files, err := filepath.Glob("../../tracer/timeline/*.go")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`(?m)^(?:const|\t) *((Cause|Cure)[A-Z]\w+) += "([a-z-]+)"`)
	found := map[string]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			found[m[2]]++
			if m[2] == "Cause" && causes[m[3]].text == "" || m[2] == "Cure" && cures[m[3]].text == "" {
				t.Errorf("%s has no words", m[1])
			}
		}
	}
	if found["Cause"] != len(causes) || found["Cure"] != len(cures) {
		t.Errorf("%v are named, and there are words for %d causes and %d cures", found, len(causes), len(cures))
	}
}
