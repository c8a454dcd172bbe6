package bootlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// found is a log of this boot that exists already, locked.
type found struct {
	dir  string
	file file
	Recovery
	end int64 // where to write on
	// lead is what must be written there first: a header, or the line break
	// that an earlier writer did not get to.
	lead []byte
}

// open finds this boot's log, or begins it.
func (w *Writer) open() (err error) {
	var have []*found
	defer func() {
		if err != nil {
			for _, f := range have {
				f.file.Close()
			}
		}
	}()
	for i, dir := range w.opts.Dirs {
		dir = filepath.Clean(dir)
		f, err := w.find(dir)
		switch {
		case err == nil:
			have = append(have, f)
		case errors.Is(err, fs.ErrNotExist):
		case readOnly(err) && i < len(w.opts.Dirs)-1:
			if err := w.peek(dir); err != nil {
				return err
			}
		default:
			return err
		}
	}
	if len(have) == 0 {
		f, err := w.begin(filepath.Clean(w.opts.Dirs[len(w.opts.Dirs)-1]))
		if err != nil {
			return err
		}
		have = append(have, f)
	}
	return w.goOn(have)
}

// readOnly reports whether err means that a log can be read and not written.
func readOnly(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission)
}

// goOn continues the first of the logs, with what only the others have.
func (w *Writer) goOn(have []*found) error {
	base := have[0]
	w.noteRecovered(base.Recovery)
	w.dir, w.file, w.synced = base.dir, base.file, base.end
	lead := base.lead
	for _, other := range have[1:] {
		w.noteRecovered(other.Recovery)
		n, err := merge(base, func() io.Reader { return io.NewSectionReader(other.file, 0, other.end) })
		if err != nil {
			return fmt.Errorf("join the boot logs in %s and %s: %w", base.dir, other.dir, err)
		}
		base.LastID = max(base.LastID, other.LastID)
		w.synced, lead, base.lead = n, nil, nil
		base.end = n
		w.forget(other.dir, other.file)
	}
	w.lastID = w.recovered.LastID
	w.buf.add(lead)
	w.size = w.synced + int64(w.buf.size)
	if err := w.budget.read(io.NewSectionReader(w.file, 0, w.synced)); err != nil {
		return fmt.Errorf("read what is in boot log %s: %w", w.path(), err)
	}
	w.since = time.Now()
	if w.buf.size > 0 {
		w.poke()
	}
	return nil
}

func (w *Writer) noteRecovered(r Recovery) {
	w.recovered.Cut += r.Cut
	if r.LastID > w.recovered.LastID {
		w.recovered.LastID, w.recovered.LastAt = r.LastID, r.LastAt
	}
}

// begin makes a new log in dir.
func (w *Writer) begin(dir string) (*found, error) {
	if err := w.opts.disk.Mkdir(dir); err != nil {
		return nil, fmt.Errorf("make folder for boot logs: %w", err)
	}
	path := filepath.Join(dir, w.name)
	f, err := w.opts.disk.Open(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("begin boot log: %w", err)
	}
	f.Close()
	return w.find(dir)
}

// find opens the log in dir, and cuts off what is unfinished at its end.
func (w *Writer) find(dir string) (*found, error) {
	path := filepath.Join(dir, w.name)
	f, err := openLocked(w.opts.disk, path)
	if err != nil {
		return nil, wrapOpen(err, path)
	}
	have, err := w.inspect(f, path)
	if err == nil && have.Cut > 0 {
		err = f.Truncate(have.end)
	}
	if err != nil {
		f.Close()
		return nil, wrapOpen(err, path)
	}
	have.dir = dir
	return have, nil
}

// wrapOpen names the file in those errors that do not yet.
func wrapOpen(err error, path string) error {
	var locked *LockedError
	var version *VersionError
	if errors.As(err, &locked) || errors.As(err, &version) {
		return err
	}
	return fmt.Errorf("continue boot log %s: %w", path, err)
}

// peek learns the last id of a log that cannot be written now.
func (w *Writer) peek(dir string) error {
	path := filepath.Join(dir, w.name)
	f, err := w.opts.disk.Open(path, os.O_RDONLY)
	if err != nil {
		if readOnly(err) {
			return nil // not readable either: the two cannot be joined by id
		}
		return wrapOpen(err, path)
	}
	defer f.Close()
	have, err := w.inspect(f, path)
	if err != nil {
		return wrapOpen(err, path)
	}
	w.noteRecovered(have.Recovery)
	return nil
}

// inspect finds where f's last event ends.
func (w *Writer) inspect(f file, path string) (*found, error) {
	have := &found{file: f}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	start := make([]byte, min(size, maxHeader))
	if _, err := f.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	body := int64(bytes.IndexByte(start, '\n') + 1)
	if body == 0 && size < maxHeader {
		// Recording ended before the header was written.
		have.Cut = size
		have.lead, err = w.opts.Header.line()
		return have, err
	}
	header, err := parseHeader(start[:body], path)
	if err != nil {
		return nil, err
	}
	if header.BootID != w.opts.Header.BootID {
		return nil, fmt.Errorf("it is of boot %s: move it away", header.BootID)
	}
	last, end, terminated, err := lastEvent(f, body, size)
	if err != nil {
		return nil, err
	}
	have.LastID, have.LastAt = last.ID, last.At
	have.end, have.Cut = end, size-end
	if !terminated {
		have.lead = []byte{'\n'}
	}
	return have, nil
}

// merge appends to base the events of text that it does not have, makes them
// durable, and returns base's new end.
func merge(base *found, text func() io.Reader) (int64, error) {
	from, err := firstAfter(text(), base.LastID)
	if err != nil {
		return 0, err
	}
	rest := text()
	if _, err := io.CopyN(io.Discard, rest, from); err != nil {
		return 0, err
	}
	out := io.NewOffsetWriter(base.file, base.end)
	n, err := io.Copy(out, io.MultiReader(bytes.NewReader(base.lead), rest))
	if err == nil {
		err = base.file.Sync()
	}
	return base.end + n, err
}

// move moves the log into dir. The old file goes only when all it had is
// durable in the new one.
func (w *Writer) move(dir string) error {
	if dir == w.dir {
		return nil
	}
	oldDir, oldFile := w.dir, w.file
	if err := w.settle(dir); err != nil {
		return err
	}
	w.forget(oldDir, oldFile)
	return nil
}

// restore writes the log anew where its name is gone, and closes the file that has
// none.
func (w *Writer) restore() (bool, error) {
	if w.file.Named(w.path()) {
		return false, nil
	}
	nameless := w.file
	if err := w.settle(w.dir); err != nil {
		return false, err
	}
	nameless.Close()
	return true, nil
}

// settle puts all of the log into dir, and goes on there.
func (w *Writer) settle(dir string) error {
	if err := w.opts.disk.Mkdir(dir); err != nil {
		return err
	}
	w.mu.Lock()
	pending, n := w.buf.from(0), w.buf.size
	w.mu.Unlock()
	text := func() io.Reader {
		return io.MultiReader(io.NewSectionReader(w.file, 0, w.synced), reader(pending))
	}
	begun := time.Now()
	f, end, err := w.place(dir, text)
	if err != nil {
		return err
	}
	var taken *budget // where a log was there already, which nobody counted
	if end != w.synced+int64(n) {
		taken = newBudget()
		if err := taken.read(io.NewSectionReader(f, 0, end)); err != nil {
			f.Close()
			return err
		}
	}
	if err := w.share(f); err != nil { // readers are told of less, and nothing is lost
		w.opts.Logger.Warn("the boot log", "error", err)
	}
	w.mu.Lock()
	if taken != nil {
		w.budget.adopt(taken)
	}
	w.dir, w.file = dir, f
	w.written = 0
	w.durable(n, begun)
	w.synced = end
	w.size = end + int64(w.buf.size)
	w.mu.Unlock()
	w.report(nil)
	return nil
}

// place puts text into dir: as a new file, or behind what a log has that is
// there already, from a time when it could be written.
func (w *Writer) place(dir string, text func() io.Reader) (file, int64, error) {
	base, err := w.find(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return w.copy(dir, text())
	}
	if err != nil {
		return nil, 0, err
	}
	end, err := merge(base, text)
	if err == nil {
		err = w.syncDirs(dir)
	}
	if err != nil {
		base.file.Close()
		return nil, 0, err
	}
	return base.file, end, nil
}

// copy writes text under another name and renames that when it is durable.
func (w *Writer) copy(dir string, text io.Reader) (file, int64, error) {
	d := w.opts.disk
	path := filepath.Join(dir, w.name)
	temp := path + tempSuffix
	if err := d.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, err
	}
	f, err := d.Open(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, 0, err
	}
	n, err := w.fill(f, text, func() error { return d.Rename(temp, path) })
	if err == nil {
		err = w.syncDirs(dir)
	}
	if err != nil {
		f.Close()
		if removal := d.Remove(temp); removal != nil && !errors.Is(removal, fs.ErrNotExist) {
			err = errors.Join(err, removal)
		}
		return nil, 0, err
	}
	return f, n, nil
}

func (w *Writer) fill(f file, text io.Reader, rename func() error) (int64, error) {
	if err := f.Lock(); err != nil {
		return 0, err
	}
	n, err := io.Copy(io.NewOffsetWriter(f, 0), text)
	if err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return n, rename()
}

// syncDirs makes dir's names durable, and its own name.
func (w *Writer) syncDirs(dir string) error {
	for _, dir := range slices.Compact([]string{dir, filepath.Dir(dir)}) {
		if err := w.opts.disk.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// forget removes a log whose events are all in another. It is not an error
// where that fails: events that are twice there are read once.
func (w *Writer) forget(dir string, f file) {
	if err := w.opts.disk.Remove(filepath.Join(dir, w.name)); err != nil {
		w.opts.Logger.Warn("the moved boot log cannot be removed", "error", err)
	}
	f.Close()
}
