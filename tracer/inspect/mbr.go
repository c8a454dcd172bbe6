package inspect

import (
	"fmt"
	"slices"
	"strconv"
)

// mbr is the old partition table, four entries in the first sector. One of them
// can hold more in a chain of such sectors, each with one partition and the next.
var mbr = format{name: "a partition table (MBR)", find: findMBR}

const (
	mbrSector    = 512 // nobody has tables of larger sectors but in GPT's company
	mbrTable     = 446
	mbrProtects  = 0xee // a GPT is beside it
	mbrMostLinks = 60
)

type mbrEntry struct {
	kind        byte
	start, size int64 // bytes
}

func (e *mbrEntry) chain() bool { return e.kind == 0x05 || e.kind == 0x0f || e.kind == 0x85 }

// mbrEntries reads a table; ok is false where it can't be one.
func mbrEntries(b []byte) (list [4]mbrEntry, ok bool) {
	if b[510] != 0x55 || b[511] != 0xaa {
		return list, false
	}
	used := false
	for i := range list {
		raw := b[mbrTable+16*i:]
		if raw[0]&0x7f != 0 {
			return list, false
		}
		list[i] = mbrEntry{kind: raw[4], start: int64(le.Uint32(raw[8:])) * mbrSector, size: int64(le.Uint32(raw[12:])) * mbrSector}
		if list[i].kind != 0 {
			used = used || list[i].size > 0
		}
	}
	return list, used
}

// mbrProtected reports whether a table says that a GPT is beside it. Hybrid tables list
// some of its partitions, too.
func mbrProtected(entries [4]mbrEntry) bool {
	return slices.ContainsFunc(entries[:], func(e mbrEntry) bool { return e.kind == mbrProtects })
}

func findMBR(a *area) (*Layer, error) {
	b, err := a.bytes(0, mbrSector)
	if err != nil {
		return nil, err
	}
	entries, ok := mbrEntries(b)
	if !ok {
		return nil, nil
	}
	l := &Layer{Kind: KindMBR}
	if id := le.Uint32(b[440:]); id != 0 {
		l.UUID = fmt.Sprintf("%08x", id)
	}
	l.looked("table")
	for i, e := range entries {
		switch {
		case e.kind == 0 || e.size == 0:
		case e.kind == mbrProtects:
			l.damage("partition table", 0, "it says that a GPT is beside it, and none was found")
		case e.chain():
			l.Needs = max(l.Needs, e.start+e.size)
			mbrChain(a, l, e)
		default:
			l.Needs = max(l.Needs, e.start+e.size)
			a.partition(l, strconv.Itoa(i+1), e.start, e.size, fmt.Sprintf("type %02x", e.kind), true)
		}
	}
	return l, nil
}

// mbrChain follows the partitions inside one. Each sector of the chain counts its
// partition from itself, and the next link from the beginning.
func mbrChain(a *area, l *Layer, around mbrEntry) {
	at := around.start
	for n := range mbrMostLinks {
		b, err := a.bytes(at, mbrSector)
		if err != nil {
			l.unsure("the chain of partitions was followed to number %d: %v", 4+n, err)
			return
		}
		entries, ok := mbrEntries(b)
		switch {
		case !ok && n == 0 && zeros(b):
			l.unsure("the extended partition at byte %d begins with zeros: it never had partitions, or they are gone", at)
			return
		case !ok && n == 0 && b[510] == 0x55 && b[511] == 0xaa && zeros(b[mbrTable:510]):
			l.note("the extended partition at byte %d has no partitions", at)
			return
		case !ok:
			l.damage("partition table", at, "it is not one, and the one before names it")
			return
		}
		if e := entries[0]; e.kind != 0 && e.size > 0 && !e.chain() {
			a.partition(l, strconv.Itoa(5+n), at+e.start, e.size, fmt.Sprintf("type %02x", e.kind), true)
		}
		next := entries[1]
		if !next.chain() || next.size == 0 {
			return
		}
		if to := around.start + next.start; to > at { // each lies after the one before
			at = to
			continue
		}
		l.damage("partition table", at, "the next one that it names is not behind it")
		return
	}
	l.unsure("more than %d partitions are chained: the others were not looked at", mbrMostLinks)
}

// partition adds a partition and looks inside it, unless its type says that no
// file system is there.
func (a *area) partition(l *Layer, name string, start, size int64, detail string, holds bool) {
	p := &Layer{Kind: KindPartition, Name: name, Offset: start, Needs: size, Detail: detail}
	in := a.part(start, size)
	p.Has = in.size
	l.Inside = append(l.Inside, p)
	switch {
	case !holds:
		p.note("by its type it holds no file system: not looked into")
	case in.size == 0:
		p.State, p.Why = StateUnknown, "all of it lies beyond the end of the device"
	default:
		in.identify(p)
	}
}
