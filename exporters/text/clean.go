package text

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// clean returns foreign text as a terminal can take it: valid UTF-8 in which
// every rune is printable. Everything else becomes an escape: controls, ESC,
// bidi controls, zero-width and unassigned runes, bytes that are not UTF-8.
// A backslash stays as it is: systemd and udev escape names with it.
func clean(s string) string {
	if printableASCII(s) {
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
		case !unicode.IsPrint(r) || unicode.Is(unicode.Variation_Selector, r) || marks > 2 || marks > 0 && b.Len() == 0:
			// Terminals disagree about the width of variation selectors, and
			// a heap of combining marks is as high as it is long.
			b.WriteString(escapeRune(r))
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// cleanASCII is clean for a terminal that has nothing but ASCII.
func cleanASCII(s string) string {
	s = clean(s)
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

// maxBytes is as much of a foreign text as is looked at: more than fits on any
// line, and little enough for a log that is full of such names.
const maxBytes = 1024

// bounded takes the middle out of what is longer than maxBytes, between runes.
func bounded(s string) string {
	if len(s) <= maxBytes {
		return s
	}
	head, end := maxBytes/2, len(s)-maxBytes/2
	for i := 0; i < utf8.UTFMax && !utf8.RuneStart(s[head]); i++ {
		head--
	}
	for i := 0; i < utf8.UTFMax && !utf8.RuneStart(s[end]); i++ {
		end++
	}
	return s[:head] + "..." + s[end:]
}

// cut shortens clean text to at most width columns. What goes is the middle:
// disks of one pool differ in their last characters, guests in their first.
func cut(s string, width int, ellipsis string) string {
	if columns(s) <= width {
		return s
	}
	room := width - columns(ellipsis)
	if room < 2 {
		return ansi.Truncate(s, max(width, 0), "")
	}
	return ansi.Truncate(s, (room+1)/2, "") + ellipsis + tail(s, room/2)
}

// tail returns the end of s, at most width columns of it.
func tail(s string, width int) string {
	total := columns(s)
	for total > width {
		cluster, w := ansi.FirstGraphemeCluster(s, ansi.GraphemeWidth)
		s = s[len(cluster):]
		total -= w
	}
	return s
}

// columns is the width of clean text. Most of what is measured is ASCII and
// lanes, which need no look at grapheme clusters.
func columns(s string) int {
	n := 0
	for _, r := range s {
		if !narrow(r) {
			return ansi.StringWidth(s)
		}
		n++
	}
	return n
}

// narrow reports whether r takes one column whatever stands beside it, as long
// as that is narrow too: ASCII, box drawing, blocks, geometric shapes and the
// further glyphs of lanes.
func narrow(r rune) bool {
	return r >= ' ' && r <= '~' || r >= 0x2500 && r <= 0x25d7 || r == '·' || r == '✓' || r == '✗' || r == '«'
}
