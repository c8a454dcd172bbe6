package event

import (
	"bytes"
	"math"
	"slices"
)

//go:generate go run ./cmd/decoder event.go codec_own.go

// Nearly all lines of a log are of the very form in which this package writes
// them: members in the order of the type's fields, no white space, no escapes, all
// ASCII. codec_own.go is made from the types and reads that form and no other.
// Each function takes the rest of a line and returns what is left of it behind the
// value; nil says that the line is of another form. Then reader reads it from its
// start, and whether the line is an event, and which, is reader's decision alone.
// FuzzOwnForm compares the two.

// own reads a line of our own form into e, or tells that it is of another. Then e
// may have been changed.
func (d *Decoder) own(line []byte, e *Event) bool {
	rest := d.ownEvent(line, e)
	return rest != nil && len(rest) == 0
}

// ownText reads a string. The line has no escapes.
func (d *Decoder) ownText(b []byte) (string, []byte) {
	if len(b) < 2 || b[0] != '"' {
		return "", nil
	}
	b = b[1:]
	n := bytes.IndexByte(b, '"')
	if n < 0 {
		return "", nil
	}
	return share(&d.seen, b[:n]), b[n+1:]
}

// ownTexts reads a list of strings.
func (d *Decoder) ownTexts(b []byte) ([]string, []byte) {
	if len(b) < 2 || b[0] != '[' {
		return nil, nil
	}
	if b[1] == ']' {
		return []string{}, b[2:]
	}
	texts := d.texts[:0]
	for {
		var s string
		if s, b = d.ownText(b[1:]); len(b) == 0 {
			return nil, nil
		}
		texts = append(texts, s)
		if b[0] == ']' {
			d.texts = texts
			return d.payloads.textsOf(texts), b[1:]
		}
		if b[0] != ',' {
			return nil, nil
		}
	}
}

// ownList reads a list of objects.
func ownList[T any](b []byte, read func([]byte, *T) []byte) ([]T, []byte) {
	if len(b) < 2 || b[0] != '[' {
		return nil, nil
	}
	list := []T{}
	if b[1] == ']' {
		return list, b[2:]
	}
	for {
		var x T
		if b = read(b[1:], &x); len(b) == 0 {
			return nil, nil
		}
		list = append(list, x)
		if b[0] == ']' {
			return slices.Clip(list), b[1:]
		}
		if b[0] != ',' {
			return nil, nil
		}
	}
}

// ownMap reads an object whose members are strings.
func (d *Decoder) ownMap(b []byte) (map[string]string, []byte) {
	if len(b) < 2 || b[0] != '{' {
		return nil, nil
	}
	m := d.payloads.textMap()
	if b[1] == '}' {
		return m, b[2:]
	}
	for {
		var k, v string
		if k, b = d.ownText(b[1:]); len(b) == 0 || b[0] != ':' {
			return nil, nil
		}
		if v, b = d.ownText(b[1:]); len(b) == 0 {
			return nil, nil
		}
		m[k] = v
		if b[0] == '}' {
			return m, b[1:]
		}
		if b[0] != ',' {
			return nil, nil
		}
	}
}

func ownBool(b []byte) (bool, []byte) {
	if len(b) > 4 && string(b[:4]) == "true" {
		return true, b[4:]
	}
	if len(b) > 5 && string(b[:5]) == "false" {
		return false, b[5:]
	}
	return false, nil
}

// ownUint64 reads a number of at most 19 digits. What follows it is no digit; that
// it ends the number, the caller sees.
func ownUint64(b []byte) (n uint64, rest []byte) {
	i := 0
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		n = n*10 + uint64(b[i]-'0')
	}
	if i == 0 || i > 19 || b[0] == '0' && i > 1 {
		return 0, nil
	}
	return n, b[i:]
}

func ownInt64(b []byte) (int64, []byte) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	n, rest := ownUint64(b)
	switch {
	case n > math.MaxInt64:
		return 0, nil
	case negative:
		return -int64(n), rest
	}
	return int64(n), rest
}

func ownInt(b []byte) (int, []byte) {
	n, rest := ownInt64(b)
	if int64(int(n)) != n {
		return 0, nil
	}
	return int(n), rest
}

func ownUint32(b []byte) (uint32, []byte) {
	n, rest := ownUint64(b)
	if n > math.MaxUint32 {
		return 0, nil
	}
	return uint32(n), rest
}
