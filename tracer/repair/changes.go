package repair

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"github.com/bootrace/bootrace/tracer/replace"
)

// Store is the bytes of a disk that are read and written.
type Store interface {
	io.ReaderAt
	io.WriterAt
	// Sync returns when all that was written is on stable storage.
	Sync() error
	// Size is in bytes.
	Size() int64
}

// Changes say what a repair is about. They begin the file of changes, as JSON.
type Changes struct {
	// Disk is its path, Format that of its image, UUID the device-mapper's, empty
	// where it has none, Size what the guest sees, in bytes.
	Disk   string `json:"disk"`
	Format string `json:"format"`
	UUID   string `json:"uuid,omitempty"`
	Size   int64  `json:"size_bytes"`
	// Guest is whose disk it is, as far as that was said.
	Guest string    `json:"guest,omitempty"`
	Made  time.Time `json:"made"`
	// What was repaired, in words.
	What []string `json:"what"`
}

// The file of changes: fileMagic, the length of a JSON header as uint32 and that
// header, then blocks, then one of no length and a SHA-256 of all that came before.
// A block is its offset as uint64, its length as uint32, its old bytes and its new
// ones. Numbers are big-endian.
const (
	fileMagic  = "bootrace repair 1\n"
	mostHeader = 64 << 10
	// blockSize is how finely changes are found, mostBlock how much one block has at
	// most.
	blockSize = 4096
	mostBlock = 1 << 20
	// sectorSize is what a disk writes whole or not at all.
	sectorSize = 512
)

// block is one stretch of bytes that a repair changes.
type block struct {
	off      int64
	old, new []byte
}

// changesWriter writes a file of changes.
type changesWriter struct {
	file   *replace.File
	path   string
	to     *bufio.Writer
	sum    hash.Hash
	blocks int
	bytes  int64
}

// createChanges begins a file of changes. It has its name only once it is whole and
// on stable storage (finish).
func createChanges(path string, c *Changes) (*changesWriter, error) {
	header, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if len(header) > mostHeader {
		return nil, errors.New("the description of the repair is too long")
	}
	f, err := replace.Create(path, replace.Options{Perm: 0o600, Sole: true})
	if err != nil {
		return nil, err
	}
	w := &changesWriter{file: f, path: path, sum: sha256.New()}
	w.to = bufio.NewWriterSize(io.MultiWriter(f, w.sum), 1<<20)
	head := append([]byte(fileMagic), binary.BigEndian.AppendUint32(nil, uint32(len(header)))...)
	if _, err := w.to.Write(append(head, header...)); err != nil {
		w.abandon()
		return nil, err
	}
	return w, nil
}

func (w *changesWriter) add(b *block) error {
	head := binary.BigEndian.AppendUint64(nil, uint64(b.off))
	head = binary.BigEndian.AppendUint32(head, uint32(len(b.old)))
	for _, part := range [][]byte{head, b.old, b.new} {
		if _, err := w.to.Write(part); err != nil {
			return err
		}
	}
	if len(b.old) > 0 {
		w.blocks++
		w.bytes += int64(len(b.old))
	}
	return nil
}

// finish gives the file its name once all of it is on stable storage.
func (w *changesWriter) finish() error {
	err := w.add(&block{})
	if err == nil {
		err = w.to.Flush()
	}
	if err == nil {
		_, err = w.file.Write(w.sum.Sum(nil))
	}
	if err != nil {
		w.abandon()
		return err
	}
	return w.file.Commit()
}

func (w *changesWriter) abandon() { _ = w.file.Abandon() }

// ReadChanges returns what a file of changes is about. The whole file is checked.
func ReadChanges(path string) (*Changes, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := readChanges(f, func(*block) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

var errNoChanges = errors.New("this is no file of changes that `bootrace repair` wrote, or not all of one")

// readChanges reads a file of changes and calls f for each block, whose bytes are
// only good until f returns. What is wrong with a later part comes to light after the
// blocks before it.
func readChanges(in io.Reader, f func(*block) error) (*Changes, error) {
	sum := sha256.New()
	buffered := bufio.NewReaderSize(in, 1<<20)
	r := io.TeeReader(buffered, sum)
	head := make([]byte, len(fileMagic)+4)
	if _, err := io.ReadFull(r, head); err != nil || string(head[:len(fileMagic)]) != fileMagic {
		return nil, errNoChanges
	}
	n := binary.BigEndian.Uint32(head[len(fileMagic):])
	if n > mostHeader {
		return nil, errNoChanges
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, errNoChanges
	}
	c := &Changes{}
	if err := json.Unmarshal(header, c); err != nil || c.Size < 0 {
		return nil, errNoChanges
	}
	var end int64
	for {
		var at [12]byte
		if _, err := io.ReadFull(r, at[:]); err != nil {
			return nil, errNoChanges
		}
		off, n := binary.BigEndian.Uint64(at[:]), int64(binary.BigEndian.Uint32(at[8:]))
		if n == 0 {
			break
		}
		if n > mostBlock || off > uint64(c.Size) || int64(off) < end || int64(off)+n > c.Size {
			return nil, errNoChanges
		}
		b := &block{int64(off), make([]byte, n), make([]byte, n)}
		for _, p := range [][]byte{b.old, b.new} {
			if _, err := io.ReadFull(r, p); err != nil {
				return nil, errNoChanges
			}
		}
		end = b.off + n
		if err := f(b); err != nil {
			return nil, err
		}
	}
	want := sum.Sum(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(buffered, got); err != nil || !bytes.Equal(got, want) {
		return nil, errNoChanges
	}
	return c, nil
}

// direction is what a disk is to become.
type direction int

const (
	forward direction = iota // repaired
	back                     // as it was before
)

// errForeign is returned where somebody else wrote to the disk.
var errForeign = errors.New("the disk is neither as it was before the repair nor as the repair left it: somebody else wrote to it since (a guest that was started does); writing these bytes now would damage it")

// put makes the disk what it was before a repair, or what it is to be after it.
// Before the first write all of it is looked at: each sector that the repair concerns
// has to be one of the two, where fresh is set the old one. So it can be called again
// after it was interrupted anywhere, in either direction.
func put(disk Store, changes io.ReadSeeker, to direction, fresh bool) error {
	each := func(f func(b *block, now []byte) error) (*Changes, error) {
		if _, err := changes.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		return readChanges(changes, func(b *block) error {
			now := make([]byte, len(b.old))
			if _, err := disk.ReadAt(now, b.off); err != nil {
				return fmt.Errorf("read the disk at byte %d: %w", b.off, err)
			}
			return f(b, now)
		})
	}
	c, err := each(func(b *block, now []byte) error {
		for at := 0; at < len(now); at += sectorSize {
			end := min(at+sectorSize, len(now))
			if bytes.Equal(now[at:end], b.old[at:end]) || !fresh && bytes.Equal(now[at:end], b.new[at:end]) {
				continue
			}
			return errForeign
		}
		return nil
	})
	if err != nil {
		return err
	}
	if size := disk.Size(); size != c.Size {
		return fmt.Errorf("the disk has %d bytes by now, and had %d", size, c.Size)
	}
	wanted := func(b *block) []byte {
		if to == back {
			return b.old
		}
		return b.new
	}
	if _, err := each(func(b *block, now []byte) error {
		if bytes.Equal(now, wanted(b)) {
			return nil
		}
		_, err := disk.WriteAt(wanted(b), b.off)
		return err
	}); err != nil {
		return err
	}
	if err := disk.Sync(); err != nil {
		return err
	}
	_, err = each(func(b *block, now []byte) error {
		if !bytes.Equal(now, wanted(b)) {
			return fmt.Errorf("what was written at byte %d is not what the disk has there now: do not start the guest, and look at the storage", b.off)
		}
		return nil
	})
	return err
}

// compare finds what differs between a disk and its repaired copy within the given
// stretches, in order, and adds it to w.
func compare(disk, copied io.ReaderAt, stretches []stretch, w *changesWriter) error {
	old, changed := make([]byte, mostBlock), make([]byte, mostBlock)
	for _, s := range stretches {
		for off := s.off; off < s.end; off += mostBlock {
			n := int(min(mostBlock, s.end-off))
			if _, err := disk.ReadAt(old[:n], off); err != nil {
				return fmt.Errorf("read the disk at byte %d: %w", off, err)
			}
			if _, err := copied.ReadAt(changed[:n], off); err != nil {
				return fmt.Errorf("read the repaired copy at byte %d: %w", off, err)
			}
			for at := 0; at < n; {
				end := min(at+blockSize, n)
				if bytes.Equal(old[at:end], changed[at:end]) {
					at = end
					continue
				}
				for end < n && !bytes.Equal(old[end:min(end+blockSize, n)], changed[end:min(end+blockSize, n)]) {
					end = min(end+blockSize, n)
				}
				if err := w.add(&block{off + int64(at), old[at:end], changed[at:end]}); err != nil {
					return err
				}
				at = end
			}
		}
	}
	return nil
}

// stretch is bytes off to end of a disk.
type stretch struct{ off, end int64 }
