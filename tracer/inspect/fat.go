package inspect

import "fmt"

// fat is FAT12, FAT16 and FAT32. Nothing but the boot sector's numbers tells
// which of them it is, or that it is one: so each has to be possible.
var fat = format{name: "FAT", find: findFAT}

func findFAT(a *area) (*Layer, error) {
	b, err := a.bytes(0, 512)
	if err != nil {
		return nil, err
	}
	sector, cluster := uint64(le.Uint16(b[0x0b:])), uint64(b[0x0d])
	reserved, tables := uint64(le.Uint16(b[0x0e:])), uint64(b[0x10])
	roots := uint64(le.Uint16(b[0x11:]))
	sectors := uint64(le.Uint16(b[0x13:]))
	if sectors == 0 {
		sectors = uint64(le.Uint32(b[0x20:]))
	}
	perTable, is32 := uint64(le.Uint16(b[0x16:])), false
	if perTable == 0 {
		perTable, is32 = uint64(le.Uint32(b[0x24:])), true
	}
	jump := b[0] == 0xeb && b[2] == 0x90 || b[0] == 0xe9
	media := b[0x15]
	if !jump || b[510] != 0x55 || b[511] != 0xaa || !power(sector, 512, 4096) || !power(cluster, 1, 128) ||
		reserved == 0 || tables == 0 || tables > 2 || perTable == 0 || media != 0xf0 && media < 0xf8 || is32 && roots != 0 {
		return nil, nil
	}
	before := reserved + tables*perTable + (roots*32+sector-1)/sector
	if sectors <= before {
		return nil, nil
	}
	l := &Layer{Kind: KindFAT, Needs: int64(sectors * sector)}
	flagAt, serialAt := 0x25, 0x27
	clusters := (sectors - before) / cluster
	switch {
	case is32:
		l.Detail, flagAt, serialAt = "FAT32", 0x41, 0x43
	case clusters < 4085:
		l.Detail = "FAT12"
	default:
		l.Detail = "FAT16"
	}
	l.looked("boot sector")
	if b[flagAt+1] == 0x29 || b[flagAt+1] == 0x28 {
		serial := le.Uint32(b[serialAt:])
		l.UUID = fmt.Sprintf("%04X-%04X", serial>>16, serial&0xffff)
		if l.Label = text(b[serialAt+4 : serialAt+15]); l.Label == "NO NAME" {
			l.Label = ""
		}
	}
	dirty := b[flagAt]&1 != 0
	// The second entry of the table has a bit that is cleared while it is used.
	e, err := a.bytes(int64(reserved*sector), 8)
	if err != nil {
		l.unsure("the start of the allocation table was not read: %v", err)
	} else {
		l.looked("start of the allocation table")
		if e[0] != media {
			l.damage("allocation table", int64(reserved*sector), "it begins with %02x, and should with %02x", e[0], media)
		}
		switch l.Detail {
		case "FAT32":
			dirty = dirty || le.Uint32(e[4:])&(1<<27) == 0
		case "FAT16":
			dirty = dirty || le.Uint16(e[2:])&(1<<15) == 0
		}
	}
	if dirty {
		l.State, l.Why = StateDirty, "it was not unmounted; there is no log to replay"
	} else {
		l.State, l.Why = StateClean, "it is not marked dirty"
	}
	return l, nil
}
