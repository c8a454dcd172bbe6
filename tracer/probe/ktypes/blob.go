package ktypes

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// The format is described in Documentation/bpf/btf.rst of the kernel.
const (
	magic      = 0xeb9f
	version    = 1
	headerSize = 24
	typeSize   = 12
	memberSize = 12
	paramSize  = 8
)

// The kinds of types, as in include/uapi/linux/btf.h.
const (
	kindInt = iota + 1
	kindPtr
	kindArray
	kindStruct
	kindUnion
	kindEnum
	kindFwd
	kindTypedef
	kindVolatile
	kindConst
	kindRestrict
	kindFunc
	kindFuncProto
	kindVar
	kindDatasec
	kindFloat
	kindDeclTag
	kindTypeTag
	kindEnum64
)

// layout is how long a type of each kind is: its three words, so many bytes
// more, and so many for each of its members. Kinds that are not known have none.
var layout = [32]struct{ fixed, each uint8 }{
	kindInt:       {fixed: typeSize + 4},
	kindPtr:       {fixed: typeSize},
	kindArray:     {fixed: typeSize + 12},
	kindStruct:    {fixed: typeSize, each: memberSize},
	kindUnion:     {fixed: typeSize, each: memberSize},
	kindEnum:      {fixed: typeSize, each: 8},
	kindFwd:       {fixed: typeSize},
	kindTypedef:   {fixed: typeSize},
	kindVolatile:  {fixed: typeSize},
	kindConst:     {fixed: typeSize},
	kindRestrict:  {fixed: typeSize},
	kindFunc:      {fixed: typeSize},
	kindFuncProto: {fixed: typeSize, each: paramSize},
	kindVar:       {fixed: typeSize + 4},
	kindDatasec:   {fixed: typeSize, each: 12},
	kindFloat:     {fixed: typeSize},
	kindDeclTag:   {fixed: typeSize + 4},
	kindTypeTag:   {fixed: typeSize},
	kindEnum64:    {fixed: typeSize, each: 12},
}

// split takes apart the second word of a type. size is 0 for an unknown kind.
func split(info uint32) (kind uint8, count, size int) {
	kind, count = uint8(info>>24&0x1f), int(info&0xffff)
	l := &layout[kind]
	return kind, count, int(l.fixed) + int(l.each)*count
}

var (
	errShort = errors.New("BTF ends too early")
	errLoop  = errors.New("types refer to each other without end")
)

// stride is how many types apart the known positions in a blob are. With the
// position of each, the index would be a tenth of the blob.
const stride = 64

// blob is BTF as the kernel gives it.
type blob struct {
	types   []byte
	strings []byte
	index   []uint32 // positions in types: of type 1, 1+stride, 1+2*stride, ...
}

// record is one type. Its data, if any, follow the three words.
type record struct {
	name  uint32
	kind  uint8
	flag  bool   // kind_flag: members' offsets also hold the size of a bit field
	count int    // vlen
	ref   uint32 // size, or the type that this one refers to
	data  []byte
}

func parse(raw []byte) (*blob, error) {
	if len(raw) < headerSize {
		return nil, errShort
	}
	if m := binary.LittleEndian.Uint16(raw); m != magic || raw[2] != version {
		return nil, fmt.Errorf("no little-endian BTF of version %d: it begins with %#x", version, raw[:4])
	}
	word := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(raw[at:])) }
	body := raw[min(word(4), uint64(len(raw))):]
	section := func(at int) ([]byte, error) {
		start, size := word(at), word(at+4)
		if start+size > uint64(len(body)) {
			return nil, errShort
		}
		return body[start : start+size], nil
	}
	types, err := section(8)
	if err != nil {
		return nil, err
	}
	strings, err := section(16)
	if err != nil {
		return nil, err
	}
	return &blob{types: types, strings: strings}, nil
}

// recordAt reads the type at a position, and returns the position of the next.
func (b *blob) recordAt(at int) (record, int, error) {
	rest := b.types[at:]
	if len(rest) < typeSize {
		return record{}, 0, errShort
	}
	info := binary.LittleEndian.Uint32(rest[4:])
	kind, count, size := split(info)
	if size == 0 {
		return record{}, 0, fmt.Errorf("BTF has a type of unknown kind %d", kind)
	}
	if len(rest) < size {
		return record{}, 0, errShort
	}
	return record{
		name:  binary.LittleEndian.Uint32(rest),
		kind:  kind,
		flag:  info>>31 != 0,
		count: count,
		ref:   binary.LittleEndian.Uint32(rest[8:]),
		data:  rest[typeSize:size],
	}, at + size, nil
}

// scan goes over all types once. It fills the index, and returns the ids of
// the structs, unions and functions of those names.
func (b *blob) scan(names map[string]bool) (map[string][]btf.TypeID, error) {
	found := make(map[string][]btf.TypeID)
	var begin [1 << 16]bool // two bytes with which a name begins, or ends
	for name := range names {
		name += "\x00\x00"
		begin[uint16(name[0])|uint16(name[1])<<8] = true
	}
	b.index = make([]uint32, 0, len(b.types)/(2*typeSize*stride))
	rest := b.types
	for id := btf.TypeID(1); len(rest) > 0; id++ {
		if (id-1)%stride == 0 {
			b.index = append(b.index, uint32(len(b.types)-len(rest)))
		}
		if len(rest) < typeSize {
			return nil, errShort
		}
		kind, _, size := split(binary.LittleEndian.Uint32(rest[4:8]))
		if size == 0 {
			return nil, fmt.Errorf("type %d is of unknown kind %d", id, kind)
		}
		if len(rest) < size {
			return nil, errShort
		}
		name := binary.LittleEndian.Uint32(rest[:4])
		rest = rest[size:]
		if kind != kindStruct && kind != kindUnion && kind != kindFunc {
			continue
		}
		if uint64(name)+1 >= uint64(len(b.strings)) || !begin[binary.LittleEndian.Uint16(b.strings[name:])] {
			continue
		}
		if s := b.string(name); names[string(s)] {
			found[string(s)] = append(found[string(s)], id)
		}
	}
	return found, nil
}

// typeByID reads a type. scan must have filled the index.
func (b *blob) typeByID(id btf.TypeID) (record, error) {
	i := (uint64(id) - 1) / stride // id 0, void, is out of range, too
	if i >= uint64(len(b.index)) {
		return record{}, fmt.Errorf("there is no type %d", id)
	}
	at := int(b.index[i])
	for range (id - 1) % stride {
		_, next, err := b.recordAt(at)
		if err != nil {
			return record{}, err
		}
		at = next
	}
	r, _, err := b.recordAt(at)
	return r, err
}

// underlying is typeByID without typedefs and qualifiers.
func (b *blob) underlying(id btf.TypeID) (record, error) {
	for range maxDepth {
		r, err := b.typeByID(id)
		if err != nil {
			return r, err
		}
		switch r.kind {
		case kindTypedef, kindVolatile, kindConst, kindRestrict, kindTypeTag:
			id = btf.TypeID(r.ref)
		default:
			return r, nil
		}
	}
	return record{}, errLoop
}

// string returns the string at a position, "" if there is none.
func (b *blob) string(at uint32) []byte {
	if at >= uint32(len(b.strings)) {
		return nil
	}
	s := b.strings[at:]
	if end := bytes.IndexByte(s, 0); end >= 0 {
		return s[:end]
	}
	return nil
}

// member is one member of a struct or union.
type member struct {
	name   []byte
	typ    btf.TypeID
	offset btf.Bits
	bits   btf.Bits // size of a bit field, else 0
}

func (b *blob) member(r *record, i int) member {
	data := r.data[i*memberSize:]
	m := member{
		name:   b.string(binary.LittleEndian.Uint32(data)),
		typ:    btf.TypeID(binary.LittleEndian.Uint32(data[4:])),
		offset: btf.Bits(binary.LittleEndian.Uint32(data[8:])),
	}
	if r.flag {
		m.offset, m.bits = m.offset&0xffffff, m.offset>>24
	}
	return m
}
