package ftrace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Format is the layout of one event's records, as the kernel describes it: the
// common header differs between kernels.
type Format struct {
	Name   string
	ID     uint16
	fields map[string]layout
}

type layout struct {
	offset, size int
	signed       bool
	dynamic      bool // size and offset of the value are in the record
}

// parseFormat reads an event's format file.
func parseFormat(text string) (*Format, error) {
	f := &Format{fields: map[string]layout{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "name:"):
			f.Name = strings.TrimSpace(strings.TrimPrefix(line, "name:"))
		case strings.HasPrefix(line, "ID:"):
			id, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(line, "ID:")), 10, 16)
			if err != nil {
				return nil, fmt.Errorf("event id: %w", err)
			}
			f.ID = uint16(id)
		case strings.HasPrefix(line, "field:"):
			if err := f.addField(line); err != nil {
				return nil, err
			}
		}
	}
	if f.Name == "" || f.ID == 0 || len(f.fields) == 0 {
		return nil, errors.New("event format without a name, an id or fields")
	}
	return f, nil
}

// addField reads "field:unsigned char x; offset:8; size:1; signed:0;".
func (f *Format) addField(line string) error {
	var l layout
	name := ""
	for part := range strings.SplitSeq(line, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), ":")
		n, err := strconv.Atoi(value)
		switch key {
		case "field":
			words := strings.Fields(value)
			if len(words) == 0 {
				return fmt.Errorf("field without a name: %q", line)
			}
			name, _, _ = strings.Cut(words[len(words)-1], "[")
			l.dynamic, err = words[0] == "__data_loc", nil
		case "offset":
			l.offset = n
		case "size":
			l.size = n
		case "signed":
			l.signed = n != 0
		default:
			err = nil
		}
		if err != nil {
			return fmt.Errorf("field %q: %w", line, err)
		}
	}
	if name == "" || l.offset < 0 || l.size < 0 || l.offset > 1<<16 || l.size > 1<<16 {
		return fmt.Errorf("field out of bounds: %q", line)
	}
	f.fields[name] = l
	return nil
}

// Record is one record of a trace buffer.
type Record struct {
	Format *Format
	Time   uint64 // of the trace clock, in nanoseconds
	TID    int    // of the thread that hit the event, in the initial pid namespace
	data   []byte
}

// Clone returns a record that stays valid.
func (r *Record) Clone() *Record {
	c := *r
	c.data = bytes.Clone(r.data)
	return &c
}

// Uint returns a number, 0 where the record has no such field.
func (r *Record) Uint(name string) uint64 {
	l, b := r.field(name)
	switch len(b) {
	case 1:
		return extend(uint64(b[0]), 8, l.signed)
	case 2:
		return extend(uint64(binary.NativeEndian.Uint16(b)), 16, l.signed)
	case 4:
		return extend(uint64(binary.NativeEndian.Uint32(b)), 32, l.signed)
	case 8:
		return binary.NativeEndian.Uint64(b)
	}
	return 0
}

// Int returns a number as a signed one.
func (r *Record) Int(name string) int64 { return int64(r.Uint(name)) }

func extend(n uint64, bits int, signed bool) uint64 {
	if !signed {
		return n
	}
	shift := 64 - bits
	return uint64(int64(n<<shift) >> shift)
}

// faulted is what older kernels record in place of a string that could not be
// read; newer ones leave it empty.
const faulted = "(fault)"

// String returns a string; ok is false where the kernel could not read it.
func (r *Record) String(name string) (s string, ok bool) {
	l, b := r.field(name)
	if l.dynamic && len(b) == 4 {
		loc := binary.NativeEndian.Uint32(b)
		offset, size := int(loc&0xffff), int(loc>>16)
		if size == 0 || offset+size > len(r.data) {
			return "", false
		}
		b = r.data[offset : offset+size]
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b), b != nil && string(b) != faulted
}

func (r *Record) field(name string) (layout, []byte) {
	l, ok := r.Format.fields[name]
	if !ok || l.offset+l.size > len(r.data) {
		return layout{}, nil
	}
	return l, r.data[l.offset : l.offset+l.size]
}
