// Package replace puts a new file in the place of an old one, so that whoever reads, and
// whatever happens, there is the old one or the new one, whole.
//
// The new file is written beside the old one under a temporary name, brought to stable
// storage, and renamed; then the folder is, which keeps the name (rename(2), fsync(2)). In
// another order a power cut can leave the name and no content. A link in the place of the
// old file is replaced, never followed, and so is one that stands under the temporary name:
// root may write where others do.
//
// It is our own since the libraries for it leave out one of these: the folder, the exact
// mode, or what a writer that was killed has left.
package replace

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Options are what a file shall be like.
type Options struct {
	// Perm is the mode of the new file, whatever the umask and the old one's mode.
	Perm fs.FileMode
	// Sole says that nobody else writes this file, as in a folder of our own. The
	// temporary file is always PATH.tmp then, and what a writer that was killed has
	// left there is removed. Otherwise it is hidden, and named at random: several
	// writers do not meet, and the last one stays.
	Sole bool
	// Fleeting says that the file need not outlive a power cut: nothing is brought to
	// stable storage.
	Fleeting bool
}

// File is a new file on its way. It takes its place with Commit; Abandon drops it.
type File struct {
	path, temp string
	file       *os.File
	fleeting   bool
}

// Suffix ends the name of a temporary file of Options.Sole.
const Suffix = ".tmp"

// Create begins the file that is to be at path. Its folder must be there.
func Create(path string, o Options) (*File, error) {
	f, err := createTemp(path, o.Sole)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(o.Perm); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return &File{path: path, temp: f.Name(), file: f, fleeting: o.Fleeting}, nil
}

func createTemp(path string, sole bool) (*os.File, error) {
	if !sole {
		return os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	}
	temp := path + Suffix
	if err := unix.Unlink(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &fs.PathError{Op: "remove", Path: temp, Err: err}
	}
	return os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// Write adds to the new file.
func (f *File) Write(data []byte) (int, error) { return f.file.Write(data) }

// Commit puts the new file in the place of the old one. Where it fails before it has,
// the old one stays and the new one is gone.
func (f *File) Commit() error {
	var err error
	if !f.fleeting {
		err = f.file.Sync()
	}
	if err = errors.Join(err, f.file.Close()); err == nil {
		err = os.Rename(f.temp, f.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.temp))
	}
	if f.fleeting {
		return nil
	}
	return syncFolder(filepath.Dir(f.path))
}

// Abandon drops the new file. The old one stays.
func (f *File) Abandon() error { return errors.Join(f.file.Close(), os.Remove(f.temp)) }

// syncFolder brings the names in a folder to stable storage. There are file systems that
// can't do that for a folder and say EINVAL, and folders that one may write to and not
// open: the kernel writes those in its own time.
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	if err = dir.Sync(); errors.Is(err, unix.EINVAL) {
		err = nil
	}
	return errors.Join(err, dir.Close())
}

// Bytes makes data the content of the file at path.
func Bytes(path string, data []byte, o Options) error {
	f, err := Create(path, o)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Abandon())
	}
	return f.Commit()
}
