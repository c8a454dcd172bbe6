package guest

import (
	"strconv"
	"strings"
)

// Bounds on foreign text. The kernel allows 128 KiB an argument and a few MiB
// in all; real options have tens of keys and nest a few levels for each image
// of a backing chain.
const (
	maxKeys    = 512  // of one option or JSON object
	maxNesting = 1024 // of JSON, as in qemu (json-parser.h, MAX_NESTING)
	maxDots    = 256  // of one dotted key
)

// item is one key=value of an option.
type item struct {
	key  string
	raw  string // the value as written, with its commas doubled
	bare bool   // a key without a value, or the value of an implied key
	from int    // where raw begins in the option
}

// text returns the value as qemu sees it.
func (i item) text() string { return strings.ReplaceAll(i.raw, ",,", ",") }

// nextItem splits the first item off the option s at from, and returns where
// the next begins (get_opt_name_value in util/qemu-option.c). An item without
// "=" is the value of the implied key if it comes first and there is one, else
// a flag: "name" is name=on, "noname" name=off.
func nextItem(s string, from int, implied string) (item, int) {
	rest := s[from:]
	if n := strings.IndexAny(rest, "=,"); n >= 0 && rest[n] == '=' {
		end := valueEnd(s, from+n+1)
		return item{key: rest[:n], raw: s[from+n+1 : end], from: from + n + 1}, end + 1
	}
	if from == 0 && implied != "" {
		end := valueEnd(s, 0)
		return item{key: implied, raw: s[:end], bare: true}, end + 1
	}
	n := strings.IndexByte(rest, ',')
	if n < 0 {
		n = len(rest)
	}
	return item{key: rest[:n], bare: true, from: from}, from + n + 1
}

// valueEnd returns the index of the comma that ends the value at from. Two
// commas are one literal comma.
func valueEnd(s string, from int) int {
	for {
		n := strings.IndexByte(s[from:], ',')
		if n < 0 {
			return len(s)
		}
		from += n
		if from+1 == len(s) || s[from+1] != ',' {
			return from
		}
		from += 2
	}
}

// value is a node of the options' tree: what a keyval list with dotted keys,
// or a JSON text, says. One node can have text and members at the same time,
// as "file" has in "-drive file=/dev/vg/lv,file.locking=off".
type value struct {
	text    string
	hasText bool
	null    bool
	list    bool // members are elements of a JSON array, without names
	members []member
}

// member holds its value itself: a pointer to it is good until the next member
// is added beside it.
type member struct {
	name  string
	value value
}

// get returns a member, or nil. It may be called on nil.
func (v *value) get(name string) *value {
	if v == nil || v.list {
		return nil
	}
	for i := range v.members {
		if v.members[i].name == name {
			return &v.members[i].value
		}
	}
	return nil
}

// str returns a member's text, empty if there is none. It may be called on nil.
func (v *value) str(name string) string {
	if m := v.get(name); m != nil {
		return m.text
	}
	return ""
}

// first returns the text of the first member that is not empty.
func (v *value) first(names ...string) string {
	for _, name := range names {
		if s := v.str(name); s != "" {
			return s
		}
	}
	return ""
}

// on reports whether a boolean is set.
func (v *value) on(name string) bool {
	switch v.str(name) {
	case "on", "yes", "true", "y":
		return true
	}
	return false
}

// child returns the member of that name, made if it is missing.
func (v *value) child(name string) *value {
	if m := v.get(name); m != nil {
		return m
	}
	return v.add(name, value{})
}

// add appends a member that is not there yet.
func (v *value) add(name string, m value) *value {
	if v.members == nil {
		v.members = make([]member, 0, 5)
	}
	v.members = append(v.members, member{name, m})
	return &v.members[len(v.members)-1].value
}

// set puts text at a dotted key. The last of a repeated key wins.
func (v *value) set(key, text string) bool {
	for dots := 0; ; dots++ {
		name, rest, more := strings.Cut(key, ".")
		v = v.child(name)
		if !more {
			v.text, v.hasText = text, true
			return true
		}
		if dots == maxDots {
			return false
		}
		key = rest
	}
}

// undotted returns v with dotted names of members spelt out, at any depth: of a
// json: file name qemu makes one flat list of dotted keys (qdict_flatten), so
// that "file.filename" is the same as an object in "file".
func (v *value) undotted() *value {
	out := &value{text: v.text, hasText: v.hasText, null: v.null, list: v.list}
	for i := range v.members {
		m := &v.members[i]
		to := out
		if v.list {
			to = to.add(m.name, value{})
		} else {
			for _, part := range strings.SplitN(m.name, ".", maxDots) {
				to = to.child(part)
			}
		}
		below := to.members
		*to = *m.value.undotted()
		for _, old := range below {
			if to.get(old.name) == nil {
				to.add(old.name, old.value)
			}
		}
	}
	return out
}

// elements returns the elements of a list: of a JSON array, or the members 0,
// 1, 2, ... of a keyval list, in that order.
func (v *value) elements() []*value {
	if v == nil {
		return nil
	}
	var all []*value
	for i := range v.members {
		if v.list {
			all = append(all, &v.members[i].value)
		} else if m := v.get(strconv.Itoa(i)); m != nil {
			all = append(all, m)
		}
	}
	return all
}

// parseOpts reads a key=value list.
func parseOpts(s, implied string) (*value, error) {
	v := new(value)
	keys := 0
	for from := 0; from < len(s); keys++ {
		if keys == maxKeys {
			return v, errTooManyKeys
		}
		var it item
		it, from = nextItem(s, from, implied)
		if !v.addItem(it, implied) {
			return v, errTooDeep
		}
	}
	return v, nil
}

func (v *value) addItem(it item, implied string) bool {
	switch {
	case it.key == "id" && v.get("id") != nil:
		return true // the first id wins (opts_parse_id), unlike any other key
	case it.bare && it.key != implied:
		if name, off := strings.CutPrefix(it.key, "no"); off && flags[name] {
			return v.set(name, "off")
		}
		return v.set(it.key, "on")
	default:
		return v.set(it.key, it.text())
	}
}

// flags are the keys whose short negative form (noreadonly) matters here.
var flags = map[string]bool{"readonly": true, "read-only": true, "snapshot": true}
