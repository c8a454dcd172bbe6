// Package image reads what the header of a disk image says about other files,
// and follows these down to the last: qcow2's backing files and external data
// files, which no command line names.
//
// A guest's owner writes the bytes that are read here, so nothing in them is
// trusted: every length is bounded, no name is opened unless the rules of
// Reader allow it, and what is wrong is an error, never a guess. The layout is
// qemu's docs/interop/qcow2.txt; what qemu makes of it is block/qcow2.c, and
// was measured with qemu 7.2 where a comment says so.
//
// The code is our own: it takes two hundred lines, and the one library for it
// opens what a header names by itself.
package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrNotQCOW2 says that the bytes are not a qcow2 image. qemu then goes on to
// probe other formats, raw the last of them.
var ErrNotQCOW2 = errors.New("not a qcow2 image")

// HeaderError says what is wrong with a header. qemu refuses such an image,
// too.
type HeaderError struct {
	Reason string
	err    error // io.ErrUnexpectedEOF where the image ends too soon
}

func (e *HeaderError) Error() string { return "qcow2 header: " + e.Reason }
func (e *HeaderError) Unwrap() error { return e.err }

func malformed(format string, args ...any) error {
	return &HeaderError{Reason: fmt.Sprintf(format, args...)}
}

// Header is what a qcow2 header says about other files.
type Header struct {
	Version int   // 2 or 3
	Size    int64 // of the disk that the guest sees, in bytes
	// Backing is the backing file's name as it stands there, empty if there is
	// none; BackingFormat is empty where qemu probes it.
	Backing       string
	BackingFormat string
	// ExternalData is set where the guest's data is in a file of its own;
	// DataFile is its name, empty where only the command line has it.
	ExternalData bool
	DataFile     string
	// Encryption is aes, luks, or empty. The header itself is never encrypted.
	Encryption string
}

// Offsets in the header; all numbers are big-endian.
const (
	offVersion       = 4
	offBackingOffset = 8
	offBackingSize   = 16
	offClusterBits   = 20
	offSize          = 24
	offCryptMethod   = 32
	offIncompatible  = 72 // from version 3 on
	offHeaderLength  = 100
	lengthV2         = 72
	lengthV3         = 104
)

const (
	magic              = 0x514649fb // "QFI\xfb"
	minClusterBits     = 9          // MIN_CLUSTER_BITS and MAX_CLUSTER_BITS, block/qcow2.h
	maxClusterBits     = 21
	maxBackingName     = 1023 // the format's own limit
	maxDataName        = 4095 // PATH_MAX
	maxFormatName      = 15   // qemu's, of bs->backing_format
	incompatibleData   = 1 << 2
	extensionEnd       = 0
	extensionBacking   = 0xe2792aca // name of the backing file's format
	extensionDataFile  = 0x44415441 // "DATA": name of the external data file
	extensionHeader    = 8
	extensionAlignment = 8
	// qemu writes five; unknown ones are skipped, but not without end.
	maxExtensions = 64
)

// ReadHeader reads the header of the image that begins at r's first byte. The
// error is ErrNotQCOW2 for other bytes, a *HeaderError for a header that is cut
// or cannot be right, or r's own. It reads a few KB at most.
func ReadHeader(r io.ReaderAt) (Header, error) {
	raw := make([]byte, lengthV3)
	n, err := r.ReadAt(raw, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Header{}, fmt.Errorf("read qcow2 header: %w", err)
	}
	raw = raw[:n]
	if len(raw) < offBackingOffset || number32(raw, 0) != magic || number32(raw, offVersion) < 2 {
		return Header{}, ErrNotQCOW2 // version 1 is a format of its own, qcow
	}
	p := parser{in: r, raw: raw}
	if err := p.fixed(); err != nil {
		return Header{}, err
	}
	if err := p.extensions(); err != nil {
		return Header{}, err
	}
	return p.out, p.backing()
}

// parser is the state of one ReadHeader.
type parser struct {
	in      io.ReaderAt
	raw     []byte // the fixed part, as far as the image has it
	out     Header
	cluster int64 // bytes
	length  int64 // of the header: extensions begin there
	// nameAt and nameSize say where the backing file's name is.
	nameAt   uint64
	nameSize uint32
}

// fixed reads the part that every header has.
func (p *parser) fixed() error {
	need := lengthV2
	switch version := number32(p.raw, offVersion); version {
	case 2:
	case 3:
		need = lengthV3
	default:
		return malformed("version %d is not known", version)
	}
	if len(p.raw) < need {
		return p.cut()
	}
	p.out.Version = int(number32(p.raw, offVersion))
	bits := number32(p.raw, offClusterBits)
	if bits < minClusterBits || bits > maxClusterBits {
		return malformed("clusters of 2^%d bytes", bits)
	}
	p.cluster, p.length = 1<<bits, lengthV2
	size := binary.BigEndian.Uint64(p.raw[offSize:])
	if int64(size) < 0 {
		return malformed("a disk of %d bytes", size)
	}
	p.out.Size, p.out.Encryption = int64(size), encryption(number32(p.raw, offCryptMethod))
	if p.out.Version == 3 {
		p.out.ExternalData = binary.BigEndian.Uint64(p.raw[offIncompatible:])&incompatibleData != 0
		p.length = int64(number32(p.raw, offHeaderLength))
		if p.length < lengthV3 || p.length > p.cluster {
			return malformed("a header of %d bytes in a cluster of %d", p.length, p.cluster)
		}
	}
	p.nameAt = binary.BigEndian.Uint64(p.raw[offBackingOffset:])
	p.nameSize = number32(p.raw, offBackingSize)
	if p.nameAt > uint64(p.cluster) {
		return malformed("the backing file's name at byte %d, outside of the first cluster", p.nameAt)
	}
	return nil
}

func encryption(method uint32) string {
	switch method {
	case 0:
		return ""
	case 1:
		return "aes"
	case 2:
		return "luks"
	}
	return fmt.Sprintf("method %d", method)
}

// extensions reads what stands between the header and the backing file's name,
// else the end of the first cluster.
func (p *parser) extensions() error {
	end := p.cluster
	if p.nameAt != 0 {
		end = int64(p.nameAt)
	}
	at := p.length
	for range maxExtensions {
		if at+extensionHeader > end {
			return nil // no room: as good as the end
		}
		head, err := p.bytes(at, extensionHeader)
		if err != nil {
			return err
		}
		kind, size := number32(head, 0), int64(number32(head, 4))
		at += extensionHeader
		if kind == extensionEnd {
			return nil
		}
		if size > end-at {
			return malformed("extension %#x of %d bytes where %d are left", kind, size, end-at)
		}
		if err := p.extension(kind, at, size); err != nil {
			return err
		}
		at += (size + extensionAlignment - 1) / extensionAlignment * extensionAlignment
	}
	return malformed("more than %d extensions", maxExtensions)
}

func (p *parser) extension(kind uint32, at, size int64) (err error) {
	switch kind {
	case extensionBacking:
		p.out.BackingFormat, err = p.text(at, size, maxFormatName, "backing file's format")
	case extensionDataFile:
		p.out.DataFile, err = p.text(at, size, maxDataName, "data file's name")
	}
	return err
}

func (p *parser) backing() (err error) {
	if p.nameAt == 0 {
		return nil
	}
	if int64(p.nameSize) > p.cluster-int64(p.nameAt) {
		return malformed("the backing file's name has %d bytes where %d are left", p.nameSize, p.cluster-int64(p.nameAt))
	}
	p.out.Backing, err = p.text(int64(p.nameAt), int64(p.nameSize), maxBackingName, "backing file's name")
	return err
}

// text reads a name. qemu takes it for a C string, so a NUL ends it.
func (p *parser) text(at, size, limit int64, what string) (string, error) {
	if size > limit {
		return "", malformed("the %s has %d bytes, more than %d", what, size, limit)
	}
	raw, err := p.bytes(at, size)
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		raw = raw[:i]
	}
	return string(raw), err
}

// bytes reads exactly size bytes; callers bound the size.
func (p *parser) bytes(at, size int64) ([]byte, error) {
	raw := make([]byte, size)
	n, err := p.in.ReadAt(raw, at)
	switch {
	case int64(n) == size:
		return raw, nil
	case errors.Is(err, io.EOF):
		return nil, p.cut()
	default:
		return nil, fmt.Errorf("read qcow2 header: %w", err)
	}
}

func (p *parser) cut() error {
	return &HeaderError{Reason: "the image ends within it", err: io.ErrUnexpectedEOF}
}

func number32(raw []byte, at int) uint32 { return binary.BigEndian.Uint32(raw[at:]) }
