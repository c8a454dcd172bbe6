package devmap

import "strings"

// JoinName returns the name of LVM's mapping for a logical volume: dashes in
// vg and lv doubled, the parts joined by a single one, and then mangled as
// libdevmapper does. The layer is empty for what a guest opens.
func JoinName(vg, lv, layer string) string {
	name := strings.ReplaceAll(vg, "-", "--") + "-" + strings.ReplaceAll(lv, "-", "--")
	if layer != "" {
		name += "-" + layer
	}
	return Mangle(name)
}

// SplitName is the inverse of JoinName; ok is false where the name has not
// LVM's form. The form alone proves nothing: anybody can name a mapping so.
// The UUID tells.
//
// Names of volume groups and volumes cannot begin with a dash, so a run of
// dashes has one reading: pairs first, then a separator.
func SplitName(name string) (vg, lv, layer string, ok bool) {
	vg, rest, ok := cutName(Unmangle(name))
	if !ok {
		return "", "", "", false
	}
	lv, layer, _ = cutName(rest)
	return vg, lv, layer, vg != "" && lv != ""
}

// cutName undoubles dashes up to the first single one.
func cutName(name string) (part, rest string, found bool) {
	undouble := func(part string) string { return strings.ReplaceAll(part, "--", "-") }
	for i := 0; i < len(name); i++ {
		if name[i] == '-' {
			if i+1 == len(name) || name[i+1] != '-' {
				return undouble(name[:i]), name[i+1:], true
			}
			i++
		}
	}
	return undouble(name), "", false
}

// Mangle writes each byte that libdevmapper does not accept in a name as \xNN.
// That is its default, and the mangled form is what the kernel knows
// (_is_whitelisted_char and mangle_string, lvm2 libdm/libdm-common.c).
func Mangle(name string) string {
	const hex = "0123456789abcdef"
	odd := 0
	for odd < len(name) && plain(name[odd]) {
		odd++
	}
	if odd == len(name) { // as most are
		return name
	}
	var b strings.Builder
	b.WriteString(name[:odd])
	for i := odd; i < len(name); i++ {
		if c := name[i]; plain(c) {
			b.WriteByte(c)
		} else if isEscape(name[i:]) {
			b.WriteByte(c) // mangled already
		} else {
			b.WriteString(`\x`)
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

// Unmangle is the inverse of Mangle.
func Unmangle(name string) string {
	if !strings.Contains(name, `\x`) {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if isEscape(name[i:]) {
			b.WriteByte(unhex(name[i+2])<<4 | unhex(name[i+3]))
			i += 3
		} else {
			b.WriteByte(name[i])
		}
	}
	return b.String()
}

func plain(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
		strings.IndexByte("#+-.:=@_", c) >= 0
}

func isEscape(s string) bool {
	return len(s) >= 4 && s[0] == '\\' && s[1] == 'x' && isHex(s[2]) && isHex(s[3])
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
