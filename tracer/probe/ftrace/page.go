package ftrace

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A page of a ring buffer (kernel/trace/ring_buffer.c; events/header_page and
// events/header_event describe it, and it is the same from 3.10 to 7.2): its
// time, its length, and records that begin with a word of type and time since
// the record before.
const (
	pageTime   = 0
	pageCommit = 8
	pageData   = 16

	commitMissed = 1 << 31 // records were lost before this page
	commitStored = 1 << 30 // and their number follows the data
	commitLength = 1<<20 - 1

	typeBits    = 5
	typePadding = 29
	typeExtend  = 30 // the time's higher bits follow
	typeStamp   = 31 // an absolute time
	deltaBits   = 32 - typeBits
	stampBits   = deltaBits + 32
	wordSize    = 4
)

var errPage = errors.New("page of a trace buffer is damaged")

// parsePage calls each for every record in it, with its time and data, and
// returns how many records are known to be missing before it.
func parsePage(page []byte, each func(time uint64, data []byte)) (missed uint64, err error) {
	if len(page) < pageData {
		return 0, fmt.Errorf("%w: %d bytes", errPage, len(page))
	}
	time := binary.NativeEndian.Uint64(page[pageTime:])
	commit := binary.NativeEndian.Uint64(page[pageCommit:])
	length := int(commit & commitLength)
	if length > len(page)-pageData {
		return 0, fmt.Errorf("%w: %d bytes of records in a page of %d", errPage, length, len(page))
	}
	data := page[pageData : pageData+length]
	missed = missing(commit, page[pageData+length:])
	for len(data) >= wordSize {
		n, rest, err := parseRecord(data, &time)
		if err != nil {
			return missed, err
		}
		if n == nil && rest == nil {
			break // the rest of the page is empty
		}
		if n != nil {
			each(time, n)
		}
		data = rest
	}
	return missed, nil
}

func missing(commit uint64, behind []byte) uint64 {
	switch {
	case commit&commitMissed == 0:
		return 0
	case commit&commitStored != 0 && len(behind) >= 8:
		return binary.NativeEndian.Uint64(behind)
	}
	return 1 // or more
}

// parseRecord returns the first record's data, nil if it is none of an event,
// and what follows it. Both are nil at the end of the records.
func parseRecord(b []byte, time *uint64) (data, rest []byte, err error) {
	word := binary.NativeEndian.Uint32(b)
	kind, delta := word&(1<<typeBits-1), uint64(word>>typeBits)
	b = b[wordSize:]
	next := uint32(0)
	if len(b) >= wordSize {
		next = binary.NativeEndian.Uint32(b)
	}
	size := int64(kind) * wordSize
	switch {
	case kind == typePadding && delta == 0:
		return nil, nil, nil
	case kind == typePadding:
		// A record that the filter refused.
		*time += delta
		return nil, cut(b, int64(next)), nil
	case kind == typeExtend:
		*time += delta | uint64(next)<<deltaBits
		return nil, cut(b, wordSize), nil
	case kind == typeStamp:
		*time = *time>>stampBits<<stampBits | delta | uint64(next)<<deltaBits
		return nil, cut(b, wordSize), nil
	case kind == 0:
		// The length includes its own word.
		b = cut(b, wordSize)
		size = int64(next) - wordSize
	}
	*time += delta
	if size <= 0 || size > int64(len(b)) {
		return nil, nil, fmt.Errorf("%w: a record of %d bytes, %d are left", errPage, size, len(b))
	}
	return b[:size], cut(b, (size+wordSize-1)/wordSize*wordSize), nil
}

// cut returns b without its first n bytes; it is never nil.
func cut(b []byte, n int64) []byte {
	if n > int64(len(b)) {
		return []byte{}
	}
	return b[n:]
}
