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
	kindMax
)

// trailing is how many bytes follow a type of each kind: so many, and so many
// for each of its members.
var trailing = [kindMax]struct{ fixed, each uint8 }{
	kindInt:       {fixed: 4},
	kindArray:     {fixed: 12},
	kindStruct:    {each: memberSize},
	kindUnion:     {each: memberSize},
	kindEnum:      {each: 8},
	kindFuncProto: {each: paramSize},
	kindVar:       {fixed: 4},
	kindDatasec:   {each: 12},
	kindDeclTag:   {fixed: 4},
	kindEnum64:    {each: 12},
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
	if at+typeSize > len(b.types) {
		return record{}, 0, errShort
	}
	head := b.types[at : at+typeSize]
	info := binary.LittleEndian.Uint32(head[4:])
	r := record{
		name:  binary.LittleEndian.Uint32(head),
		kind:  uint8(info >> 24 & 0x1f),
		flag:  info>>31 != 0,
		count: int(info & 0xffff),
		ref:   binary.LittleEndian.Uint32(head[8:]),
	}
	if r.kind == 0 || r.kind >= kindMax {
		return record{}, 0, fmt.Errorf("BTF has a type of unknown kind %d", r.kind)
	}
	size := int(trailing[r.kind].fixed) + int(trailing[r.kind].each)*r.count
	at += typeSize
	if at+size > len(b.types) {
		return record{}, 0, errShort
	}
	r.data = b.types[at : at+size]
	return r, at + size, nil
}

// scan goes over all types once. It fills the index, and returns the ids of
// the structs, unions and functions of those names.
func (b *blob) scan(names map[string]bool) (map[string][]btf.TypeID, error) {
	found := make(map[string][]btf.TypeID)
	var first [256]bool // bytes that names begin with
	for name := range names {
		first[name[0]] = true
	}
	for at, id := 0, btf.TypeID(1); at < len(b.types); id++ {
		if (id-1)%stride == 0 {
			b.index = append(b.index, uint32(at))
		}
		r, next, err := b.recordAt(at)
		if err != nil {
			return nil, fmt.Errorf("type %d: %w", id, err)
		}
		at = next
		if r.kind != kindStruct && r.kind != kindUnion && r.kind != kindFunc {
			continue
		}
		if r.name >= uint32(len(b.strings)) || !first[b.strings[r.name]] {
			continue
		}
		if name := b.string(r.name); names[string(name)] {
			found[string(name)] = append(found[string(name)], id)
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
