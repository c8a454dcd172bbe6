package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// xfs is XFS, versions 4 and 5. Its layout is fs/xfs/libxfs/xfs_format.h of
// Linux: a superblock in the first sector of each allocation group (AG), the
// first of them the one that counts, and beside it the headers AGF, AGI and AGFL
// in a sector each. All is big-endian but the checksums.
var xfs = format{name: "XFS", find: findXFS, remains: xfsRemains}

// xfsSuper is a superblock.
type xfsSuper struct {
	block     int64 // bytes
	sector    int64
	blocks    uint64 // of all of the data section
	agBlocks  uint64
	groups    uint64
	agBits    uint   // of a block number within its group
	logStart  uint64 // block number with its group in the upper bits, 0 for another device
	logBlocks uint64
	version   int
	label     string
	uuid      []byte
	metaUUID  []byte // that the headers carry
	inMaking  bool   // in the copies it stays set
	realtime  uint64 // blocks of the data section on another device
	repair    bool
	first     bool // it is no copy
}

const (
	xfsSectorMost   = 32 << 10
	xfsMetaUUID     = 0x4  // incompatible features
	xfsNeedsRepair  = 0x10 //
	xfsSuperCRC     = 224
	xfsSuperLength  = 264
	xfsMostSampled  = 8 // groups beyond the first, second, last and the log's
	xfsBisectGroups = 24
)

// parseXFS reads a superblock; ok is false where its geometry can't be.
func parseXFS(b []byte) (s xfsSuper, ok bool) {
	if len(b) < xfsSuperLength || string(b[:4]) != "XFSB" {
		return s, false
	}
	s = xfsSuper{
		block: int64(be.Uint32(b[4:])), sector: int64(be.Uint16(b[102:])), blocks: be.Uint64(b[8:]),
		agBlocks: uint64(be.Uint32(b[84:])), groups: uint64(be.Uint32(b[88:])), agBits: uint(b[124]),
		logStart: be.Uint64(b[48:]), logBlocks: uint64(be.Uint32(b[96:])), version: int(be.Uint16(b[100:]) & 15),
		label: text(b[108:120]), uuid: b[32:48], metaUUID: b[32:48], inMaking: b[126] != 0, realtime: be.Uint64(b[16:]),
	}
	if s.version == 5 {
		incompatible := be.Uint32(b[216:])
		if incompatible&xfsMetaUUID != 0 {
			s.metaUUID = b[248:264]
		}
		s.repair = incompatible&xfsNeedsRepair != 0
	}
	if !power(uint64(s.block), 512, 64<<10) || !power(uint64(s.sector), 512, xfsSectorMost) || s.sector > s.block ||
		s.block != 1<<min(b[120], 31) || s.version != 4 && s.version != 5 {
		return s, false
	}
	if s.agBlocks < 16 || s.groups < 1 || s.agBits != uint(bits.Len64(s.agBlocks-1)) ||
		s.blocks > s.groups*s.agBlocks || s.blocks <= (s.groups-1)*s.agBlocks {
		return s, false
	}
	_, ok = product(s.groups*s.agBlocks, uint64(s.block))
	return s, ok
}

func (s *xfsSuper) groupBytes() int64 { return int64(s.agBlocks) * s.block }

// bytes is what the file system takes by this superblock.
func (s *xfsSuper) bytes() int64 { return int64(s.blocks) * s.block }

// xfsCRC checks the checksum of a header that fills its sector, and says what is
// wrong with it.
func xfsCRC(sector []byte, at int) string {
	stored := le.Uint32(sector[at:])
	if sum := crcWithout(castagnoli, sector, at); sum != stored {
		return fmt.Sprintf("its CRC-32C is %08x and should be %08x", stored, sum)
	}
	return ""
}

// xfsGroup is what was seen of one allocation group's headers.
type xfsGroup struct {
	super    []byte // its sector
	sound    bool   // the superblock has its magic, its checksum, and the same UUID
	geometry xfsSuper
	absent   bool // none of the headers has its magic
	zeros    bool
}

func findXFS(a *area) (*Layer, error) {
	l := &Layer{Kind: KindXFS}
	s, err := xfsPrimary(a, l)
	if s == nil || err != nil {
		return nil, err
	}
	return xfsLayer(a, l, s), nil
}

// xfsRemains is an XFS whose superblock is gone. mkfs.xfs writes each header to a sector
// of its own, and whoever wipes its signature takes the superblock's magic alone.
func xfsRemains(a *area) (*Layer, error) {
	if xfsFirstAGF(a) == nil {
		return nil, nil
	}
	l := &Layer{Kind: KindXFS}
	l.damage("superblock", 0, "it is gone: its magic is missing, and the headers after it are XFS's")
	return xfsLayer(a, l, xfsSubstitute(a, l)), nil
}

// xfsLayer fills in what a superblock leads to.
func xfsLayer(a *area, l *Layer, s *xfsSuper) *Layer {
	l.Label, l.UUID, l.Detail = s.label, uuidText(s.uuid), fmt.Sprintf("version %d", s.version)
	if s.version == 4 {
		l.note("version 4 has no checksums: damage can't be excluded")
	}
	biggest := xfsGroups(a, l, s)
	if biggest.blocks > s.blocks {
		l.note("it was being grown: the first superblock still has the old size, %d bytes; the new one is in the copies, and in the log", s.bytes())
	}
	l.Needs = biggest.bytes()
	if s.realtime > 0 {
		l.unsure("files are on another device, too (its realtime section), which was not looked for")
	}
	xfsLog(a, l, s)
	if l.State == StateDirty && biggest.blocks > s.blocks {
		// Seen with Linux 6.1. The size is taken over within the replay since "xfs: update the
		// file system geometry after recoverying superblock buffers" (October 2024).
		l.unsure("whether the guest's kernel can replay its log: it was being grown, and kernels up to 2024 refuse to where later changes are in the new space")
	}
	if s.inMaking && s.first {
		l.State, l.Why = StateErrors, "mkfs.xfs or a copy did not get to its end: the kernel refuses to mount it"
	}
	if s.repair {
		l.State, l.Why = StateErrors, "its superblock says that it needs repair: the kernel refuses to mount it before xfs_repair has run"
	}
	return l
}

// xfsPrimary returns the superblock to go by: the first, else a copy. It is nil
// where this is no XFS.
func xfsPrimary(a *area, l *Layer) (*xfsSuper, error) {
	head, err := a.bytes(0, 512)
	if err != nil {
		return nil, err
	}
	if string(head[:4]) != "XFSB" {
		return nil, nil
	}
	s, ok := parseXFS(head)
	if ok {
		sector, err := a.bytes(0, int(s.sector))
		if err != nil {
			return nil, err
		}
		s.first = true
		if s.version == 4 {
			return &s, nil
		}
		wrong := xfsCRC(sector, xfsSuperCRC)
		if wrong == "" {
			return &s, nil
		}
		l.damage("superblock", 0, "%s", wrong)
		if c := xfsCopyAt(a, s.groupBytes(), s.sector); c != nil {
			l.note("sizes are those of the superblock's copy in allocation group 1")
			return c, nil
		}
		// Nothing vouches for what the damaged one says.
		return xfsByGuess(a, l, &s), nil
	}
	l.damage("superblock", 0, "its geometry can't be right")
	return xfsSubstitute(a, l), nil
}

// xfsSubstitute is the superblock's copy, or one that says nothing.
func xfsSubstitute(a *area, l *Layer) *xfsSuper {
	if c := xfsByGuess(a, l, nil); c != nil {
		return c
	}
	l.State, l.Why = StateUnknown, "no superblock says where its log is"
	return xfsNone(l)
}

// xfsNone is a superblock that says nothing.
func xfsNone(l *Layer) *xfsSuper {
	l.note("no copy of the superblock was found: how large it is, is not known")
	return &xfsSuper{}
}

// xfsFirstAGF returns the AGF of the first group, nil where there is none.
func xfsFirstAGF(a *area) []byte {
	for _, sector := range []int64{512, 4096, 1024, 2048} {
		if b, err := a.bytes(sector, 512); err == nil && string(b[:4]) == "XAGF" && be.Uint32(b[8:]) == 0 {
			return b
		}
	}
	return nil
}

// xfsByGuess looks for the superblock's copy in the second group: the first AGF
// has the group's length in blocks, and blocks have few sizes. trusted is what a
// damaged superblock says, nil if nothing.
func xfsByGuess(a *area, l *Layer, damaged *xfsSuper) *xfsSuper {
	if agf := xfsFirstAGF(a); agf != nil {
		for _, block := range []uint64{4096, 1024, 512, 2048, 8192, 16384, 32768, 65536} {
			at, ok := product(uint64(be.Uint32(agf[12:])), block)
			if !ok || at == 0 {
				continue
			}
			if c := xfsCopyAt(a, at, 0); c != nil {
				l.note("sizes are those of the superblock's copy in allocation group 1")
				return c
			}
		}
	}
	if damaged != nil {
		l.State, l.Why = StateUnknown, "its superblock is damaged, and no copy was found"
		none := xfsNone(l)
		none.label, none.uuid, none.version = damaged.label, damaged.uuid, damaged.version
		return none
	}
	return nil
}

// xfsCopyAt returns the sound superblock at a byte, nil if there is none. sector
// may be 0, if it is not known.
func xfsCopyAt(a *area, at, sector int64) *xfsSuper {
	b, err := a.bytes(at, 512)
	if err != nil {
		return nil
	}
	s, ok := parseXFS(b)
	if !ok || sector != 0 && s.sector != sector {
		return nil
	}
	if s.version == 5 {
		full, err := a.bytes(at, int(s.sector))
		if err != nil || xfsCRC(full, xfsSuperCRC) != "" {
			return nil
		}
	}
	return &s
}

// xfsGroups looks at the headers of some groups, and returns the superblock that
// claims most. xfs_growfs commits the new size of the first superblock to the
// log, and writes the copies at once: after a power cut only these have it
// (measured on Linux 6.18).
func xfsGroups(a *area, l *Layer, s *xfsSuper) *xfsSuper {
	if s.blocks == 0 {
		return s
	}
	biggest := *s
	seen := map[uint64]*xfsGroup{}
	var looked int
	visit := func(n uint64) *xfsGroup {
		if g := seen[n]; g != nil {
			return g
		}
		g := xfsLookAt(a, l, s, n)
		if g == nil {
			return nil
		}
		seen[n] = g
		looked++
		if g.sound && g.geometry.blocks > biggest.blocks && g.geometry.agBlocks == s.agBlocks && g.geometry.block == s.block {
			biggest = g.geometry
		}
		return g
	}
	visit(0)
	visit(1)
	// The headers of a group that lies beyond the end are not there to be seen.
	there := func() uint64 { return min(biggest.groups, uint64((a.size-1)/s.groupBytes())+1) }
	last := there() - 1
	visit(last)
	last = max(last, there()-1) // a copy may know of more groups
	// One that was grown has changed the group that was its last.
	sample := []uint64{last, s.groups - 1, s.logStart >> s.agBits}
	for i := range uint64(xfsMostSampled) {
		sample = append(sample, 2+i*last/xfsMostSampled)
	}
	for _, n := range sample {
		if n <= last {
			visit(n)
		}
	}
	xfsAbsent(l, s, seen, last, visit)
	if l.Absent == nil {
		for n, g := range seen {
			if g.absent {
				l.damage(fmt.Sprintf("headers of allocation group %d", n), int64(n)*s.groupBytes(), "none of them has its magic")
			}
		}
	}
	slices.SortStableFunc(l.Damage, func(x, y Damage) int { return int(min(1, max(-1, x.At-y.At))) })
	l.looked("superblock; headers of %d of %d allocation groups", looked, biggest.groups)
	return &biggest
}

// xfsAbsent finds out whether the headers are gone from some group to the end.
func xfsAbsent(l *Layer, s *xfsSuper, seen map[uint64]*xfsGroup, last uint64, visit func(uint64) *xfsGroup) {
	if g := seen[last]; g == nil || !g.absent || last == 0 {
		return
	}
	present, first := uint64(0), last
	for n, g := range seen {
		if !g.absent && n > present {
			present = n
		}
	}
	for n, g := range seen {
		if g.absent && n > present && n < first {
			first = n
		}
	}
	for range xfsBisectGroups {
		if first-present < 2 {
			break
		}
		mid := present + (first-present)/2
		g := visit(mid)
		if g == nil {
			break
		}
		if g.absent {
			first = mid
		} else {
			present = mid
		}
	}
	absent := &Absent{From: int64(first) * s.groupBytes(), Zeros: true}
	for n, g := range seen {
		if n >= first {
			absent.Looked++
			absent.Zeros = absent.Zeros && g.zeros
		}
	}
	l.Absent = absent
}

// xfsLookAt looks at the headers of group n; nil where they can't be read or lie
// beyond the end.
func xfsLookAt(a *area, l *Layer, s *xfsSuper, n uint64) *xfsGroup {
	at := int64(n) * s.groupBytes()
	b, err := a.bytes(at, int(4*s.sector))
	if err != nil {
		if !errors.Is(err, errBeyond) {
			l.unsure("the headers of allocation group %d were not read: %v", n, err)
		}
		return nil
	}
	sector := func(i int64) []byte { return b[i*s.sector : (i+1)*s.sector] }
	g := &xfsGroup{super: sector(0), zeros: zeros(b)}
	magics := []string{"XFSB", "XAGF", "XAGI", "XAFL"}
	with := 0
	for i, magic := range magics {
		if string(sector(int64(i))[:4]) == magic {
			with++
		}
	}
	if g.absent = with == 0 && n > 0; g.absent {
		return g
	}
	wrong := func(what string, i int64, format string, args ...any) {
		damage := l.damage
		if i == 0 { // where each group has a copy of the superblock
			damage = l.damageCopy
		}
		damage(fmt.Sprintf("%s of allocation group %d", what, n), at+i*s.sector, format, args...)
	}
	if n > 0 {
		xfsCopy(g, s, func(format string, args ...any) { wrong("superblock copy", 0, format, args...) })
	}
	headers := []struct {
		name              string
		number, uuid, crc int
	}{{"AGF", 8, 64, 216}, {"AGI", 8, 296, 312}, {"AGFL", 4, 8, 32}}
	for i, h := range headers {
		if h.name == "AGFL" && s.version == 4 {
			break // it had no header then
		}
		raw, k := sector(int64(i)+1), int64(i)+1
		switch {
		case string(raw[:4]) != magics[i+1]:
			wrong(h.name, k, "its magic is missing")
		case s.version == 5 && xfsCRC(raw, h.crc) != "":
			wrong(h.name, k, "%s", xfsCRC(raw, h.crc))
		case uint64(be.Uint32(raw[h.number:])) != n:
			wrong(h.name, k, "it is that of group %d", be.Uint32(raw[h.number:]))
		case s.version == 5 && !bytes.Equal(raw[h.uuid:h.uuid+16], s.metaUUID):
			wrong(h.name, k, "it is that of another file system, %s", uuidText(raw[h.uuid:h.uuid+16]))
		}
	}
	return g
}

// xfsCopy looks at a superblock's copy.
func xfsCopy(g *xfsGroup, s *xfsSuper, wrong func(string, ...any)) {
	var ok bool
	g.geometry, ok = parseXFS(g.super)
	switch {
	case string(g.super[:4]) != "XFSB":
		wrong("its magic is missing")
	case s.version == 5 && xfsCRC(g.super, xfsSuperCRC) != "":
		wrong("%s", xfsCRC(g.super, xfsSuperCRC))
	case !ok:
		wrong("its geometry can't be right")
	case !bytes.Equal(g.geometry.metaUUID, s.metaUUID) && !bytes.Equal(g.geometry.uuid, s.uuid):
		wrong("it is that of another file system, %s", uuidText(g.geometry.uuid))
	default:
		g.sound = true
	}
}
