package guest

import (
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Redacted stands where a secret was.
const Redacted = "[redacted]"

// Redact returns the argument list of a qemu without its secrets: passwords,
// keys, the data of secret objects, credentials in addresses, and texts that
// are handed to the guest or to a command and may hold anything (-append,
// -fw_cfg string=, -smbios value=, -incoming exec:). Everything that Parse
// looks at stays: Parse understands the same of both lists. args itself is not
// changed. Redact of its own result changes nothing more.
func Redact(args []string) []string {
	out := slices.Clone(args)
	for a := range arguments(args) {
		if a.valued {
			out[a.at] = redactOption(a.name, a.kind, a.value)
		}
	}
	return out
}

// redactOption redacts the value of one option.
func redactOption(name string, kind argKind, value string) string {
	switch {
	case name == "append":
		return Redacted
	case name == "incoming":
		return redactIncoming(value)
	case name == "":
		return redactPositional(value)
	case kind == argFile:
		return redactAddress(value, 0)
	case name == "set":
		return redactWord(value)
	case kind == argText:
		return redactAddress(value, 0)
	case name == "global" && !strings.HasPrefix(value, "driver="):
		return redactWord(value)
	case strings.HasPrefix(value, "{"):
		return redactJSON(value, name == "object", 0)
	default:
		return redactList(name, value)
	}
}

// redactIncoming keeps the scheme of a command.
func redactIncoming(value string) string {
	if strings.HasPrefix(value, "{") {
		if strings.Contains(value, "exec") {
			return Redacted
		}
		return redactJSON(value, false, 0)
	}
	// A launcher without a shell leaves the quotes: "exec: cat state".
	if n := strings.Index(value, "exec:"); n == 0 || n == 1 && (value[0] == '"' || value[0] == '\'') {
		return value[:n] + "exec:" + Redacted
	}
	return redactAddress(value, 0)
}

// redactPositional redacts an image name. Where it looks like a setting
// instead, a launcher has torn a quoted value apart, and its secret with it.
func redactPositional(value string) string {
	if !strings.ContainsAny(value, "/") {
		return redactWord(value)
	}
	return redactAddress(value, 0)
}

// redactWord redacts key=value, where the value goes on to the end.
func redactWord(word string) string {
	key, value, ok := strings.Cut(word, "=")
	if ok && isSecret(key) && value != "" {
		return key + "=" + Redacted
	}
	return redactAddress(word, 0)
}

// freeText are the keys of options whose value is meant for the guest.
var freeText = map[string]string{
	"fw_cfg": "string",
	"smbios": "value", // type=11: systemd credentials, cloud-init
	"object": "data",  // of type secret
}

// redactList redacts an option of keys and values.
func redactList(name, list string) string {
	secretGlobal := name == "global" && suspicious(list)
	if !suspicious(list) && freeText[name] == "" {
		return list
	}
	var b strings.Builder
	done, torn := 0, false
	for from := 0; from < len(list); {
		it, next := nextItem(list, from, "")
		switch clean := redactItem(name, it, secretGlobal); {
		case it.bare && torn && freeText[name] != "":
			// What follows a secret without a key is the rest of one that had a
			// comma in it.
			b.WriteString(list[done:from] + Redacted)
			done = from + len(it.key)
		case it.bare && strings.Contains(it.key, ":"):
			// The value of an implied key: an address, or a kernel's device.
			b.WriteString(list[done:from] + redactAddress(it.key, 0))
			done = from + len(it.key)
		case !it.bare && clean != it.raw:
			b.WriteString(list[done:it.from] + clean)
			done = it.from + len(it.raw)
			torn = true
		case !it.bare:
			torn = false
		}
		from = next
	}
	return b.String() + list[done:]
}

// redactItem returns the redacted value of an item, its commas doubled.
func redactItem(option string, it item, global bool) string {
	switch {
	case it.bare || it.raw == "":
		return it.raw
	case option == "vnc" && it.key == "password" && isSwitch(it.raw):
		return it.raw
	case it.key == freeText[option] && it.key != "", isSecret(it.key):
		return Redacted
	case global && it.key == "value":
		return Redacted
	case it.key == "guestfwd": // guestfwd=tcp:ADDRESS-cmd:COMMAND
		if target, _, ok := strings.Cut(it.raw, "-cmd:"); ok {
			return target + "-cmd:" + Redacted
		}
	}
	if clean := redactAddress(it.text(), 0); clean != it.text() {
		return strings.ReplaceAll(clean, ",", ",,")
	}
	return it.raw
}

func isSwitch(s string) bool {
	return s == "on" || s == "off" || s == "yes" || s == "no"
}

// suspicious reports whether a text may have something in it for redactAddress,
// redactJSON or isSecret to find. Most options have not, and are done with
// after this one pass.
func suspicious(text string) bool {
	for i := 0; i+1 < len(text); i++ {
		for _, hint := range hints[text[i]] {
			if hint[1] == text[i+1] && strings.HasPrefix(text[i:], hint) {
				return true
			}
		}
	}
	return false
}

// hints are what such a text contains, by the first byte.
var hints = [256][]string{
	':': {"://"}, 'r': {"rbd:"}, 'j': {"json:"}, 'p': {"pass", "pwd"}, 's': {"secret"}, 'k': {"key"},
	't': {"token"}, 'c': {"cookie"}, 'o': {"osk"}, 'g': {"guestfwd"},
}

// isSecret reports whether a key, which may be dotted, names a secret itself
// and not the id of one (key-secret, passwordid, keyid) or a file of one.
func isSecret(key string) bool {
	key = key[strings.LastIndexByte(key, '.')+1:]
	switch key {
	case "secret", "key", "token", "pwd", "pass", "cookie", "txcookie", "rxcookie",
		"osk": // isa-applesmc
		return true
	}
	for _, end := range []string{"password", "passwd", "passphrase", "-token", "_token", "-pass", "_pass"} {
		if strings.HasSuffix(key, end) {
			return true
		}
	}
	return false
}

// maxAddress bounds addresses within addresses: json: texts that hold names.
const maxAddress = 8

// redactAddress redacts what a file name or an address can hold: user and
// password of a URL, the key of rbd:, secrets in json:. A local path is
// returned as it is.
func redactAddress(s string, depth int) string {
	if text, ok := strings.CutPrefix(s, "json:"); ok {
		if depth == maxAddress {
			return "json:" + Redacted
		}
		return "json:" + redactJSON(text, false, depth+1)
	}
	if strings.HasPrefix(s, "rbd:") {
		return redactRBD(s)
	}
	if strings.HasPrefix(s, "/") || !strings.Contains(s, "://") {
		return s
	}
	return redactURLs(s)
}

// redactRBD redacts rbd:POOL/IMAGE:key=...: with a backslash before a colon
// that belongs to a value.
func redactRBD(s string) string {
	var b strings.Builder
	for from := 0; from <= len(s); {
		end := from
		for end < len(s) && s[end] != ':' {
			if s[end] == '\\' && end+1 < len(s) {
				end++
			}
			end++
		}
		key, val, ok := strings.Cut(s[from:end], "=")
		if ok && isSecret(key) && val != "" {
			b.WriteString(key + "=" + Redacted)
		} else {
			b.WriteString(s[from:end])
		}
		if end < len(s) {
			b.WriteByte(':')
		}
		from = end + 1
	}
	return b.String()
}

// redactURLs redacts the user part of each URL in s, and the query of those
// that a web server reads. Anything up to the last "@" is taken for the user
// part where there is a colon in it: passwords are not always escaped.
func redactURLs(s string) string {
	var b strings.Builder
	for {
		n := strings.Index(s, "://")
		if n < 0 {
			return b.String() + s
		}
		web := strings.HasSuffix(s[:n], "http") || strings.HasSuffix(s[:n], "https") ||
			strings.HasSuffix(s[:n], "ftp") || strings.HasSuffix(s[:n], "ftps")
		b.WriteString(s[:n+3])
		s = s[n+3:]
		end := strings.IndexAny(s, " \t\n\"'")
		if end < 0 {
			end = len(s)
		}
		b.WriteString(redactURL(s[:end], web))
		s = s[end:]
	}
}

// redactURL redacts what follows the "://".
func redactURL(rest string, web bool) string {
	authority := len(rest)
	if n := strings.IndexAny(rest, "/?#"); n >= 0 {
		authority = n
	}
	at := strings.LastIndexByte(rest[:authority], '@')
	if last := strings.LastIndexByte(rest, '@'); last > authority && strings.Contains(rest[:authority], ":") && at < 0 {
		at = last
	}
	if at >= 0 {
		rest = Redacted + rest[at:]
	}
	if path, _, ok := strings.Cut(rest, "?"); ok && web {
		rest = path + "?" + Redacted
	}
	return rest
}

// redactJSON redacts a JSON text in qemu's dialect and keeps the rest of it
// byte for byte, but for single quotes. Of a text that is not valid nothing
// stays if it could hold a secret.
func redactJSON(text string, object bool, depth int) string {
	if !suspicious(text) && !(object && strings.Contains(text, "data")) {
		return text
	}
	r := jsonRedactor{object: object, depth: depth}
	r.start(text)
	if !r.value(false) || !errors.Is(r.skip(), io.EOF) {
		return Redacted
	}
	r.out.WriteString(r.text[r.done:])
	return r.out.String()
}

// jsonRedactor copies text to out up to done.
type jsonRedactor struct {
	jsonReader
	object bool // of -object: "data" is secret
	depth  int
	out    strings.Builder
	done   int
}

// value redacts the next value, all of it if secret is set, and reports
// whether it was valid.
func (r *jsonRedactor) value(secret bool) bool {
	if r.deep() {
		return false
	}
	switch kind := r.kind(); kind {
	case '{':
		return r.members(secret)
	case '[':
		return r.elements(secret)
	case '"', '0':
		return r.plain(secret, kind)
	default:
		return r.skip() == nil
	}
}

// plain redacts a string or a number.
func (r *jsonRedactor) plain(secret bool, kind jsontext.Kind) bool {
	text, from, to, err := r.scalar()
	if err != nil {
		return false
	}
	clean := text
	switch {
	case secret && text != "":
		clean = Redacted
	case kind == '"':
		clean = redactAddress(text, r.depth)
	}
	if clean == text {
		return true
	}
	quoted, err := jsontext.AppendQuote(nil, clean)
	r.out.WriteString(r.text[r.done:from])
	r.out.Write(quoted)
	r.done = to
	return err == nil
}

func (r *jsonRedactor) members(secret bool) bool {
	if r.skip() != nil {
		return false
	}
	for r.kind() != '}' {
		key, _, _, err := r.scalar()
		if err != nil {
			return false
		}
		if !r.value(secret || isSecret(key) || r.object && key == "data") {
			return false
		}
	}
	return r.skip() == nil
}

func (r *jsonRedactor) elements(secret bool) bool {
	if r.skip() != nil {
		return false
	}
	for r.kind() != ']' {
		if !r.value(secret) {
			return false
		}
	}
	return r.skip() == nil
}
