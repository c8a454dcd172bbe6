package inspect

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"math/bits"
	"strings"
	"time"
	"unicode/utf16"
)

var (
	le = binary.LittleEndian
	be = binary.BigEndian
	// castagnoli is CRC-32C.
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// text is a name of fixed width that ends at the first NUL.
func text(raw []byte) string {
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		raw = raw[:i]
	}
	return strings.TrimRight(string(raw), " ")
}

// utf16Text is a little-endian UTF-16 name that ends at the first NUL.
func utf16Text(raw []byte) string {
	var units []uint16
	for ; len(raw) >= 2; raw = raw[2:] {
		u := le.Uint16(raw)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// uuidText is a UUID in its usual form, empty for one that is all zero.
func uuidText(raw []byte) string {
	if zeros(raw) {
		return ""
	}
	h := hex.EncodeToString(raw)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// guidText is uuidText of a UUID whose first three fields are little-endian.
func guidText(raw []byte) string {
	var b [16]byte
	be.PutUint32(b[:], le.Uint32(raw))
	be.PutUint16(b[4:], le.Uint16(raw[4:]))
	be.PutUint16(b[6:], le.Uint16(raw[6:]))
	copy(b[8:], raw[8:16])
	return uuidText(b[:])
}

// product is a × b, ok where it is a number of bytes that a device can have.
func product(a, b uint64) (bytes int64, ok bool) {
	high, low := bits.Mul64(a, b)
	if high != 0 || low > 1<<62 {
		return 0, false
	}
	return int64(low), true
}

// crcWithout returns a checksum over data with its own four bytes, at at, taken as
// zeros.
func crcWithout(table *crc32.Table, data []byte, at int) uint32 {
	sum := crc32.Update(0, table, data[:at])
	sum = crc32.Update(sum, table, make([]byte, 4))
	return crc32.Update(sum, table, data[at+4:])
}

// stamp notes a time in seconds since 1970, where it is set.
func (l *Layer) stamp(what string, seconds int64) {
	if seconds > 0 && seconds < 1<<37 { // until the year 6325
		l.Times = append(l.Times, Stamp{What: what, At: time.Unix(seconds, 0).UTC()})
	}
}

// power reports whether n is a power of two within the bounds.
func power(n, least, most uint64) bool {
	return n >= least && n <= most && bits.OnesCount64(n) == 1
}
