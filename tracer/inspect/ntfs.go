package inspect

import (
	"bytes"
	"errors"
	"fmt"
)

// ntfs has a boot sector that says where its master file table is, in which
// record 3, $Volume, has the label and the dirty flag. The boot sector's copy is
// in the sector behind the last that it counts.
var ntfs = format{name: "NTFS", find: findNTFS}

const (
	ntfsVolume      = 3 // number of the record
	ntfsName        = 0x60
	ntfsInformation = 0x70
	ntfsDirty       = 1
)

func findNTFS(a *area) (*Layer, error) {
	b, err := a.bytes(0, 512)
	if err != nil || string(b[3:11]) != "NTFS    " {
		return nil, err
	}
	l := &Layer{Kind: KindNTFS, UUID: fmt.Sprintf("%016X", le.Uint64(b[0x48:]))}
	sector := uint64(le.Uint16(b[0x0b:]))
	cluster := sector * uint64(b[0x0d])
	if b[0x0d] > 0x80 { // 2 to the power of its negative
		cluster = sector << min(16, 256-uint64(b[0x0d]))
	}
	size, ok := product(le.Uint64(b[0x28:])+1, sector)
	l.State, l.Why = StateUnknown, "its master file table was not read"
	l.looked("boot sector")
	if !power(sector, 256, 4096) || !power(cluster, sector, 2<<20) || !ok || le.Uint64(b[0x28:]) == 0 {
		l.damage("boot sector", 0, "its geometry can't be right")
		return l, nil
	}
	l.Needs = size
	ntfsTable(a, l, b, cluster)
	back := size - int64(sector)
	switch c, err := a.bytes(back, 512); {
	case errors.Is(err, errBeyond):
	case err != nil:
		l.unsure("the copy of the boot sector was not read: %v", err)
	case zeros(c):
		l.Absent = &Absent{From: back, Looked: 1, Zeros: true}
	case !bytes.Equal(c[3:0x50], b[3:0x50]):
		l.damageCopy("copy of the boot sector", back, "it differs from the boot sector")
	default:
		l.looked("its copy")
	}
	return l, nil
}

// ntfsTable reads the record $Volume.
func ntfsTable(a *area, l *Layer, boot []byte, cluster uint64) {
	size := uint64(boot[0x40]) * cluster
	if n := int8(boot[0x40]); n < 0 {
		size = 1 << min(31, uint(-int(n)))
	}
	at, ok := product(le.Uint64(boot[0x30:]), cluster)
	if !power(size, 512, 64<<10) || !ok {
		l.damage("boot sector", 0, "the place of its master file table can't be right")
		return
	}
	at += ntfsVolume * int64(size)
	r, err := a.bytes(at, int(size))
	if err != nil {
		l.Why = fmt.Sprintf("its master file table was not read: %v", err)
		return
	}
	l.looked("record of the volume")
	r = bytes.Clone(r)
	if string(r[:4]) != "FILE" {
		l.damage("record 3 of the master file table", at, "its magic is missing")
		return
	}
	if !fixup(r) {
		l.damage("record 3 of the master file table", at, "it was written in part: its sectors do not belong together")
		return
	}
	off := int(le.Uint16(r[0x14:]))
	for off >= 0x18 && off+0x18 <= len(r) {
		kind, n := le.Uint32(r[off:]), int64(le.Uint32(r[off+4:]))
		if kind == 0xffffffff || n < 0x18 || n > int64(len(r)-off) {
			break
		}
		attr := r[off : off+int(n)]
		off += int(n)
		if attr[8] != 0 { // not in the record itself
			continue
		}
		length, from := int64(le.Uint32(attr[0x10:])), int64(le.Uint16(attr[0x14:]))
		if length > n || from > n-length {
			continue
		}
		switch value := attr[from : from+length]; {
		case kind == ntfsName:
			l.Label = utf16Text(value)
		case kind == ntfsInformation && len(value) >= 12:
			l.Detail = fmt.Sprintf("version %d.%d", value[8], value[9])
			if le.Uint16(value[10:])&ntfsDirty != 0 {
				l.State, l.Why = StateDirty, "its volume is marked dirty: Windows checks it at the next start"
			} else {
				l.State, l.Why = StateClean, "its volume is not marked dirty"
			}
		}
	}
}

// fixup puts back what the end of each sector of a record was replaced with;
// false where the ends are not those of one write.
func fixup(r []byte) bool {
	at, n := int(le.Uint16(r[4:])), int(le.Uint16(r[6:]))
	if n < 2 || at < 0x18 || at+2*n > len(r) || (n-1)*512 > len(r) {
		return false
	}
	for i := 1; i < n; i++ {
		end := r[i*512-2 : i*512]
		if !bytes.Equal(end, r[at:at+2]) {
			return false
		}
		copy(end, r[at+2*i:at+2*i+2])
	}
	return true
}
