package words

import (
	"strings"
	"testing"
	"unicode/utf8"
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
