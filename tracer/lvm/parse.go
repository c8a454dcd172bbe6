package lvm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// row is one line of a report, a text for each field.
type row map[string]string

// on reports whether a property of two values is set: LVM prints its name, or
// nothing.
func (r row) on(field string) bool { return r[field] != "" }

// off reports whether such a property is off. An LVM that does not know the
// field has it on.
func (r row) off(field string) bool {
	value, asked := r[field]
	return asked && value == ""
}

func (r row) list(field string) []string {
	if r[field] == "" {
		return nil
	}
	return strings.Split(r[field], ",")
}

// report is what one reporting command had to say.
type report struct {
	rows []row
	// said are LVM's messages, of both streams.
	said []string
	// whole is false where the report ends early, or a row of it is damaged: then
	// what is not in rows may still exist.
	whole bool
}

// Bounds of a report.
const (
	maxRow     = 256 << 10 // bytes
	maxDamaged = 100       // rows; after that it is no report of LVM's
	maxSaid    = 256       // messages
	maxMessage = 300       // bytes of one
)

var errNoReport = errors.New("LVM's report is not understood: there is no JSON in it")

// parse reads what --reportformat json prints: reports, each with lists of rows
// by the kind of object, "vg" say. LVM prints messages into the middle of it
// ("Retrying metadata scan."), so each row is read by itself: what is wrong with
// one costs no other.
func parse(out Output, object string) (report, error) {
	text, said := unmix(out.Stdout)
	r := report{said: append(said, messages(out.Stderr)...)}
	r.said = r.said[max(0, len(r.said)-maxSaid):]
	if !bytes.ContainsRune(text, '{') {
		return r, errNoReport
	}
	s := scanner{text: text, object: object}
	s.scan()
	r.rows, r.whole = s.rows, s.depth == 0 && s.damaged == 0 && !out.Cut
	return r, nil
}

// unmix takes the lines that are no JSON out of a report. LVM prints whole lines.
func unmix(printed []byte) (text []byte, said []string) {
	text = make([]byte, 0, len(printed))
	for line := range bytes.Lines(printed) {
		trimmed := bytes.TrimSpace(line)
		switch {
		case len(trimmed) == 0:
		case bytes.IndexByte([]byte(`{}[]",`), trimmed[0]) >= 0:
			text = append(text, line...)
		case len(said) < maxSaid:
			said = append(said, message(trimmed))
		}
	}
	return text, said
}

// messages are the lines that LVM printed to stderr.
func messages(stderr []byte) []string {
	var said []string
	for line := range bytes.Lines(stderr) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			said = append(said, message(line))
		}
	}
	return said[max(0, len(said)-maxSaid):]
}

// message is a line of LVM's that can go into a log.
func message(line []byte) string {
	s := strings.ToValidUTF8(string(line[:min(len(line), maxMessage)]), "?")
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
}

// scanner finds the rows of one kind of object.
type scanner struct {
	text    []byte
	object  string
	rows    []row
	depth   int // of brackets that are open
	damaged int // rows that are none
}

func (s *scanner) scan() {
	var last, list string // the last text, and the list that it names
	for i := 0; i < len(s.text) && s.damaged < maxDamaged; i++ {
		switch s.text[i] {
		case '"':
			n := quoted(s.text[i:])
			if n == 0 { // it ends within
				s.depth++
				return
			}
			last = string(s.text[i+1 : i+n-1])
			i += n - 1
		case '[':
			s.depth++
			list = last
		case '{':
			if list == s.object {
				if n := s.row(s.text[i:]); n > 0 {
					i += n - 1
					continue
				}
				s.damaged++
			}
			s.depth++
		case ']':
			s.depth--
			list = ""
		case '}':
			s.depth--
		}
	}
}

// quoted returns the length of the JSON string that text begins with, 0 if it
// does not end, or is longer than a row.
func quoted(text []byte) int {
	for i := 1; i < min(len(text), maxRow); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// row reads the row that text begins with, and returns its length, 0 if it is
// none.
func (s *scanner) row(text []byte) int {
	var values map[string]any
	d := json.NewDecoder(bytes.NewReader(text[:min(len(text), maxRow)]))
	if d.Decode(&values) != nil {
		return 0
	}
	s.rows = append(s.rows, texts(values))
	return int(d.InputOffset())
}

// texts makes texts of all values: reportformat json has only these, json_std
// has numbers and lists, too.
func texts(values map[string]any) row {
	out := make(row, len(values))
	for name, value := range values {
		switch v := value.(type) {
		case nil:
			out[name] = ""
		case string:
			out[name] = v
		case []any:
			list := make([]string, 0, len(v))
			for _, x := range v {
				list = append(list, fmt.Sprint(x))
			}
			out[name] = strings.Join(list, ",")
		default:
			out[name] = fmt.Sprint(value)
		}
	}
	return out
}

// settings are those that decide about activation.
var settings = map[string]bool{
	"global/event_activation":                true,
	"global/use_lvmlockd":                    true,
	"activation/auto_activation_volume_list": true,
	"activation/volume_list":                 true,
	"devices/use_devicesfile":                true,
	"devices/filter":                         true,
	"devices/global_filter":                  true,
}

// maxSetting bounds the value of one of them, in bytes.
const maxSetting = 16 << 10

// parseConfig reads what lvmconfig prints: sections in braces, a line a
// setting.
func parseConfig(printed []byte) map[string]string {
	out := map[string]string{}
	var section []string
	for line := range strings.Lines(string(printed)) {
		line = strings.TrimSpace(line)
		name, value, assigned := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(line, "#"):
		case assigned:
			key := strings.Join(append(section[:len(section):len(section)], strings.TrimSpace(name)), "/")
			if settings[key] {
				value = strings.TrimSpace(value)
				out[key] = value[:min(len(value), maxSetting)]
			}
		case strings.HasSuffix(line, "{"):
			section = append(section, strings.TrimSpace(strings.TrimSuffix(line, "{")))
		case line == "}" && len(section) > 0:
			section = section[:len(section)-1]
		}
	}
	return out
}
