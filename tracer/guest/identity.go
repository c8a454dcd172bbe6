package guest

import (
	"encoding/hex"
	"path"
	"strings"
)

// nilUUID is what qemu itself assumes without -uuid.
const nilUUID = "00000000-0000-0000-0000-000000000000"

// setUUID takes in -uuid, or the uuid of -smbios type=1; qemu keeps the last.
func (s *scan) setUUID(text, from string) {
	id, ok := normalUUID(unquote(text))
	if !ok {
		s.problem(from+" "+text, "not a UUID")
		return
	}
	s.guest.UUID = ""
	if id != nilUUID {
		s.guest.UUID = id
		s.guest.Identity.From = from
	}
}

// identity picks what tells this guest from others over reboots: its uuid, be
// it only in the path of the pid file (<servers>/<uuid>/pid in Cloudpods),
// else its name, else the pid file.
func (s *scan) identity() Identity {
	g := &s.guest
	if g.UUID != "" {
		return Identity{Kind: "uuid", Value: g.UUID, From: g.Identity.From}
	}
	for _, part := range pathEnd(g.PIDFile) {
		if id, ok := normalUUID(strings.TrimSuffix(part, ".pid")); ok && id != nilUUID {
			return Identity{Kind: "uuid", Value: id, From: "-pidfile"}
		}
	}
	if g.Name != "" {
		return Identity{Kind: "name", Value: g.Name, From: "-name"}
	}
	if g.PIDFile != "" {
		return Identity{Kind: "pidfile", Value: path.Clean(g.PIDFile), From: "-pidfile"}
	}
	return Identity{}
}

// pathEnd returns the last components of a path, last first.
func pathEnd(name string) []string {
	const components = 4
	var end []string
	for len(end) < components && name != "" {
		n := strings.LastIndexByte(name, '/')
		end = append(end, name[n+1:])
		name = name[:max(n, 0)]
	}
	return end
}

// normalUUID returns a UUID in lower case with hyphens. It takes 32 hex digits
// with or without them.
func normalUUID(text string) (string, bool) {
	digits := text
	if len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
		digits = text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	}
	if len(digits) != 32 {
		return "", false
	}
	if _, err := hex.DecodeString(digits); err != nil {
		return "", false
	}
	d := strings.ToLower(digits)
	return d[:8] + "-" + d[8:12] + "-" + d[12:16] + "-" + d[16:20] + "-" + d[20:], true
}

// unquote strips the quotes that a launcher without a shell leaves around a
// value.
func unquote(s string) string {
	if n := len(s); n >= 2 && s[0] == s[n-1] && (s[0] == '\'' || s[0] == '"') {
		return s[1 : n-1]
	}
	return s
}
