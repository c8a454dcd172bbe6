// Package spool keeps on disk what is to be sent, until it has been: each entry
// a file, whole or not there at all, in the order in which they came.
//
// What a receiver will never take is set aside, so that it doesn't hold up the
// rest and can still be looked at.
package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/replace"
)

// ErrFull is the error of Add where an entry has no room. Nothing is lost by
// it: what is to be sent comes from the logs of the boots.
var ErrFull = errors.New("the spool is full")

const (
	entrySuffix  = ".otlp"
	refusedDir   = "refused"
	mostRefused  = 32 // entries that are kept
	numberDigits = 12
)

// Entry is one thing to send.
type Entry struct {
	Number uint64
	// Boot is the id of the boot that it is about.
	Boot string
	Size int64
}

// Spool is a folder of entries. It is not safe for concurrent use.
type Spool struct {
	dir     string
	limit   int64
	entries []Entry
	bytes   int64
	next    uint64
}

// Open opens the spool in dir, which is made where it isn't there, for at most
// limit bytes.
func Open(dir string, limit int64) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	s := &Spool{dir: dir, limit: limit, next: 1}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), replace.Suffix) {
			_ = os.Remove(filepath.Join(dir, f.Name())) // was never whole
			continue
		}
		e, ok := parseName(f.Name())
		info, err := f.Info()
		if !ok || err != nil {
			continue
		}
		e.Size = info.Size()
		s.entries = append(s.entries, e)
		s.bytes += e.Size
		s.next = max(s.next, e.Number+1)
	}
	slices.SortFunc(s.entries, func(a, b Entry) int { return int(int64(a.Number) - int64(b.Number)) })
	return s, nil
}

func (e Entry) name() string {
	return fmt.Sprintf("%0*d-%s%s", numberDigits, e.Number, e.Boot, entrySuffix)
}

func parseName(name string) (Entry, bool) {
	base, ok := strings.CutSuffix(name, entrySuffix)
	number, boot, found := strings.Cut(base, "-")
	n, err := strconv.ParseUint(number, 10, 63)
	return Entry{Number: n, Boot: boot}, ok && found && err == nil && len(number) == numberDigits && boot != ""
}

// Add puts data at the end. It is on disk when Add returns nil.
func (s *Spool) Add(boot string, data []byte) error {
	e := Entry{Number: s.next, Boot: boot, Size: int64(len(data))}
	if s.bytes+e.Size > s.limit {
		return fmt.Errorf("%w: %d of %d bytes wait to be sent", ErrFull, s.bytes, s.limit)
	}
	if err := replace.Bytes(filepath.Join(s.dir, e.name()), data, replace.Options{Perm: 0o600, Sole: true}); err != nil {
		return fmt.Errorf("write to the spool: %w", err)
	}
	s.next++
	s.entries = append(s.entries, e)
	s.bytes += e.Size
	return nil
}

// Entries are those that wait, the oldest first.
func (s *Spool) Entries() []Entry { return slices.Clone(s.entries) }

// Depth is how many entries wait, and their size in bytes.
func (s *Spool) Depth() (entries int, bytes int64) { return len(s.entries), s.bytes }

// Read returns what an entry holds.
func (s *Spool) Read(e Entry) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(s.dir, e.name()))
	if err != nil {
		return nil, fmt.Errorf("read from the spool: %w", err)
	}
	return data, nil
}

// Done takes an entry away: it has been sent.
func (s *Spool) Done(e Entry) error {
	if err := os.Remove(filepath.Join(s.dir, e.name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove from the spool: %w", err)
	}
	s.forget(e)
	// Where a power cut undoes this, it is sent once more as it is, which a
	// receiver takes for the same.
	return nil
}

// Refuse sets an entry aside that will never be taken.
func (s *Spool) Refuse(e Entry) error {
	aside := filepath.Join(s.dir, refusedDir)
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return fmt.Errorf("set an entry of the spool aside: %w", err)
	}
	if err := os.Rename(filepath.Join(s.dir, e.name()), filepath.Join(aside, e.name())); err != nil {
		return fmt.Errorf("set an entry of the spool aside: %w", err)
	}
	s.forget(e)
	files, err := os.ReadDir(aside) // sorted: the oldest first
	if err != nil {
		return fmt.Errorf("look after what was set aside: %w", err)
	}
	for _, f := range files[:max(0, len(files)-mostRefused)] {
		_ = os.Remove(filepath.Join(aside, f.Name()))
	}
	return nil
}

// Refused counts the entries that were set aside and are still there.
func (s *Spool) Refused() int {
	files, err := os.ReadDir(filepath.Join(s.dir, refusedDir))
	if err != nil {
		return 0
	}
	return len(files)
}

func (s *Spool) forget(e Entry) {
	s.entries = slices.DeleteFunc(s.entries, func(o Entry) bool { return o.Number == e.Number })
	s.bytes -= e.Size
}
