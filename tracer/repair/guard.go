package repair

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// guard keeps a guest from starting on a disk. It has the image open, a block device
// exclusively (mounts, LVM and md are kept away), and it holds the locks by which
// QEMU's processes see each other: a guest that wants to write to the image fails to
// open it, with `Failed to get "write" lock`. See QEMU's block/file-posix.c,
// raw_apply_lock_bytes: for each permission that is in use a shared lock on a byte,
// and another for each that nobody else may have.
//
// It does not keep away guests with locking=off, programs other than QEMU, and other
// hosts that reach the same storage.
type guard struct {
	file *os.File
}

// QEMU's permissions, by bit, and where their locks begin.
const (
	permRead    = 0
	permWrite   = 1
	permRewrite = 2 // of what is there already
	permResize  = 3

	lockUsed    = 100
	lockRefused = 200
)

// hold opens an image and locks it. write is set where it is to be written through
// the guard.
func hold(path string, write bool) (*guard, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR
	}
	block := info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0
	switch {
	case block:
		flags |= unix.O_EXCL
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is neither a block device nor a file", path)
	}
	f, err := os.OpenFile(path, flags|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%s is in use by this host: it is mounted, or another device is made of it", path)
	}
	if err != nil {
		return nil, err
	}
	g := &guard{f}
	used := []int{permRead}
	if write {
		used = append(used, permWrite)
	}
	if err := g.lock(used, []int{permWrite, permRewrite, permResize}); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	now, err := f.Stat()
	if err != nil || !os.SameFile(info, now) {
		f.Close()
		return nil, fmt.Errorf("%s is another file by now", path)
	}
	return g, nil
}

// lock takes the locks and looks whether somebody else's are in their way.
func (g *guard) lock(used, refused []int) error {
	each := func(bits []int, base int64, kind int16, cmd int) error {
		for _, bit := range bits {
			lk := unix.Flock_t{Type: kind, Whence: unix.SEEK_SET, Start: base + int64(bit), Len: 1}
			if err := unix.FcntlFlock(g.file.Fd(), cmd, &lk); err != nil {
				if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
					return errLocked
				}
				return err
			}
			if cmd == unix.F_OFD_GETLK && lk.Type != unix.F_UNLCK {
				return errLocked
			}
		}
		return nil
	}
	for _, step := range []struct {
		bits []int
		base int64
		kind int16
		cmd  int
	}{
		{used, lockUsed, unix.F_RDLCK, unix.F_OFD_SETLK},
		{refused, lockRefused, unix.F_RDLCK, unix.F_OFD_SETLK},
		{used, lockRefused, unix.F_WRLCK, unix.F_OFD_GETLK},
		{refused, lockUsed, unix.F_WRLCK, unix.F_OFD_GETLK},
	} {
		if err := each(step.bits, step.base, step.kind, step.cmd); err != nil {
			return err
		}
	}
	return nil
}

var errLocked = errors.New("another QEMU process has it open: stop the guest first")

// ReadAt implements io.ReaderAt.
func (g *guard) ReadAt(p []byte, off int64) (int, error) { return g.file.ReadAt(p, off) }

// WriteAt implements io.WriterAt.
func (g *guard) WriteAt(p []byte, off int64) (int, error) { return g.file.WriteAt(p, off) }

// Sync returns when all that was written is on stable storage, and has this host
// forget what it keeps of the image: what is read next comes from there.
func (g *guard) Sync() error {
	if err := g.file.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(g.file.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// Size returns the bytes of the image.
func (g *guard) Size() int64 {
	end, err := g.file.Seek(0, 2)
	if err != nil {
		return -1
	}
	return end
}

// Close lets go of it.
func (g *guard) Close() error { return g.file.Close() }
