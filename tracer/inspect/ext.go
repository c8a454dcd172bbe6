package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
)

// ext is ext2, ext3 and ext4. The superblock is at byte 1024 and little-endian;
// the journal is jbd2's, in an inode's blocks, and big-endian. The layout is
// fs/ext4/ext4.h and include/linux/jbd2.h of Linux.
var ext = format{name: "ext2, ext3 or ext4", find: findExt, remains: extRemains}

const (
	extAt     = 1024
	extLength = 1024
	extMagic  = 0xef53
	// s_state. With a journal the first stays set while it is mounted.
	extValid  = 1
	extErrors = 2
	// features
	extCompatJournal   = 0x4
	extCompatSparse2   = 0x200
	extCompatOrphans   = 0x1000
	extIncompatRecover = 0x4
	extIncompatJournal = 0x8 // it is a journal, and no file system
	extIncompatMetaBG  = 0x10
	extIncompatExtents = 0x40
	extIncompat64      = 0x80
	extIncompatSeed    = 0x2000
	extROSparse        = 0x1
	extROHugeFile      = 0x8
	extROGroupCRC      = 0x10
	extROBigalloc      = 0x200
	extROMetadataCRC   = 0x400
	extROOrphans       = 0x10000
	extMostBackups     = 6
	extMostDescriptors = 64 << 10 / 32
	extMostCluster     = 20 // a cluster is 1024 << 20 bytes at most
)

// extSuper is a superblock.
type extSuper struct {
	raw                          []byte
	block                        int64
	blocks                       uint64
	first                        uint64 // block of the first group
	perGroup                     uint64
	compat, incompat, readCompat uint32
}

func parseExt(b []byte) (s extSuper, ok bool) {
	if le.Uint16(b[0x38:]) != extMagic {
		return s, false
	}
	s = extSuper{
		raw: b, blocks: uint64(le.Uint32(b[4:])), first: uint64(le.Uint32(b[0x14:])), perGroup: uint64(le.Uint32(b[0x20:])),
		compat: le.Uint32(b[0x5c:]), incompat: le.Uint32(b[0x60:]), readCompat: le.Uint32(b[0x64:]),
	}
	if le.Uint32(b[0x4c:]) == 0 { // revision 0 has no features
		s.compat, s.incompat, s.readCompat = 0, 0, 0
	}
	if s.incompat&extIncompat64 != 0 {
		s.blocks |= uint64(le.Uint32(b[0x150:])) << 32
	}
	bits := le.Uint32(b[0x18:])
	if bits > 6 {
		return s, false
	}
	s.block = 1024 << bits
	// A group has as many clusters as a block has bits; without bigalloc a cluster is a
	// block.
	most := 8 * uint64(s.block)
	if s.readCompat&extROBigalloc != 0 {
		cluster := le.Uint32(b[0x1c:])
		if cluster < bits || cluster > extMostCluster {
			return s, false
		}
		most <<= cluster - bits
	}
	if s.blocks <= s.first || s.first > 1 || s.perGroup < 8 || s.perGroup > most {
		return s, false
	}
	_, ok = product(s.blocks, uint64(s.block))
	return s, ok
}

func (s *extSuper) uuid() []byte { return s.raw[0x68:0x78] }

// kind is what people call it: it goes by the features, as blkid does.
func (s *extSuper) kind() string {
	const ext3 = 0x2 | extIncompatRecover | extIncompatMetaBG | 0x1 // filetype, recover, meta_bg, compression
	const ext3RO = 0x1 | 0x2 | 0x4
	switch {
	case s.incompat&^ext3 != 0 || s.readCompat&^ext3RO != 0:
		return "ext4"
	case s.compat&extCompatJournal != 0:
		return "ext3"
	}
	return "ext2"
}

// extCRC says what is wrong with a superblock's checksum. It is a CRC-32C without
// the final inversion.
func (s *extSuper) extCRC() string {
	if s.readCompat&extROMetadataCRC == 0 {
		return ""
	}
	stored := le.Uint32(s.raw[0x3fc:])
	if sum := ^crc32.Checksum(s.raw[:0x3fc], castagnoli); sum != stored {
		return fmt.Sprintf("its CRC-32C is %08x and should be %08x", stored, sum)
	}
	return ""
}

func findExt(a *area) (*Layer, error) {
	b, err := a.bytes(extAt, extLength)
	if err != nil {
		return nil, err
	}
	l := &Layer{Kind: KindExt}
	s, ok := parseExt(b)
	copied := false // s is a copy, or damaged
	switch {
	case ok && s.incompat&extIncompatJournal != 0:
		return nil, nil
	case ok:
		if wrong := s.extCRC(); wrong != "" {
			l.damage("superblock", extAt, "%s", wrong)
			copied = true
			c := extCopy(a, (int64(s.first)+int64(s.perGroup))*s.block, s.block)
			if c != nil {
				s = *c
				l.note("what is said of it is from the superblock's copy")
			} else {
				l.note("how large it is, is not known: nothing vouches for what the damaged superblock says")
			}
			ok = c != nil
		}
	default:
		return nil, nil // two bytes are no proof, and this can't be one
	}
	return extLayer(a, l, &s, ok, copied), nil
}

// extRemains is one whose superblock is gone.
func extRemains(a *area) (*Layer, error) {
	b, err := a.bytes(extAt, extLength)
	if err != nil || !zeros(b) {
		return nil, err
	}
	s := extLost(a)
	if s == nil {
		return nil, nil
	}
	l := &Layer{Kind: KindExt}
	l.damage("superblock", extAt, "it is gone: its place is zeros, and a copy is where it should be")
	l.note("what is said of it is from the superblock's copy")
	return extLayer(a, l, s, true, true), nil
}

// extLayer fills in what a superblock leads to. sized is set where its size can be
// trusted, copied where it is a copy, or damaged.
func extLayer(a *area, l *Layer, s *extSuper, sized, copied bool) *Layer {
	l.Detail, l.Label, l.UUID = s.kind(), text(s.raw[0x78:0x88]), uuidText(s.uuid())
	if sized {
		l.Needs = int64(s.blocks) * s.block
	}
	l.looked("superblock")
	extState(a, l, s, copied)
	extDescriptors(a, l, s)
	extBackups(a, l, s)
	extTimes(l, s.raw)
	return l
}

// extCopy returns the sound copy of a superblock at a byte, nil if there is none.
func extCopy(a *area, at, block int64) *extSuper {
	b, err := a.bytes(at, extLength)
	if err != nil {
		return nil
	}
	s, ok := parseExt(b)
	if !ok || s.block != block || s.extCRC() != "" {
		return nil
	}
	return &s
}

// extLost looks for the copy in the second group, where mke2fs puts it: behind as
// many blocks as a block has bits.
func extLost(a *area) *extSuper {
	for _, block := range []int64{4096, 1024, 2048} {
		at := 8 * block * block
		if block == 1024 {
			at += block
		}
		if s := extCopy(a, at, block); s != nil {
			return s
		}
	}
	return nil
}

// extState sets the state by the superblock and the journal. The kernel keeps it in
// the first superblock alone: where s is a copy of that, only the journal can tell that
// there is something to replay.
func extState(a *area, l *Layer, s *extSuper, copied bool) {
	state := le.Uint16(s.raw[0x3a:])
	journal := s.compat&extCompatJournal != 0
	switch {
	case copied:
		l.State, l.Why = StateUnknown, "only the first superblock says whether it was unmounted, and that one is damaged"
	case s.incompat&extIncompatRecover != 0:
		l.State, l.Why = StateDirty, "its journal has changes that are not yet in their place"
		l.note("had it been grown just before, the new size would be in the journal only")
	case !journal && state&extValid == 0:
		l.State, l.Why = StateDirty, whyNoJournal
	case state&extValid == 0:
		l.State, l.Why = StateErrors, "its superblock says that it is not clean, and there is nothing to replay: e2fsck did not come to its end, or it was mounted without its journal"
	default:
		l.State, l.Why = StateClean, "its superblock says so"
	}
	if journal && le.Uint32(s.raw[0xe0:]) == 0 {
		l.unsure("its journal is on another device, %s, which was not looked for", uuidText(s.raw[0xd0:0xe0]))
	}
	extJournal(a, l, s)
	if copied {
		return
	}
	if state&extErrors != 0 || le.Uint32(s.raw[0x194:]) != 0 {
		l.State, l.Why = StateErrors, extError(s.raw)
	}
}

// extError says what error the kernel noted.
func extError(b []byte) string {
	why := fmt.Sprintf("the guest's kernel noted %d errors in it", le.Uint32(b[0x194:]))
	if function := text(b[0x1a8:0x1c8]); function != "" {
		why += fmt.Sprintf(", the first in %s, line %d", function, le.Uint32(b[0x1c8:]))
		if inode := le.Uint32(b[0x19c:]); inode != 0 {
			why += fmt.Sprintf(", at inode %d", inode)
		}
	}
	if le.Uint32(b[0x194:]) == 0 {
		why = "its superblock says that it has errors"
	}
	return why
}

// extJournal looks at the journal's own superblock, which the file system's has
// a copy of the place of.
func extJournal(a *area, l *Layer, s *extSuper) {
	const typeBlocks = 1 // s_jnl_backup_type: jnl_blocks is the inode's block list
	if s.compat&extCompatJournal == 0 || le.Uint32(s.raw[0xe0:]) == 0 || s.raw[0xfd] != typeBlocks {
		return
	}
	blocks := s.raw[0x10c:]
	block := uint64(le.Uint32(blocks))
	if le.Uint16(blocks) == 0xf30a { // an extent tree; one of depth 0 has the place
		if le.Uint16(blocks[6:]) != 0 || le.Uint16(blocks[2:]) == 0 {
			return
		}
		block = uint64(le.Uint16(blocks[18:]))<<32 | uint64(le.Uint32(blocks[20:]))
	}
	at, ok := product(block, uint64(s.block))
	if !ok || block == 0 {
		return
	}
	b, err := a.bytes(at, 64)
	switch {
	case errors.Is(err, errBeyond):
		l.note("its journal lies beyond the end of the device")
		if l.State == StateClean {
			l.State, l.Why = StateUnknown, "its journal lies beyond the end of the device"
		}
		return
	case err != nil:
		l.unsure("its journal was not looked at: %v", err)
		return
	}
	l.looked("journal's superblock")
	if be.Uint32(b) != 0xc03b3998 {
		l.damage("journal's superblock", at, "its magic is missing")
		return
	}
	l.Generation = uint64(be.Uint32(b[0x18:]))
	switch start := be.Uint32(b[0x1c:]); {
	case start == 0:
	case l.State == StateClean:
		l.State, l.Why = StateDirty, "its journal is not empty, although the superblock says that there is nothing to replay"
	case l.State == StateUnknown:
		l.State, l.Why = StateDirty, "its journal is not empty"
	}
	if errno := int32(be.Uint32(b[0x20:])); errno != 0 {
		l.State, l.Why = StateErrors, fmt.Sprintf("the journal was aborted with error %d", errno)
	}
}

// extDescriptors checks the group descriptors of the first block of them. The
// kernel does that before it replays the journal.
func extDescriptors(a *area, l *Layer, s *extSuper) {
	if s.readCompat&(extROMetadataCRC|extROGroupCRC) == 0 {
		return
	}
	size := int64(32)
	if s.incompat&extIncompat64 != 0 {
		if size = int64(le.Uint16(s.raw[0xfe:])); !power(uint64(size), 64, 1024) {
			l.damage("superblock", extAt, "group descriptors of %d bytes", size)
			return
		}
	}
	// They are in the block behind the superblock's. (The first block says the same, but
	// with bigalloc and blocks of 1 KiB, where it is 0.)
	at := (extAt/s.block + 1) * s.block
	b, err := a.bytes(at, int(s.block))
	if err != nil {
		l.unsure("the group descriptors were not looked at: %v", err)
		return
	}
	groups := (s.blocks - s.first + s.perGroup - 1) / s.perGroup
	n := min(groups, uint64(s.block/size), extMostDescriptors)
	for g := range n {
		d := b[int64(g)*size : int64(g+1)*size]
		if stored, sum := le.Uint16(d[0x1e:]), s.descriptorCRC(uint32(g), d); stored != sum {
			l.damage(fmt.Sprintf("descriptor of group %d", g), at+int64(g)*size, "its checksum is %04x and should be %04x", stored, sum)
		}
	}
	l.looked("descriptors of %d of %d block groups", n, groups)
}

// descriptorCRC is the checksum that a group's descriptor should have.
func (s *extSuper) descriptorCRC(group uint32, d []byte) uint16 {
	number := le.AppendUint32(nil, group)
	rest := d[0x20:]
	if s.readCompat&extROMetadataCRC == 0 {
		sum := crc16(crc16(crc16(0xffff, s.uuid()), number), d[:0x1e])
		if s.incompat&extIncompat64 != 0 {
			sum = crc16(sum, rest)
		}
		return sum
	}
	seed := ^crc32.Checksum(s.uuid(), castagnoli)
	if s.incompat&extIncompatSeed != 0 {
		seed = le.Uint32(s.raw[0x270:])
	}
	sum := crc32.Update(^seed, castagnoli, number)
	sum = crc32.Update(sum, castagnoli, d[:0x1e])
	sum = crc32.Update(sum, castagnoli, []byte{0, 0})
	sum = crc32.Update(sum, castagnoli, rest)
	return uint16(^sum)
}

// crc16 is CRC-16/ARC without the start value of its own: polynomial 0x8005,
// reflected.
func crc16(sum uint16, data []byte) uint16 {
	for _, b := range data {
		sum ^= uint16(b)
		for range 8 {
			if sum&1 != 0 {
				sum = sum>>1 ^ 0xa001
			} else {
				sum >>= 1
			}
		}
	}
	return sum
}

// extBackups looks for copies of the superblock towards the end.
func extBackups(a *area, l *Layer, s *extSuper) {
	groups := (s.blocks - s.first + s.perGroup - 1) / s.perGroup
	var list []uint64 // from the end on
	switch {
	case s.compat&extCompatSparse2 != 0:
		for _, at := range []int{0x250, 0x24c} {
			if g := uint64(le.Uint32(s.raw[at:])); g > 0 && g < groups {
				list = append(list, g)
			}
		}
	case s.readCompat&extROSparse != 0:
		list = sparseGroups(groups)
	default:
		for g := groups - 1; g > 0 && len(list) < extMostBackups; g-- {
			list = append(list, g)
		}
	}
	found, looked, blank := false, 0, true
	from := int64(0)
	for _, g := range list {
		if looked == extMostBackups {
			break
		}
		at := int64(s.first+g*s.perGroup) * s.block
		if s.block > extAt && g == 0 {
			at += extAt
		}
		b, err := a.bytes(at, extLength)
		if err != nil {
			if !errors.Is(err, errBeyond) { // that, Needs tells
				l.unsure("the copy of the superblock in group %d was not read: %v", g, err)
			}
			continue
		}
		looked++
		if le.Uint16(b[0x38:]) == extMagic {
			if !bytes.Equal(b[0x68:0x78], s.uuid()) {
				l.note("the copy of the superblock in group %d has the UUID %s: it had that before (tune2fs leaves copies alone), or it is another file system's", g, uuidText(b[0x68:0x78]))
			}
			found = true
			break
		}
		from, blank = at, blank && zeros(b)
	}
	if looked == 0 {
		return
	}
	l.looked("%d copies of the superblock", looked)
	switch {
	case from == 0:
	case s.incompat&extIncompatRecover != 0:
		l.unsure("a copy of the superblock is missing at byte %d: it is still in the journal, or from there on another device has the place of this one", from)
	default:
		l.Absent = &Absent{From: from, Looked: looked, Zeros: blank}
		if found {
			l.Absent.Looked--
		}
	}
}

// sparseGroups lists the groups that have a copy where few do: powers of 3, 5 and
// 7, and group 1; from the last on.
func sparseGroups(groups uint64) []uint64 {
	var list []uint64
	for n := groups - 1; groups > 1 && len(list) < extMostBackups; {
		best := uint64(1)
		for _, base := range []uint64{3, 5, 7} {
			for p := base; p <= n; p *= base {
				best = max(best, p)
				if p > n/base {
					break
				}
			}
		}
		if best > n {
			break
		}
		list = append(list, best)
		if best == 1 {
			break
		}
		n = best - 1
	}
	return list
}

// extTimes notes the times of the superblock, of 40 bits where the kernel writes
// as many.
func extTimes(l *Layer, b []byte) {
	at := func(low, high int) int64 { return int64(b[high])<<32 | int64(le.Uint32(b[low:])) }
	l.stamp("mounted", at(0x2c, 0x275))
	l.stamp("written", at(0x30, 0x274))
	l.stamp("checked", at(0x40, 0x277))
	l.stamp("first error", at(0x198, 0x278))
	l.stamp("last error", at(0x1cc, 0x279))
	if path := text(b[0x88:0xc8]); path != "" {
		l.note("last mounted on %s", path)
	}
}
