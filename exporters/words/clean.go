package words

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean returns foreign text as a terminal can take it: valid UTF-8 in which
// every rune is printable. Everything else becomes an escape: controls, ESC,
// bidi controls, zero-width and unassigned runes, bytes that are not UTF-8.
// A backslash stays as it is: systemd and udev escape names with it.
func Clean(s string) string {
	if printableASCII(s) || plainlyVisible(s) {
		return s
	}
	var b strings.Builder
	marks := 0
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if unicode.Is(unicode.M, r) {
			marks++
		} else {
			marks = 0
		}
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !visible(r) || marks > 2 || marks > 0 && b.Len() == 0:
			// A heap of combining marks is as high as it is long.
			b.WriteString(escapeRune(r))
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// visible decides for all output what a reader can see. Terminals disagree about
// the width of variation selectors.
func visible(r rune) bool {
	return unicode.IsPrint(r) && !unicode.Is(unicode.Variation_Selector, r)
}

// plainlyVisible reports whether nothing in s needs an escape, and nothing is a
// mark, which may.
func plainlyVisible(s string) bool {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || !visible(r) || unicode.Is(unicode.M, r) {
			return false
		}
		i += n
	}
	return true
}

// CleanASCII is Clean for a terminal that has nothing but ASCII.
func CleanASCII(s string) string {
	s = Clean(s)
	if printableASCII(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
		} else {
			b.WriteString(escapeRune(r))
		}
	}
	return b.String()
}

func escapeRune(r rune) string {
	switch {
	case r < 0x80:
		return fmt.Sprintf(`\x%02x`, r)
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	default:
		return fmt.Sprintf(`\U%08x`, r)
	}
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// MaxBytes is as much of a foreign text as is looked at: more than fits on any
// line, and little enough for a log that is full of such names.
const MaxBytes = 1024

// Bounded takes the middle out of what is longer than MaxBytes, between runes.
func Bounded(s string) string {
	if len(s) <= MaxBytes {
		return s
	}
	head, end := MaxBytes/2, len(s)-MaxBytes/2
	for i := 0; i < utf8.UTFMax && !utf8.RuneStart(s[head]); i++ {
		head--
	}
	for i := 0; i < utf8.UTFMax && !utf8.RuneStart(s[end]); i++ {
		end++
	}
	return s[:head] + "..." + s[end:]
}
