package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
)

// lvm is LVM2 inside the guest. A physical volume has a label in one of its first
// four sectors, which names a metadata area; that has the whole group as a text.
// Volumes are looked into where they are made of stretches of the disks (linear
// and striped), which is what installers make; others are listed.
var lvm = format{name: "an LVM physical volume", find: findLVM}

const (
	lvmSector     = 512
	lvmLabel      = "LABELONE"
	lvmCRCStart   = 0xf597a6cf // INITIAL_CRC, lib/misc/crc.h
	lvmTextMost   = 512 << 10  // bytes of metadata text that are read
	lvmMostLayers = 512        // volumes of a group
	lvmMostPieces = 64 << 10   // stretches of a volume
	lvmMostAreas  = 16         // entries of the label's lists
	lvmMetaMagic  = " LVM2 x[5A%r0N*>"
)

// lvmCRC is a reflected CRC-32 with another start and no inversion at the end.
func lvmCRC(data []byte) uint32 {
	return ^crc32.Update(^uint32(lvmCRCStart), crc32.IEEETable, data)
}

// physical is a physical volume that was found.
type physical struct {
	uuid  string
	area  *area
	layer *Layer
	group *lvmGroup // nil where its metadata can't be had
	bare  bool      // it has none of its own, on purpose: that is on the group's other disks
}

// lvmGroup is a volume group by one copy of its metadata.
type lvmGroup struct {
	name, uuid string
	seqno      int64
	root       *lvmNode
	extent     int64 // bytes
	// pvs are the group's physical volumes by the name that the text gives them.
	pvs map[string]lvmPV
}

type lvmPV struct {
	uuid  string
	start int64 // bytes
	count int64 // extents
}

func findLVM(a *area) (*Layer, error) {
	for n := range int64(4) {
		b, err := a.bytes(n*lvmSector, lvmSector)
		if err != nil {
			return nil, err
		}
		if string(b[:8]) == lvmLabel && string(b[24:32]) == "LVM2 001" {
			return lvmFound(a, b, n), nil
		}
	}
	return nil, nil
}

// lvmFound reads the label in sector n, and what it names.
func lvmFound(a *area, b []byte, n int64) *Layer {
	l := &Layer{Kind: KindPV}
	l.looked("label")
	if sum, stored := lvmCRC(b[20:]), le.Uint32(b[16:]); sum != stored {
		l.damage("label", n*lvmSector, "its CRC is %08x and should be %08x", stored, sum)
		l.State, l.Why = StateUnknown, "nothing vouches for what its damaged label says"
		return l
	}
	header := le.Uint32(b[20:])
	if header < 32 || header > lvmSector-40 || le.Uint64(b[8:]) != uint64(n) {
		l.damage("label", n*lvmSector, "it can't be right")
		return l
	}
	h := b[header:]
	pv := &physical{uuid: strings.ReplaceAll(string(h[:32]), "-", ""), area: a, layer: l}
	l.UUID = lvmUUID(pv.uuid)
	if size, ok := product(le.Uint64(h[32:]), 1); ok {
		l.Needs = size
	}
	a.looking.pvs = append(a.looking.pvs, pv)
	metadata := lvmMetadataAreas(h[40:])
	pv.bare = len(metadata) == 0
	for _, m := range metadata {
		g, at, err := lvmMetadata(a, m[0], m[1])
		switch {
		case errors.Is(err, errLVMIgnored):
			pv.bare = true
		case errors.Is(err, errLVMNothing):
			l.note("it is in no volume group")
		case errors.Is(err, errBeyond):
			l.unsure("its metadata at byte %d lies beyond the end", at)
		case err != nil && isDamage(err):
			l.damage("metadata", at, "%v", err)
		case err != nil:
			l.unsure("its metadata was not read: %v", err)
		case pv.group == nil || g.seqno > pv.group.seqno:
			pv.group = g
		}
	}
	if pv.group != nil {
		l.Name = pv.group.name
		l.looked("metadata of group %s, version %d", pv.group.name, pv.group.seqno)
		for _, p := range pv.group.pvs {
			if size, ok := product(uint64(p.count), uint64(pv.group.extent)); p.uuid == pv.uuid && ok && size < 1<<61 {
				l.Needs = max(l.Needs, p.start+size)
			}
		}
	} else if len(l.Damage) > 0 {
		l.State, l.Why = StateUnknown, "what is in it is not known: its metadata is damaged"
	}
	return l
}

// lvmMetadataAreas returns offset and size of each metadata area: the label lists
// data areas, a zero, metadata areas, and a zero.
func lvmMetadataAreas(b []byte) (list [][2]int64) {
	behind := false
	for range lvmMostAreas {
		if len(b) < 16 {
			return list
		}
		off, okay := product(le.Uint64(b), 1)
		size, ok := product(le.Uint64(b[8:]), 1)
		b = b[16:]
		switch {
		case off == 0 && behind:
			return list
		case off == 0:
			behind = true
		case behind && ok && okay:
			list = append(list, [2]int64{off, size})
		}
	}
	return list
}

var (
	errLVMNothing = errors.New("its metadata area is empty")
	errLVMIgnored = errors.New("its metadata area is marked as one that is not used")
)

// damaged is what is wrong with metadata that could be read.
type damaged string

func (d damaged) Error() string { return string(d) }

func isDamage(err error) bool {
	var d damaged
	return errors.As(err, &d)
}

// lvmMetadata reads the newest text in a metadata area; at is where what is wrong
// is.
func lvmMetadata(a *area, at, size int64) (*lvmGroup, int64, error) {
	b, err := a.bytes(at, lvmSector)
	if err != nil {
		return nil, at, err
	}
	if string(b[4:20]) != lvmMetaMagic {
		return nil, at, damaged("its header's magic is missing")
	}
	if sum, stored := lvmCRC(b[4:]), le.Uint32(b); sum != stored {
		return nil, at, damaged(fmt.Sprintf("its header's CRC is %08x and should be %08x", stored, sum))
	}
	off, length, stored := le.Uint64(b[40:]), le.Uint64(b[48:]), le.Uint32(b[56:])
	const ignored = 1 // flag of an area that is not used
	if le.Uint32(b[60:])&ignored != 0 {
		return nil, at, errLVMIgnored
	}
	if off == 0 || length == 0 {
		return nil, at, errLVMNothing
	}
	if size <= lvmSector || off < lvmSector || off >= uint64(size) || length > uint64(size)-lvmSector {
		return nil, at, damaged("the place of its text can't be right")
	}
	if length > lvmTextMost {
		return nil, at, fmt.Errorf("a text of %d bytes is more than is read", length)
	}
	// The text goes on behind the header where it reaches the area's end.
	first := min(int64(length), size-int64(off))
	raw, err := a.bytes(at+int64(off), int(first))
	if err != nil {
		return nil, at + int64(off), err
	}
	if rest := int64(length) - first; rest > 0 {
		more, err := a.bytes(at+lvmSector, int(rest))
		if err != nil {
			return nil, at + lvmSector, err
		}
		raw = slices.Concat(raw, more)
	}
	if sum := lvmCRC(raw); sum != stored {
		return nil, at + int64(off), damaged(fmt.Sprintf("its text's CRC is %08x and should be %08x", sum, stored))
	}
	g, err := lvmParseGroup(raw)
	return g, at + int64(off), err
}

// lvmParseGroup reads the group from a metadata text.
func lvmParseGroup(raw []byte) (*lvmGroup, error) {
	root, err := parseLVM(raw)
	if err != nil {
		return nil, damaged(err.Error())
	}
	for _, name := range root.names {
		n := root.sections[name]
		extent, ok := product(uint64(max(0, n.number("extent_size"))), lvmSector)
		if n.text("id") == "" || extent == 0 || !ok {
			continue
		}
		g := &lvmGroup{
			name: name, uuid: strings.ReplaceAll(n.text("id"), "-", ""), seqno: n.number("seqno"), root: n,
			extent: extent, pvs: map[string]lvmPV{},
		}
		pvs := n.section("physical_volumes")
		for _, name := range pvs.names {
			p := pvs.sections[name]
			start, ok := product(uint64(max(0, p.number("pe_start"))), lvmSector)
			if !ok || start > 1<<61 {
				continue
			}
			g.pvs[name] = lvmPV{uuid: strings.ReplaceAll(p.text("id"), "-", ""), start: start, count: max(0, p.number("pe_count"))}
		}
		return g, nil
	}
	return nil, damaged("its text names no group")
}

// lvmUUID writes a UUID with LVM's dashes.
func lvmUUID(s string) string {
	if len(s) != 32 {
		return s
	}
	return strings.Join([]string{s[:6], s[6:10], s[10:14], s[14:18], s[18:22], s[22:26], s[26:]}, "-")
}

// groups looks into the volumes of all groups, once each physical volume is
// known.
func (l *looking) groups() {
	done := map[string]bool{}
	for _, pv := range l.pvs {
		if pv.group == nil {
			continue
		}
		g := l.newest(pv)
		// Disks that come from one template have groups of one UUID: each of them
		// is looked into by itself.
		key := g.uuid
		if l.twins(g) {
			key += fmt.Sprint(" ", pv.area.disk)
		}
		if done[key] {
			continue
		}
		done[key] = true
		l.volumes(g, pv)
	}
	for _, pv := range l.pvs {
		if pv.group == nil && pv.bare {
			l.adopt(pv)
		}
	}
}

// adopt names the group of a physical volume that has no metadata of its own, by that of
// the others.
func (l *looking) adopt(pv *physical) {
	for _, other := range l.pvs {
		if other.group == nil {
			continue
		}
		for _, p := range l.newest(other).pvs {
			if p.uuid == pv.uuid {
				pv.layer.Name = other.group.name
				return
			}
		}
	}
	pv.layer.unsure("which group it is in: it has no metadata in use, and none of the disks that were looked at has that of its group")
}

// newest is the group by the newest metadata that its physical volumes have. One
// that was away while the group changed has older text.
func (l *looking) newest(pv *physical) *lvmGroup {
	g := pv.group
	for _, other := range l.pvs {
		if o := other.group; o != nil && o.uuid == g.uuid && o.seqno > g.seqno && (other.area.disk == pv.area.disk || !l.twins(g)) {
			g = o
		}
	}
	if g != pv.group {
		pv.layer.note("its metadata is older than that of the group's other disks")
	}
	return g
}

// twins reports whether a physical volume of the group is there twice.
func (l *looking) twins(g *lvmGroup) bool {
	for _, p := range g.pvs {
		n := 0
		for _, pv := range l.pvs {
			if pv.uuid == p.uuid {
				n++
			}
		}
		if n > 1 {
			return true
		}
	}
	return false
}

// find returns the physical volume with a UUID, for one that is on a disk; nil
// where it is not there.
func (l *looking) find(uuid string, disk int) *physical {
	var found *physical
	for _, pv := range l.pvs {
		if pv.uuid != uuid {
			continue
		}
		if pv.area.disk == disk {
			return pv
		}
		found = pv
	}
	return found
}

// volumes adds the volumes of a group to the physical volume on which each
// begins, else to pv.
func (l *looking) volumes(g *lvmGroup, pv *physical) {
	for name, p := range g.pvs {
		if l.find(p.uuid, pv.area.disk) == nil {
			pv.layer.note("the group's physical volume %s, %s, is on none of the disks that were looked at", name, lvmUUID(p.uuid))
		}
	}
	slices.Sort(pv.layer.Notes)
	list := g.root.section("logical_volumes")
	for i, name := range list.names {
		n := list.sections[name]
		if !n.has("status", "VISIBLE") {
			continue // a part of another one
		}
		if i >= lvmMostLayers {
			pv.layer.unsure("the group has more than %d volumes: the others were not looked at", lvmMostLayers)
			return
		}
		v := &Layer{Kind: KindLV, Name: name, UUID: n.text("id"), Has: -1}
		pieces, refused := g.pieces(n)
		size := int64(0)
		for _, p := range pieces {
			size += p.size
		}
		under := pv
		if refused == "" {
			v.Needs = size
			if len(pieces) > 0 {
				if first := l.find(pieces[0].pv.uuid, pv.area.disk); first != nil {
					under = first
				}
			}
		}
		under.layer.Inside = append(under.layer.Inside, v)
		if refused != "" {
			v.State, v.Why = StateUnknown, refused
			v.Needs = g.size(n)
			continue
		}
		l.volume(v, pieces, under)
	}
}

// piece is a stretch of a logical volume that lies in one place.
type piece struct {
	pv   lvmPV
	at   int64 // bytes, of the physical volume
	size int64
}

// size is that of a volume by its segments, whatever they are; 0 where that is
// not to be had.
func (g *lvmGroup) size(n *lvmNode) int64 {
	var extents int64
	for _, name := range n.names {
		extents += min(max(0, n.sections[name].number("extent_count")), 1<<40)
	}
	size, ok := product(uint64(extents), uint64(g.extent))
	if !ok {
		return 0
	}
	return size
}

// pieces returns where a volume lies; refused says why that is not followed.
func (g *lvmGroup) pieces(n *lvmNode) (list []piece, refused string) {
	segments := make([]*lvmNode, 0, len(n.names))
	for _, name := range n.names {
		if strings.HasPrefix(name, "segment") {
			segments = append(segments, n.sections[name])
		}
	}
	slices.SortStableFunc(segments, func(a, b *lvmNode) int {
		return cmp.Compare(a.number("start_extent"), b.number("start_extent"))
	})
	next := int64(0)
	for _, s := range segments {
		if kind := s.text("type"); kind != "striped" {
			return nil, fmt.Sprintf("it is of type %s, which is not looked into", kind)
		}
		count, stripes := s.number("extent_count"), s.values["stripes"]
		width := int64(len(stripes) / 2)
		if s.number("start_extent") != next || count <= 0 || width < 1 || len(stripes)%2 != 0 || count%width != 0 || count > 1<<40 {
			return nil, "its segments can't be right"
		}
		next += count
		size, ok := product(uint64(count), uint64(g.extent))
		if all, fits := product(uint64(next), uint64(g.extent)); !ok || !fits || next > 1<<40 || all > 1<<61 {
			return nil, "its segments can't be right"
		}
		chunk := size
		if width > 1 {
			if chunk, ok = product(uint64(max(0, s.number("stripe_size"))), lvmSector); !ok || chunk == 0 || size/chunk > lvmMostPieces {
				return nil, "its stripes can't be right, or are too many to be followed"
			}
		}
		var starts []piece
		for i := range width {
			p, known := g.pvs[stripes[2*i].text]
			at, ok := product(uint64(max(0, stripes[2*i+1].number)), uint64(g.extent))
			if !known {
				return nil, fmt.Sprintf("it lies on %s, which is not looked into", stripes[2*i].text)
			}
			if !ok || at > 1<<60 {
				return nil, "its segments can't be right"
			}
			starts = append(starts, piece{pv: p, at: p.start + at})
		}
		for at, i := int64(0), int64(0); at < size; i++ {
			from := starts[i%width]
			from.at += i / width * chunk
			from.size = min(chunk, size-at)
			at += from.size
			list = append(list, from)
			if len(list) > lvmMostPieces {
				return nil, "it has too many pieces to be followed"
			}
		}
	}
	if len(list) == 0 {
		return nil, "it has no segments"
	}
	return list, ""
}

// errElsewhere is of bytes on a physical volume that is on none of the disks.
var errElsewhere = errors.New("it lies on a physical volume that is on none of the disks that were looked at")

// volume looks into a logical volume. What lies on a physical volume that was not seen
// may be there: only one that is too short makes the volume short.
func (l *looking) volume(v *Layer, pieces []piece, under *physical) {
	areas := make([]*area, len(pieces))
	starts := make([]int64, len(pieces)+1)
	there, whole, away := int64(0), true, int64(0)
	for i, p := range pieces {
		starts[i+1] = starts[i] + p.size
		size := p.size
		if pv := l.find(p.pv.uuid, under.area.disk); pv != nil {
			areas[i] = pv.area.part(p.at, p.size)
			areas[i].depth = max(pv.area.depth, under.area.depth) + 1
			size = areas[i].size
		} else {
			away += p.size
		}
		if whole {
			there += size
		}
		whole = whole && size == p.size
	}
	v.Has = there
	if away > 0 {
		v.unsure("%d bytes of it lie on a physical volume that is on none of the disks that were looked at", away)
	}
	in := &area{size: there, live: under.area.live, disk: under.area.disk, depth: under.area.depth + 1, looking: l}
	for _, a := range areas {
		if a != nil {
			in.live = in.live || a.live
			in.depth = max(in.depth, a.depth)
		}
	}
	in.read = func(off int64, n int) ([]byte, error) {
		out := make([]byte, 0, n)
		i, exact := slices.BinarySearch(starts, off)
		if !exact {
			i--
		}
		for len(out) < n {
			if i >= len(areas) {
				return nil, errBeyond
			}
			if areas[i] == nil {
				return nil, errElsewhere
			}
			from := off + int64(len(out)) - starts[i]
			take := min(int64(n-len(out)), starts[i+1]-starts[i]-from)
			b, err := areas[i].bytes(from, int(take))
			if err != nil {
				return nil, err
			}
			out = append(out, b...)
			i++
		}
		return out, nil
	}
	if there == 0 {
		v.State, v.Why = StateUnknown, "no byte of it is there"
		return
	}
	in.identify(v)
}

// MetadataAreas returns where a physical volume of LVM has its label, a sector of
// 512 bytes, and the metadata areas that the label names, as offset and size in bytes. ok
// is false where r is no physical volume, or its label fails its check.
func MetadataAreas(r io.ReaderAt) (label int64, areas [][2]int64, ok bool) {
	b := make([]byte, lvmSector)
	for n := range int64(4) {
		if _, err := r.ReadAt(b, n*lvmSector); err != nil {
			return 0, nil, false
		}
		if string(b[:8]) != lvmLabel || string(b[24:32]) != "LVM2 001" {
			continue
		}
		header := le.Uint32(b[20:])
		if lvmCRC(b[20:]) != le.Uint32(b[16:]) || header < 32 || header > lvmSector-40 {
			return 0, nil, false
		}
		return n * lvmSector, lvmMetadataAreas(b[header+40:]), true
	}
	return 0, nil, false
}
