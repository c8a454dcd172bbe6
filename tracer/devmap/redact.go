package devmap

import (
	"slices"
	"strings"
)

// Redacted stands where a key was. Older records have REDACTED in its place:
// to redact them again makes them equal to new ones.
const Redacted = "[redacted]"

// RedactParams returns the parameters of a target without the keys in them.
// The kernel prints them in full to whoever may read a table:
//
//   - crypt, inlinecrypt and Android's default-key: "cipher key iv_offset device
//     offset ...".
//   - integrity: options such as "internal_hash:hmac(sha256):key".
//
// verity has no secrets: its digests are public.
func RedactParams(kind, params string) string {
	switch {
	case TakesKey(kind):
		fields := strings.Split(params, " ")
		if len(fields) > 1 && !IsKeyReference(fields[1]) {
			fields[1] = Redacted
		}
		return strings.Join(fields, " ")
	case kind == "integrity":
		fields := strings.Split(params, " ")
		for i, field := range fields {
			fields[i] = RedactOption(field)
		}
		return strings.Join(fields, " ")
	}
	return params
}

// RedactLine returns a line of a table, "start length type parameters", without
// the keys in it.
func RedactLine(line string) string {
	fields := strings.SplitN(line, " ", 4)
	if len(fields) < 4 {
		return line
	}
	fields[3] = RedactParams(fields[2], fields[3])
	return strings.Join(fields, " ")
}

// TakesKey reports whether the second parameter of a target of this kind is a
// key.
func TakesKey(kind string) bool {
	return slices.Contains([]string{"crypt", "inlinecrypt", "default-key"}, kind)
}

// IsKeyReference recognises what stands in the place of a key where there is
// none: "-", or a key of the kernel's keyring, ":32:logon:NAME" (Linux 4.10).
func IsKeyReference(s string) bool { return s == "-" || strings.HasPrefix(s, ":") }

// RedactOption returns an option of an integrity target without its key:
// internal_hash:ALGORITHM:KEY. The algorithm's own name has no colon.
func RedactOption(option string) string {
	name, value, _ := strings.Cut(option, ":")
	switch name {
	case "internal_hash", "journal_crypt", "journal_mac":
		if algorithm, _, keyed := strings.Cut(value, ":"); keyed {
			return name + ":" + algorithm + ":" + Redacted
		}
	}
	return option
}
