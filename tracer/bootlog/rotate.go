package bootlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// windowSize is how far back, in bytes, compression looks for repetition. A
// reader needs this much memory for each log that it glances at.
const windowSize = 1 << 20

// Limits bound what a store keeps.
type Limits struct {
	Boots int   // 0 means 30
	Bytes int64 // on disk; 0 means 256 MiB
}

func (l Limits) orDefault() Limits {
	return Limits{orElse(l.Boots, 30), orElse(l.Bytes, 256<<20)}
}

// Thin removes the oldest boots until the rest is within the limits, as Rotate
// does, and nothing else. Where they are within them, which is nearly always so,
// it reads no log: a boot has no time for that.
func (s *Store) Thin(l Limits) error {
	l = l.orDefault()
	if !s.exceeds(l) {
		return nil
	}
	return s.remove(osDisk{}, l)
}

// exceeds tells from names and sizes whether there may be more than l.
func (s *Store) exceeds(l Limits) bool {
	boots := map[string]bool{}
	var bytes int64
	for _, dir := range s.Dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // List tells of it
		}
		for _, entry := range entries {
			id, _, ok := logName(entry.Name())
			info, err := entry.Info()
			if ok && err == nil {
				boots[id] = true
				bytes += info.Size()
			}
		}
	}
	return len(boots) > l.Boots || bytes > l.Bytes
}

// Rotate compresses the logs of earlier boots and removes the oldest until
// the rest is within the limits. The running boot's log is counted and never
// touched. It may be interrupted at any point; the next call does the rest.
// A log that cannot be compressed is left as it is and does not stop the
// others.
func (s *Store) Rotate(ctx context.Context, l Limits) error {
	return s.rotate(ctx, l, osDisk{})
}

func (s *Store) rotate(ctx context.Context, l Limits, d disk) error {
	l = l.orDefault()
	errs := []error{s.clean(d)}
	boots, err := s.List()
	if err != nil {
		return err
	}
	for i := range boots {
		if err := ctx.Err(); err != nil {
			return err
		}
		if b := &boots[i]; !b.Current && b.Err == nil && i < l.Boots {
			errs = append(errs, s.compress(ctx, d, b))
		}
	}
	return errors.Join(append(errs, s.remove(d, l))...)
}

// clean removes what interrupted calls have left, but nothing of the running
// boot, whose log may be on its way here.
func (s *Store) clean(d disk) error {
	var errs []error
	for _, dir := range s.Dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // List tells of it
		}
		for _, entry := range entries {
			name, temp := strings.CutSuffix(entry.Name(), tempSuffix)
			if id, _, ok := logName(name); temp && ok && id != s.Current {
				errs = append(errs, d.Remove(filepath.Join(dir, entry.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

// compress replaces the boot's plain files by compressed ones.
func (s *Store) compress(ctx context.Context, d disk, b *Boot) error {
	for _, path := range b.Paths {
		if _, compressed, _ := logName(path); compressed {
			continue
		}
		if err := compressFile(ctx, d, path); err != nil {
			return fmt.Errorf("compress boot log %s: %w", path, err)
		}
	}
	return nil
}

// compressFile compresses one log, damage and all: nothing of what may be
// evidence is thrown away.
func compressFile(ctx context.Context, d disk, path string) error {
	plain, err := openLocked(d, path)
	if err != nil {
		if errors.As(err, new(*LockedError)) {
			return nil // its boot is another's current one
		}
		return err
	}
	defer plain.Close()
	size, err := plain.Size()
	if err != nil {
		return err
	}
	sum, err := summarize(ctx, path)
	if err != nil {
		return err
	}
	target := strings.TrimSuffix(path, plainSuffix) + zstdSuffix
	readers, err := plain.SharedWith()
	if err != nil {
		return err
	}
	if err := writeCompressed(d, target+tempSuffix, sum, readers, contextReader{ctx, io.NewSectionReader(plain, 0, size)}); err != nil {
		// A left-over is removed by the next call, too.
		return errors.Join(err, ignoreMissing(d.Remove(target+tempSuffix)))
	}
	if err := d.Rename(target+tempSuffix, target); err != nil {
		return err
	}
	if err := d.SyncDir(filepath.Dir(target)); err != nil {
		return err
	}
	return d.Remove(path)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// summarize reads the whole log.
func summarize(ctx context.Context, path string) (*summary, error) {
	l, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	var n uint64
	for e, err := range l.Lend() {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		if e.ID > 0 {
			n++
		}
	}
	info, err := l.parts[0].file.Stat()
	if err != nil {
		return nil, err
	}
	h := l.Header()
	return &summary{Events: n, Bytes: info.Size(), Wall: h.Wall, Host: h.Host}, nil
}

// writeCompressed makes a durable file of sum and text, which a group may read, 0: none. It uses one core: it
// has time, guests have not.
func writeCompressed(d disk, path string, sum *summary, readers int, text io.Reader) error {
	frame, err := sum.frame()
	if err != nil {
		return err
	}
	if err := ignoreMissing(d.Remove(path)); err != nil {
		return err
	}
	f, err := d.Open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	defer f.Close()
	if readers != 0 {
		if err := f.Share(readers); err != nil {
			return err
		}
	}
	out := io.NewOffsetWriter(f, 0)
	if _, err := out.Write(frame); err != nil {
		return err
	}
	z, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(windowSize))
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, text); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Sync()
}

// contextReader reads until ctx ends.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// remove removes the oldest boots beyond the limits.
func (s *Store) remove(d disk, l Limits) error {
	boots, err := s.List()
	if err != nil {
		return err
	}
	var kept int
	var bytes int64
	for _, b := range boots {
		if b.Current {
			kept, bytes = kept+1, bytes+b.Size
		}
	}
	full := false
	var errs []error
	for _, b := range boots {
		if b.Current {
			continue
		}
		// Once one is too many, so are all older ones, however small.
		full = full || kept >= l.Boots || bytes+b.Size > l.Bytes
		if !full {
			kept, bytes = kept+1, bytes+b.Size
			continue
		}
		for _, path := range b.Paths {
			errs = append(errs, d.Remove(path))
		}
	}
	return errors.Join(errs...)
}
