// Package ktypes reads from the kernel's description of its types (BTF) the
// little that a set of eBPF programs needs to be loaded.
//
// The library that loads them would index all of it, 130 000 types of vmlinux
// and those of every module, to find some twenty offsets: most of the time
// that loading takes, at a moment of the boot when every millisecond counts.
package ktypes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Path is where the kernel describes its types.
const Path = "/sys/kernel/btf/vmlinux"

// maxDepth bounds how deep types may be nested in each other. The library that
// relocates has the same bound. maxMembers bounds the work on types that nest
// the same one again and again; task_struct has about 250.
const (
	maxDepth   = 32
	maxMembers = 1 << 16
)

// Types are the types and functions of one kernel that were asked for.
type Types struct {
	blob  *blob
	found map[string][]btf.TypeID
	local map[string]fields // by essential name
	seen  int               // members that were looked at
	// mapped is the memory that blob is in, where it is not the heap.
	mapped []byte
}

// fields are the members that the programs know of a struct or union, by name.
type fields map[string]btf.Type

// Read finds in the raw BTF of a kernel the structs and unions that local, the
// programs' own types, has too, and more structs, unions and functions by name.
func Read(raw []byte, local *btf.Spec, more ...string) (*Types, error) {
	t := &Types{local: make(map[string]fields)}
	for typ, err := range local.All() {
		if err != nil {
			return nil, fmt.Errorf("read the programs' types: %w", err)
		}
		t.want(typ)
	}
	names := make(map[string]bool, len(t.local)+len(more))
	for name := range t.local {
		names[name] = true
	}
	for _, name := range more {
		names[name] = true
	}
	var err error
	if t.blob, err = parse(raw); err != nil {
		return nil, err
	}
	t.found, err = t.blob.scan(names)
	return t, err
}

// ReadKernel is Read of the running kernel. The types are to be closed.
func ReadKernel(local *btf.Spec, more ...string) (*Types, error) {
	f, err := os.Open(Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// Megabytes that are soon given back: outside the heap, and without a page
	// fault for every page.
	raw, err := unix.Mmap(-1, 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("get %d bytes of memory for %s: %w", info.Size(), Path, err)
	}
	var t *Types
	if _, err = io.ReadFull(f, raw); err == nil {
		t, err = Read(raw, local, more...)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", Path, err), unix.Munmap(raw))
	}
	t.mapped = raw
	return t, nil
}

// Close frees the kernel's types. What was taken from t stays.
func (t *Types) Close() error {
	if t.mapped == nil {
		return nil
	}
	t.blob = &blob{}
	t.found = nil
	err := unix.Munmap(t.mapped)
	t.mapped = nil
	return err
}

// want notes the name and the members of a type of the programs.
func (t *Types) want(typ btf.Type) {
	// name___flavour stands for name.
	name, _, _ := strings.Cut(typ.TypeName(), "___")
	members, ok := fieldsOf(typ)
	if !ok || name == "" {
		return
	}
	if t.local[name] == nil {
		t.local[name] = make(fields)
	}
	maps.Copy(t.local[name], members)
}

func fieldsOf(typ btf.Type) (fields, bool) {
	var members []btf.Member
	switch typ := typ.(type) {
	case *btf.Struct:
		members = typ.Members
	case *btf.Union:
		members = typ.Members
	default:
		return nil, false
	}
	f := make(fields)
	for _, m := range members {
		if m.Name != "" {
			f[m.Name] = m.Type
		} else if inner, ok := fieldsOf(btf.UnderlyingType(m.Type)); ok {
			maps.Copy(f, inner)
		}
	}
	return f, true
}

// Spec returns the kernel's structs and unions of those names, each with those
// members only that the programs know of it: enough to relocate accesses to
// fields, not for enums nor for ids of types. Pointers lead nowhere, and
// members of anonymous members belong to what these are in.
func (t *Types) Spec() (*btf.Spec, error) {
	t.seen = 0
	var types []btf.Type
	for _, name := range slices.Sorted(maps.Keys(t.local)) {
		for _, id := range t.found[name] {
			r, err := t.blob.typeByID(id)
			if err != nil {
				return nil, err
			}
			if r.kind == kindFunc {
				continue
			}
			typ, err := t.composite(&r, name, t.local[name], maxDepth)
			if err != nil {
				return nil, fmt.Errorf("type %s: %w", name, err)
			}
			types = append(types, typ)
		}
	}
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		return nil, err
	}
	return b.Spec()
}

func (t *Types) composite(r *record, name string, want fields, depth int) (btf.Type, error) {
	members, err := t.members(nil, r, want, 0, depth)
	if err != nil {
		return nil, err
	}
	if r.kind == kindUnion {
		return &btf.Union{Name: name, Size: r.ref, Members: members}, nil
	}
	return &btf.Struct{Name: name, Size: r.ref, Members: members}, nil
}

// members appends the wanted members of r, which begins at base.
func (t *Types) members(to []btf.Member, r *record, want fields, base btf.Bits, depth int) ([]btf.Member, error) {
	if t.seen += r.count; depth <= 0 || t.seen > maxMembers {
		return nil, errLoop
	}
	for i := range r.count {
		m := t.blob.member(r, i)
		local, wanted := want[string(m.name)]
		switch {
		case len(m.name) == 0:
			inner, err := t.blob.underlying(m.typ)
			if err != nil {
				return nil, err
			}
			if inner.kind != kindStruct && inner.kind != kindUnion {
				continue // padding
			}
			if to, err = t.members(to, &inner, want, base+m.offset, depth-1); err != nil {
				return nil, err
			}
		case wanted:
			typ, err := t.convert(local, m.typ, depth-1)
			if err != nil {
				return nil, fmt.Errorf("member %s: %w", m.name, err)
			}
			to = append(to, btf.Member{Name: string(m.name), Type: typ, Offset: base + m.offset, BitfieldSize: m.bits})
		}
	}
	return to, nil
}

// convert returns the kernel's type id, as far as the programs, which know it
// as local, can look into it.
func (t *Types) convert(local btf.Type, id btf.TypeID, depth int) (btf.Type, error) {
	if depth <= 0 {
		return nil, errLoop
	}
	r, err := t.blob.underlying(id)
	if err != nil {
		return nil, err
	}
	local = btf.UnderlyingType(local)
	switch r.kind {
	case kindInt:
		encoding := btf.IntEncoding(r.data[3] & 0xf)
		return &btf.Int{Name: "int", Size: r.ref, Encoding: encoding}, nil
	case kindPtr:
		return &btf.Pointer{Target: &btf.Void{}}, nil
	case kindEnum, kindEnum64:
		return &btf.Enum{Name: "enum", Size: r.ref, Signed: r.flag}, nil
	case kindFloat:
		return &btf.Float{Name: "float", Size: r.ref}, nil
	case kindArray:
		return t.array(local, &r, depth)
	case kindStruct, kindUnion:
		want, _ := fieldsOf(local)
		return t.composite(&r, "", want, depth)
	}
	return nil, fmt.Errorf("a member cannot be of kind %d", r.kind)
}

func (t *Types) array(local btf.Type, r *record, depth int) (btf.Type, error) {
	element := btf.Type(&btf.Void{})
	if a, ok := local.(*btf.Array); ok {
		element = a.Type
	}
	typ, err := t.convert(element, btf.TypeID(binary.LittleEndian.Uint32(r.data)), depth-1)
	if err != nil {
		return nil, err
	}
	index := &btf.Int{Name: "int", Size: 4}
	return &btf.Array{Index: index, Type: typ, Nelems: binary.LittleEndian.Uint32(r.data[8:])}, nil
}

// Has reports whether the kernel has a struct, union or function of one of the
// names that were asked for.
func (t *Types) Has(name string) bool { return len(t.found[name]) > 0 }

// Member returns the name of the type of which a member is declared, "" for one
// without a name: of the struct or union of a name that was asked for, or of one
// in it, to which the path leads. It is false if there is no such member.
func (t *Types) Member(name string, path ...string) (typ string, ok bool) {
	t.seen = 0
	for _, id := range t.found[name] {
		for _, member := range path {
			if id, ok = t.memberOf(id, member, maxDepth); !ok {
				break
			}
		}
		if !ok {
			continue
		}
		if r, err := t.blob.typeByID(id); err == nil {
			return string(t.blob.string(r.name)), true
		}
	}
	return "", false
}

// memberOf returns the type of a member; those of anonymous members count as
// members of what these are in.
func (t *Types) memberOf(id btf.TypeID, name string, depth int) (btf.TypeID, bool) {
	r, err := t.blob.underlying(id)
	if err != nil || depth <= 0 || r.kind != kindStruct && r.kind != kindUnion {
		return 0, false
	}
	if t.seen += r.count; t.seen > maxMembers {
		return 0, false
	}
	for i := range r.count {
		m := t.blob.member(&r, i)
		if string(m.name) == name {
			return m.typ, true
		}
		if len(m.name) > 0 {
			continue
		}
		if inner, ok := t.memberOf(m.typ, name, depth-1); ok {
			return inner, true
		}
	}
	return 0, false
}

// Function is a function of the kernel.
type Function struct {
	Name string
	ID   btf.TypeID
	// Params has an entry for each parameter: the name of the struct to which
	// it points, or "".
	Params []string
}

// Function returns the function of a name that was asked for, false if there
// is none, or more than one.
func (t *Types) Function(name string) (Function, bool) {
	var f Function
	for _, id := range t.found[name] {
		r, err := t.blob.typeByID(id)
		if err != nil || r.kind != kindFunc {
			continue
		}
		proto, err := t.blob.typeByID(btf.TypeID(r.ref))
		if err != nil || proto.kind != kindFuncProto || f.ID != 0 {
			return Function{}, false
		}
		f = Function{Name: name, ID: id, Params: t.params(&proto)}
	}
	return f, f.ID != 0
}

func (t *Types) params(proto *record) []string {
	names := make([]string, proto.count)
	for i := range names {
		id := btf.TypeID(binary.LittleEndian.Uint32(proto.data[i*paramSize+4:]))
		pointer, err := t.blob.underlying(id)
		if err != nil || pointer.kind != kindPtr {
			continue
		}
		if to, err := t.blob.underlying(btf.TypeID(pointer.ref)); err == nil && to.kind == kindStruct {
			names[i] = string(t.blob.string(to.name))
		}
	}
	return names
}
