package bootlog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// disk is what writing needs of a file system. The tests have one that fails.
type disk interface {
	// Open opens a file; new ones get mode 0600.
	Open(path string, flag int) (file, error)
	// Mkdir makes dir, and its parents, with mode 0700.
	Mkdir(dir string) error
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes what happened to the names in dir durable.
	SyncDir(dir string) error
}

// file is an open file of a disk.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Sync makes the file's bytes and size durable.
	Sync() error
	// Lock takes the lock that tells writers from each other, or returns
	// errLocked. Closing the file lets it go.
	Lock() error
	// Share lets a group read the file, and nobody else but its owner.
	Share(gid int) error
	// SharedWith returns the group that may read the file, 0: none.
	SharedWith() (gid int, err error)
	// Named reports whether path still names this file.
	Named(path string) bool
}

var errLocked = errors.New("locked")

type osDisk struct{}

func (osDisk) Open(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) Mkdir(dir string) error       { return os.MkdirAll(dir, 0o700) }
func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }
func (osDisk) Remove(path string) error     { return os.Remove(path) }

func (osDisk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Sync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

func (f osFile) Lock() error {
	// A reader asking whether the log is being written holds the lock for an
	// instant; see beingWritten.
	for range 5 {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK {
			return os.NewSyscallError("flock", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errLocked
}

func (f osFile) Share(gid int) error {
	if have, err := f.SharedWith(); err == nil && have == gid {
		return nil
	}
	// The group first: the one before must not get what is meant for this one.
	if err := f.Chown(-1, gid); err != nil {
		return err
	}
	return f.Chmod(0o640)
}

func (f osFile) SharedWith() (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	if st.Mode&0o040 == 0 {
		return 0, nil
	}
	return int(st.Gid), nil
}

func (f osFile) Named(path string) bool {
	here, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(here, there)
}

// beingWritten reports whether a writer holds f's lock.
func beingWritten(f *os.File) bool {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return err == unix.EWOULDBLOCK
	}
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
	return false
}

// openLocked opens path for writing and locks it. Between the two another
// process can have moved the log away; then the file of that name is opened.
func openLocked(d disk, path string) (file, error) {
	for {
		f, err := d.Open(path, os.O_RDWR)
		if err != nil {
			return nil, err
		}
		if err := f.Lock(); err != nil {
			f.Close()
			if errors.Is(err, errLocked) {
				return nil, &LockedError{path}
			}
			return nil, fmt.Errorf("lock boot log %s: %w", path, err)
		}
		if f.Named(path) {
			return f, nil
		}
		f.Close()
	}
}
