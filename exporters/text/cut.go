package text

import "github.com/charmbracelet/x/ansi"

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
