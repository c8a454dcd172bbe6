package inspect

import (
	"bytes"
	"errors"
	"fmt"
)

// XFS's log is a ring of sectors of 512 bytes. A record is one or more sectors of
// header and then its data; the first four bytes of each data sector are replaced
// by the number of the log's cycle, and the header has them. So the end of the
// log is where the cycle number drops. How the kernel finds it is
// xlog_find_head and xlog_find_tail in fs/xfs/xfs_log_recover.c; this follows it
// but for the checksums of the last records, which are not needed to tell clean
// from dirty.
const (
	xfsLogSector   = 512
	xfsRecord      = 0xfeedbabe // magic of a record's header
	xfsUnmount     = 0x20       // flag of an operation: the file system was unmounted
	xfsLogBuffers  = 8          // buffers that may be written at the same time, in any order
	xfsBufferMost  = 256 << 10
	xfsBufferLeast = 32 << 10
	xfsLogMost     = 2 << 30 // XFS_MAX_LOG_BYTES
)

// errNoRecord says that no record ends where the log does.
var errNoRecord = errors.New("no record of the log was found before its end")

// ring is the log.
type ring struct {
	a      *area
	at     int64 // of its first byte
	blocks int64 // sectors
	// from and window are the sectors that were read last.
	from   int64
	window []byte
}

// xfsRecordHeader is the part of a record's header that matters.
type xfsRecordHeader struct {
	at       int64 // sector of the ring
	length   int64 // bytes of data
	buffer   int64 // size of the buffers of that mount, 0 if it does not say
	tail     uint64
	ops      uint32
	headers  int64 // sectors
	format   uint32
	uuid     []byte
	lastHead int64 // sector after the record, beyond the ring's end where it wraps
}

// xfsLog finds the state of the log.
func xfsLog(a *area, l *Layer, s *xfsSuper) {
	if l.State == StateUnknown || s.blocks == 0 {
		if l.State == "" {
			l.State, l.Why = StateUnknown, "where its log is, is not known"
		}
		return
	}
	if s.logStart == 0 {
		l.State, l.Why = StateUnknown, "its log is on another device"
		return
	}
	group, block := s.logStart>>s.agBits, s.logStart&(1<<s.agBits-1)
	size, ok := product(s.logBlocks, uint64(s.block))
	if !ok || size == 0 || size > xfsLogMost || group >= s.groups || block+s.logBlocks > s.agBlocks {
		l.State, l.Why = StateUnknown, "the place of its log can't be right"
		l.damage("superblock", 0, "the log of %d blocks at block %d is not within one allocation group", s.logBlocks, s.logStart)
		return
	}
	at := int64(group*s.agBlocks+block) * s.block
	if at > a.size-size {
		l.State, l.Why = StateUnknown, "its log, or the end of it, lies beyond the end of the device"
		return
	}
	r := &ring{a: a, at: at, blocks: size / xfsLogSector}
	head, last, err := r.find()
	switch {
	case err != nil:
		l.State, l.Why = StateUnknown, fmt.Sprintf("its log can't be read: %v", err)
		return
	case last == nil && l.Absent != nil && at+size > l.Absent.From:
		l.State, l.Why = StateUnknown, "its log lies where its headers are absent"
		return
	case last == nil:
		// mkfs.xfs writes a record there, and the log never has zeros again.
		l.State, l.Why = StateUnknown, "its log begins with zeros: what it had is gone"
		l.damage("log", at, "it begins with zeros, and no log does")
		return
	}
	cycle, err := r.cycle(last.at)
	if err != nil {
		l.State, l.Why = StateUnknown, fmt.Sprintf("its log can't be read: %v", err)
		return
	}
	l.Generation = uint64(cycle)<<32 | uint64(head)
	l.looked("the end of the log, sector %d of %d in cycle %d", head, r.blocks, cycle)
	clean, err := r.unmounted(head, last)
	switch {
	case err != nil:
		l.State, l.Why = StateUnknown, fmt.Sprintf("its log can't be read: %v", err)
	case clean:
		l.State, l.Why = StateClean, "its log ends with an unmount"
	default:
		l.State, l.Why = StateDirty, "its log has changes that are not yet in their place"
	}
	if l.State == StateDirty && !bytes.Equal(last.uuid, s.uuid) {
		l.State, l.Why = StateErrors, "its log is that of another file system, "+uuidText(last.uuid)+": the kernel refuses to replay it"
	}
	if l.State == StateDirty && last.format != 1 {
		l.note("its log was not written by a little-endian machine: others can't replay it")
	}
}

// find returns where the log ends and the record before that, nil for a log that
// begins with zeros.
func (r *ring) find() (head int64, last *xfsRecordHeader, err error) {
	first, err := r.cycle(0)
	if err != nil || first == 0 {
		return 0, nil, err
	}
	end, err := r.cycle(r.blocks - 1)
	if err != nil {
		return 0, nil, err
	}
	head, stale := r.blocks, int64(end)-1
	if first != end {
		if head, err = r.search(end); err != nil {
			return 0, nil, err
		}
		stale = int64(end)
	}
	// What a mount has in flight depends on the size of its buffers, which each
	// record tells.
	last, err = r.before(head, xfsLogBuffers*xfsBufferMost)
	if err != nil {
		return 0, nil, err
	}
	buffer := last.buffer
	if buffer < xfsBufferLeast || buffer > xfsBufferMost {
		buffer = xfsBufferMost
	}
	if head, err = r.holes(head, stale, xfsLogBuffers*buffer/xfsLogSector); err != nil {
		return 0, nil, err
	}
	if last, err = r.before(head, xfsLogBuffers*xfsBufferMost); err != nil {
		return 0, nil, err
	}
	if last.lastHead%r.blocks != head%r.blocks { // it was not written to its end
		head = last.at
		if last, err = r.before(head, xfsLogBuffers*xfsBufferMost); err != nil {
			return 0, nil, err
		}
	}
	return head % r.blocks, last, nil
}

// cycle returns the cycle number of a sector.
func (r *ring) cycle(block int64) (uint32, error) {
	b, err := r.sector(block)
	if err != nil {
		return 0, err
	}
	return cycleOf(b), nil
}

func cycleOf(b []byte) uint32 {
	if n := be.Uint32(b); n != xfsRecord {
		return n
	}
	return be.Uint32(b[4:])
}

// sector reads one sector, from the window where it is there.
func (r *ring) sector(block int64) ([]byte, error) {
	if i := (block - r.from) * xfsLogSector; block >= r.from && i+xfsLogSector <= int64(len(r.window)) {
		return r.window[i : i+xfsLogSector], nil
	}
	if block < 0 || block >= r.blocks {
		return nil, errBeyond
	}
	return r.a.bytes(r.at+block*xfsLogSector, xfsLogSector)
}

// load reads n sectors into the window.
func (r *ring) load(from, n int64) error {
	b, err := r.a.bytes(r.at+from*xfsLogSector, int(n*xfsLogSector))
	if err == nil {
		r.from, r.window = from, b
	}
	return err
}

// search returns the first sector of a cycle that fills the end of the log.
func (r *ring) search(cycle uint32) (int64, error) {
	const together = 128 // sectors: as many cost one read hardly more than one of them
	other, found := int64(0), r.blocks-1
	for found-other > 1 {
		if n := found - other; n <= together && n > together/2 {
			if err := r.load(other, n); err != nil {
				return 0, err
			}
		}
		mid := other + (found-other)/2
		c, err := r.cycle(mid)
		if err != nil {
			return 0, err
		}
		if c == cycle {
			found = mid
		} else {
			other = mid
		}
	}
	return found, nil
}

// holes moves the head back to the first sector before it that was not written:
// buffers in flight arrive in any order.
func (r *ring) holes(head, stale, window int64) (int64, error) {
	window = min(window, r.blocks)
	if head < window && stale > 0 {
		// The log's other end belongs to the window, where the cycle before
		// should have no place.
		found, err := r.first(r.blocks-(window-head), r.blocks, stale-1)
		if err != nil || found >= 0 {
			return found, err
		}
	}
	found, err := r.first(max(0, head-window), head, stale)
	if err != nil || found < 0 {
		return head, err
	}
	return found, nil
}

// first returns the first sector of a cycle between two, -1 if there is none.
func (r *ring) first(from, to, cycle int64) (int64, error) {
	if from >= to {
		return -1, nil
	}
	if err := r.load(from, to-from); err != nil {
		return 0, err
	}
	for i := from; i < to; i++ {
		b, err := r.sector(i)
		if err != nil {
			return 0, err
		}
		if int64(cycleOf(b)) == cycle {
			return i, nil
		}
	}
	return -1, nil
}

// before returns the last record that begins before head, looking back for some
// bytes at most, around the ring's end if need be.
func (r *ring) before(head, most int64) (*xfsRecordHeader, error) {
	const step = 128 // sectors
	left := min(most/xfsLogSector+1, r.blocks)
	at := head
	for left > 0 {
		if at == 0 {
			at = r.blocks
		}
		n := min(step, at, left)
		if i := at - n; i < r.from || (at-r.from)*xfsLogSector > int64(len(r.window)) {
			if err := r.load(i, n); err != nil {
				return nil, err
			}
		}
		for i := at - 1; i >= at-n; i-- {
			b, err := r.sector(i)
			if err != nil {
				return nil, err
			}
			if be.Uint32(b) == xfsRecord {
				return parseRecord(b, i)
			}
		}
		at -= n
		left -= n
	}
	return nil, errNoRecord
}

func parseRecord(b []byte, at int64) (*xfsRecordHeader, error) {
	h := &xfsRecordHeader{
		at: at, length: int64(be.Uint32(b[12:])), tail: be.Uint64(b[24:]), ops: be.Uint32(b[40:]),
		headers: 1, format: be.Uint32(b[300:]), uuid: bytes.Clone(b[304:320]), buffer: int64(be.Uint32(b[320:])),
	}
	if h.length > xfsBufferMost {
		return nil, fmt.Errorf("a record of %d bytes", h.length)
	}
	if version := be.Uint32(b[8:]); version&2 != 0 {
		if h.buffer > xfsBufferMost {
			return nil, fmt.Errorf("a buffer of %d bytes", h.buffer)
		}
		const perHeader = 32 << 10 // bytes of data whose cycle numbers one header holds
		h.headers = max(1, (h.buffer+perHeader-1)/perHeader)
	} else {
		h.buffer = xfsBufferLeast // version 1 has no other
	}
	h.lastHead = at + h.headers + (h.length+xfsLogSector-1)/xfsLogSector
	return h, nil
}

// unmounted reports whether the last record is that of an unmount, and nothing
// else.
func (r *ring) unmounted(head int64, h *xfsRecordHeader) (bool, error) {
	if h.lastHead%r.blocks != head || h.ops != 1 {
		return false, nil
	}
	b, err := r.sector((h.at + h.headers) % r.blocks)
	if err != nil {
		return false, err
	}
	return b[9]&xfsUnmount != 0, nil
}
