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

// jsonDecoder reads qemu's JSON. Like qemu, it refuses invalid UTF-8.
func jsonDecoder(text string) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBufferString(text), jsontext.AllowDuplicateNames(true))
}

// parseJSON reads one JSON value.
func parseJSON(text string) (*value, error) {
	d := jsonDecoder(doubleQuotes(text))
	v, err := readValue(d)
	if err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", jsonReason(err))
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return nil, errors.New("not valid JSON: text after its end")
	}
	return v, nil
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

func readValue(d *jsontext.Decoder) (*value, error) {
	if d.StackDepth() > maxNesting {
		return nil, errTooDeep
	}
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		return readObject(d)
	case '[':
		return readArray(d)
	case 'n':
		return &value{null: true}, nil
	default:
		return &value{text: token.String(), hasText: true}, nil
	}
}

func readObject(d *jsontext.Decoder) (*value, error) {
	v := new(value)
	for d.PeekKind() != '}' {
		if len(v.members) == maxKeys {
			return nil, errTooManyKeys
		}
		token, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		name := token.String()
		m, err := readValue(d)
		if err != nil {
			return nil, err
		}
		*v.child(name) = *m
	}
	_, err := d.ReadToken()
	return v, err
}

func readArray(d *jsontext.Decoder) (*value, error) {
	v := &value{list: true}
	for d.PeekKind() != ']' {
		m, err := readValue(d)
		if err != nil {
			return nil, err
		}
		v.members = append(v.members, member{value: m})
	}
	_, err := d.ReadToken()
	return v, err
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
