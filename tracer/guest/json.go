package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

var (
	errTooManyKeys = fmt.Errorf("more than %d keys, the rest is ignored", maxKeys)
	errTooDeep     = errors.New("nested too deeply")
)

// jsonReader reads qemu's dialect of JSON. Like qemu, it refuses invalid UTF-8.
// One reader serves many texts, one after another.
type jsonReader struct {
	text    string // with double quotes only
	buffer  bytes.Buffer
	decoder jsontext.Decoder
}

func (r *jsonReader) start(text string) {
	r.text = doubleQuotes(text)
	r.buffer.Reset()
	r.buffer.WriteString(r.text)
	r.decoder.Reset(&r.buffer, jsontext.AllowDuplicateNames(true))
}

// kind returns what comes next: one of {}[]"0tfn, or 0 at the end or where the
// text is not valid.
func (r *jsonReader) kind() jsontext.Kind { return r.decoder.PeekKind() }

// skip reads a brace, a bracket, a boolean or a null.
func (r *jsonReader) skip() error {
	_, err := r.decoder.ReadToken()
	return err
}

// scalar reads a string, number or boolean, and returns its text and where it
// stands. Without escapes the text is a part of r.text.
func (r *jsonReader) scalar() (text string, from, to int, err error) {
	raw, err := r.decoder.ReadValue()
	if err != nil {
		return "", 0, 0, err
	}
	to = int(r.decoder.InputOffset())
	from = to - len(raw)
	switch {
	case raw[0] != '"':
		return r.text[from:to], from, to, nil
	case bytes.IndexByte(raw, '\\') < 0:
		return r.text[from+1 : to-1], from, to, nil
	}
	plain, err := jsontext.AppendUnquote(nil, raw)
	return string(plain), from, to, err
}

// deep reports whether the text nests further than qemu would follow.
func (r *jsonReader) deep() bool { return r.decoder.StackDepth() > maxNesting }

// parse reads a text of one JSON value.
func (r *jsonReader) parse(text string) (*value, error) {
	r.start(text)
	v, err := r.value()
	if err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", jsonReason(err))
	}
	if err := r.skip(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not valid JSON: text after its end")
	}
	return &v, nil
}

// jsonReason keeps the place and drops the quotation of the text, which may
// have control characters and secrets in it.
func jsonReason(err error) error {
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		return fmt.Errorf("after byte %d", syntax.ByteOffset)
	}
	return err
}

func (r *jsonReader) value() (value, error) {
	if r.deep() {
		return value{}, errTooDeep
	}
	switch r.kind() {
	case '{':
		return r.object()
	case '[':
		return r.array()
	case 'n':
		return value{null: true}, r.skip()
	default:
		text, _, _, err := r.scalar()
		return value{text: text, hasText: true}, err
	}
}

func (r *jsonReader) object() (v value, err error) {
	if err := r.skip(); err != nil {
		return v, err
	}
	for r.kind() != '}' {
		if len(v.members) == maxKeys {
			return v, errTooManyKeys
		}
		name, _, _, err := r.scalar()
		if err != nil {
			return v, err
		}
		if silent[name] {
			if err := r.decoder.SkipValue(); err != nil {
				return v, err
			}
			continue
		}
		m, err := r.value()
		if err != nil {
			return v, err
		}
		*v.child(name) = m
	}
	return v, r.skip()
}

// silent are the keys that libvirt writes the most, and that say nothing about
// where an image lies.
var silent = map[string]bool{
	"cache": true, "auto-read-only": true, "discard": true, "detect-zeroes": true, "aio": true,
	"bus": true, "addr": true, "bootindex": true, "write-cache": true,
}

func (r *jsonReader) array() (value, error) {
	v := value{list: true}
	if err := r.skip(); err != nil {
		return v, err
	}
	for r.kind() != ']' {
		m, err := r.value()
		if err != nil {
			return v, err
		}
		v.add("", m)
	}
	return v, r.skip()
}

// doubleQuotes turns the strings in single quotes that qemu takes besides
// standard JSON, as in file=json:{'driver':'raw'}, into standard ones, and the
// escape \' into a plain quote.
func doubleQuotes(text string) string {
	if !strings.Contains(text, "'") {
		return text
	}
	var b strings.Builder
	b.Grow(len(text) + 16)
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
			b.WriteByte('"')
		case quote == 0:
			b.WriteByte(c)
		case c == '\\' && i+1 < len(text):
			i++
			if text[i] != '\'' {
				b.WriteByte('\\')
			}
			b.WriteByte(text[i])
		case c == quote:
			quote = 0
			b.WriteByte('"')
		case c == '"':
			b.WriteString(`\"`)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
