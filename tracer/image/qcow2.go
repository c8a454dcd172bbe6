package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate" // half the time of the standard library's
	"github.com/klauspost/compress/zstd"
)

// qcow2Image reads the guest's bytes of a qcow2 image (qemu's
// docs/interop/qcow2.txt). Two levels of tables lead from the guest's clusters to
// the file's. All of them may be wrong: no table is read as a whole, every offset
// is held against the file's size, and what a compressed cluster becomes is
// bounded by the cluster.
type qcow2Image struct {
	in       *raw
	regular  bool // a file, which may end within its last cluster
	virtual  int64
	bits     uint
	cluster  int64
	l1       int64
	l1Size   uint64 // entries
	extended bool   // entries have a map of subclusters
	external bool
	zstd     bool
	lazy     bool // reference counts may be behind
	counts   int64
	countLen int64
	order    uint    // 2^order bits a count
	damage   string  // what its header says is wrong
	backing  content // nil: zeros
	data     content // nil: in the image itself
	blocks   map[int64][]byte
	plain    map[int64][]byte // of compressed clusters
	inflater io.ReadCloser
	left     int64 // bytes that may still be decompressed
}

const (
	qcowMostL1        = 32 << 20 / 8 // entries; qemu's bound (QCOW_MAX_L1_SIZE)
	qcowMostCounts    = 8 << 20      // bytes of the refcount table; qemu's, too
	qcowMostScan      = 1 << 20      // bytes of it that are looked at
	qcowBlock         = 4096
	qcowMostBlocks    = 64
	qcowMostPlain     = 4
	qcowMostInflated  = 256 << 20
	qcowOffset        = 0x00fffffffffffe00
	qcowCompressed    = 1 << 62
	qcowZero          = 1
	incompatibleDirty = 1 << 0
	incompatibleBad   = 1 << 1
	incompatibleZstd  = 1 << 3
	incompatibleL2    = 1 << 4
	incompatibleKnown = incompatibleDirty | incompatibleBad | incompatibleData | incompatibleZstd | incompatibleL2
)

// openQCOW2 reads the geometry of an image.
func openQCOW2(in *raw, regular bool) (*qcow2Image, error) {
	head, err := ReadHeader(io.NewSectionReader(in.in, 0, min(in.length, maxHeader)))
	if err != nil {
		return nil, err
	}
	if head.Encryption != "" {
		return nil, fmt.Errorf("it is encrypted (%s): what is inside can't be seen without the key", head.Encryption)
	}
	b := make([]byte, 112)
	if err := in.readAt(b, 0); err != nil {
		return nil, err
	}
	bits := uint(number32(b, offClusterBits))
	q := &qcow2Image{
		in: in, regular: regular, virtual: head.Size, bits: bits, cluster: 1 << bits, l1Size: uint64(number32(b, 36)),
		order: 4, external: head.ExternalData, blocks: map[int64][]byte{}, plain: map[int64][]byte{}, left: qcowMostInflated,
	}
	if head.Version == 3 {
		features := binary.BigEndian.Uint64(b[offIncompatible:])
		if more := features &^ incompatibleKnown; more != 0 {
			return nil, malformed("it has features that are not known here (%#x)", more)
		}
		q.extended, q.lazy = features&incompatibleL2 != 0, features&incompatibleDirty != 0
		q.order = uint(number32(b, 96))
		if q.order > 6 {
			return nil, malformed("reference counts of 2^%d bits", q.order)
		}
		if features&incompatibleBad != 0 {
			q.damage = "its header says that it is corrupt: qemu opens it for reading only"
		}
		if features&incompatibleZstd != 0 {
			if number32(b, offHeaderLength) <= lengthV3 || b[104] > 1 {
				return nil, malformed("its kind of compression is not known")
			}
			q.zstd = b[104] == 1
		}
		if q.extended && bits < 14 {
			return nil, malformed("subclusters in clusters of %d bytes", q.cluster)
		}
	}
	if q.l1Size > qcowMostL1 {
		return nil, malformed("a table of %d entries, more than qemu takes", q.l1Size)
	}
	l1, counts := binary.BigEndian.Uint64(b[40:]), binary.BigEndian.Uint64(b[48:])
	if l1&uint64(q.cluster-1) != 0 || l1 > 1<<56 || counts&uint64(q.cluster-1) != 0 || counts > 1<<56 {
		return nil, malformed("its tables do not begin with a cluster")
	}
	q.l1, q.counts, q.countLen = int64(l1), int64(counts), int64(number32(b, 56))*q.cluster
	if need := (q.virtual + q.perL1() - 1) / q.perL1(); q.virtual > 1<<62 || uint64(need) > q.l1Size {
		return nil, malformed("its table is too short for a disk of %d bytes", q.virtual)
	}
	return q, nil
}

func (q *qcow2Image) entry() int64 {
	if q.extended {
		return 16
	}
	return 8
}

// perL1 is how many of the guest's bytes an entry of the first table stands for.
func (q *qcow2Image) perL1() int64 { return q.cluster / q.entry() * q.cluster }

func (q *qcow2Image) size() int64 { return q.virtual }

func (q *qcow2Image) readAt(p []byte, off int64) error {
	if off < 0 {
		return errors.New("before its beginning")
	}
	n := max(0, min(int64(len(p)), q.virtual-off))
	clear(p[n:])
	for p = p[:n]; len(p) > 0; {
		n, err := q.piece(p, off)
		if err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// piece reads up to the end of a cluster, or of a subcluster, and returns how
// much that was.
func (q *qcow2Image) piece(p []byte, off int64) (int64, error) {
	in := off & (q.cluster - 1)
	n := min(int64(len(p)), q.cluster-in)
	l1, err := q.number(q.l1 + off/q.perL1()*8)
	if err != nil {
		return 0, err
	}
	table := int64(l1 & qcowOffset)
	if table == 0 {
		return n, q.below(p[:n], off)
	}
	if table&(q.cluster-1) != 0 {
		return 0, malformed("a table at byte %d, within a cluster", table)
	}
	at := table + off/q.cluster%(q.cluster/q.entry())*q.entry()
	l2, err := q.number(at)
	if err != nil {
		return 0, err
	}
	if l2&qcowCompressed != 0 {
		data, err := q.inflated(l2)
		if err != nil {
			return 0, err
		}
		copy(p[:n], data[in:])
		return n, nil
	}
	allocated, zero := l2&qcowOffset != 0, l2&qcowZero != 0
	if q.external { // offset 0 can be a cluster there
		allocated = l2>>63 != 0 || allocated
	}
	if q.extended {
		subs, err := q.number(at + 8)
		if err != nil {
			return 0, err
		}
		sub := q.cluster / 32
		i := uint(in / sub)
		n = min(n, sub-in%sub)
		allocated, zero = subs>>i&1 != 0, subs>>(32+i)&1 != 0
	}
	switch {
	case zero:
		clear(p[:n])
		return n, nil
	case !allocated:
		return n, q.below(p[:n], off)
	}
	host := int64(l2 & qcowOffset)
	if host&(q.cluster-1) != 0 {
		return 0, malformed("data at byte %d, within a cluster", host)
	}
	if q.data != nil {
		return n, q.data.readAt(p[:n], host+in)
	}
	return n, q.host(p[:n], host+in)
}

// below reads what the backing file has.
func (q *qcow2Image) below(p []byte, off int64) error {
	if q.backing == nil {
		clear(p)
		return nil
	}
	return q.backing.readAt(p, off)
}

// host reads bytes of the image itself. A file may end within its last cluster; a
// device may not.
func (q *qcow2Image) host(p []byte, at int64) error {
	end := at + int64(len(p))
	if at >= q.in.length || !q.regular && end > q.in.length {
		return fmt.Errorf("the image has data at byte %d, and its device ends at byte %d", at, q.in.length)
	}
	return q.in.readAt(p, at)
}

// number reads an entry of a table.
func (q *qcow2Image) number(at int64) (uint64, error) {
	start := at / qcowBlock * qcowBlock
	b := q.blocks[start]
	if b == nil {
		if at+8 > q.in.length {
			return 0, fmt.Errorf("the image has a table at byte %d, and its device ends at byte %d", at, q.in.length)
		}
		b = make([]byte, qcowBlock)
		if err := q.in.readAt(b, start); err != nil {
			return 0, err
		}
		if len(q.blocks) >= qcowMostBlocks {
			clear(q.blocks)
		}
		q.blocks[start] = b
	}
	return binary.BigEndian.Uint64(b[at-start:]), nil
}

// inflated returns the bytes of a compressed cluster.
func (q *qcow2Image) inflated(l2 uint64) ([]byte, error) {
	shift := 62 - (q.bits - 8)
	at := int64(l2 & (1<<shift - 1))
	sectors := int64(l2 &^ (1 << 63) &^ qcowCompressed >> shift)
	length := (sectors+1)*512 - at&511
	if data := q.plain[at]; data != nil {
		return data, nil
	}
	if at >= q.in.length {
		return nil, fmt.Errorf("the image has data at byte %d, and its device ends at byte %d", at, q.in.length)
	}
	if length > 2*q.cluster {
		return nil, malformed("a compressed cluster of %d bytes", length)
	}
	if q.left -= q.cluster; q.left < 0 {
		return nil, fmt.Errorf("more than %d bytes had to be decompressed", qcowMostInflated)
	}
	packed := make([]byte, min(length, q.in.length-at)) // the last may be cut
	if err := q.in.readAt(packed, at); err != nil {
		return nil, err
	}
	data := make([]byte, q.cluster)
	if err := q.inflate(data, packed); err != nil {
		return nil, fmt.Errorf("the compressed cluster at byte %d: %w", at, err)
	}
	if len(q.plain) >= qcowMostPlain {
		clear(q.plain)
	}
	q.plain[at] = data
	return data, nil
}

// inflate fills data. What comes after it is padding.
func (q *qcow2Image) inflate(data, packed []byte) error {
	if !q.zstd {
		// Its tables are large, so there is one for all clusters.
		if q.inflater == nil {
			q.inflater = flate.NewReader(nil)
		}
		if err := q.inflater.(flate.Resetter).Reset(bytes.NewReader(packed), nil); err != nil {
			return err
		}
		_, err := io.ReadFull(q.inflater, data)
		return err
	}
	const window = 32 << 20
	z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(window), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return err
	}
	defer z.Close()
	_, err = io.ReadFull(z, data)
	return err
}

// needs returns how many bytes of its device the image has in use, at least: up
// to the beginning of the last cluster that has a reference, and one sector of
// that. 0 is "not known".
func (q *qcow2Image) needs() (int64, error) {
	if q.lazy {
		return 0, errors.New("its reference counts may be behind")
	}
	if q.countLen == 0 || q.countLen > qcowMostCounts {
		return 0, malformed("a table of reference counts of %d bytes", q.countLen)
	}
	perBlock := q.cluster * 8 >> q.order // clusters that a block of counts stands for
	// Entries are used from the beginning on: behind a stretch of zeros nothing is
	// looked for. What is found is a lower bound either way.
	index, block := int64(-1), uint64(0)
	b := make([]byte, qcowBlock)
	for at := int64(0); at < min(q.countLen, qcowMostScan); at += qcowBlock {
		if q.counts+at >= q.in.length {
			return q.counts + at + 512, nil // the table is in use itself
		}
		b = b[:min(qcowBlock, q.countLen-at)]
		if err := q.in.readAt(b, q.counts+at); err != nil {
			return 0, err
		}
		before := index
		for i := 0; i < len(b); i += 8 {
			if n := binary.BigEndian.Uint64(b[i:]) &^ 511; n != 0 {
				index, block = (at+int64(i))/8, n
			}
		}
		if index == before {
			break
		}
	}
	if index < 0 {
		return 0, nil
	}
	if block > 1<<56 || index > (1<<61)/(perBlock*q.cluster) {
		return 0, malformed("reference counts at byte %d", block)
	}
	if at := int64(block); at >= q.in.length {
		if at&(q.cluster-1) != 0 || at>>q.bits/perBlock > index {
			return 0, malformed("reference counts at byte %d, which has none itself", at)
		}
		return at + 512, nil
	}
	last, err := q.lastCounted(int64(block))
	if err != nil || last < 0 {
		return 0, err
	}
	return (index*perBlock+last)<<q.bits + 512, nil
}

// lastCounted returns the last cluster that a block of counts has a reference
// for, -1 if none.
func (q *qcow2Image) lastCounted(at int64) (int64, error) {
	b := make([]byte, q.cluster)
	if err := q.in.readAt(b, at); err != nil {
		return 0, err
	}
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] == 0 {
			continue
		}
		if q.order >= 3 {
			return int64(i) >> (q.order - 3), nil
		}
		// Smaller than a byte: the least significant bits come first.
		per := 8 >> q.order
		for n := per - 1; n >= 0; n-- {
			if b[i]>>(n<<q.order)&(1<<(1<<q.order)-1) != 0 {
				return int64(i*per + n), nil
			}
		}
	}
	return -1, nil
}
