package lab

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cache is a folder of folders, kind/key: made once, never changed, kept until
// there are too many of a kind. A lock file beside each is held shared by who
// uses it and exclusively by who makes or removes it, so that labs can run
// side by side.
type cache struct{ dir string }

func openCache(dir string) (cache, error) {
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return cache{}, fmt.Errorf("find the cache folder: %w; set XDG_CACHE_HOME", err)
		}
		dir = filepath.Join(user, "bootrace", "lab")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return cache{}, fmt.Errorf("cache folder %s: %w", dir, err)
	}
	return cache{abs}, nil
}

// entry is a folder of the cache in use.
type entry struct {
	dir  string
	lock *os.File
}

// Close ends the use.
func (e *entry) Close() error { return e.lock.Close() }

// remove ends the use of a folder that nobody else can have, and removes it.
func (e *entry) remove() error {
	return errors.Join(os.RemoveAll(e.dir), os.Remove(e.lock.Name()), e.Close())
}

func (e *entry) path(name string) string { return filepath.Join(e.dir, name) }

// get returns the entry kind/key, which make fills if it is not there.
func (c cache) get(ctx context.Context, kind, key string, make func(dir string) error) (*entry, error) {
	dir := filepath.Join(c.dir, kind, key)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("make the cache: %w", err)
	}
	for {
		lock, err := lockFile(ctx, dir+".lock", unix.LOCK_SH)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(dir); err == nil {
			now := time.Now()
			_ = os.Chtimes(dir, now, now) // only says what to remove first
			return &entry{dir, lock}, nil
		}
		lock.Close()
		if err := c.fill(ctx, dir, make); err != nil {
			return nil, err
		}
	}
}

func (c cache) fill(ctx context.Context, dir string, make func(dir string) error) error {
	lock, err := lockFile(ctx, dir+".lock", unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Stat(dir); err == nil {
		return nil // another lab was faster
	}
	tmp := dir + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("clear the remains of an interrupted build: %w; remove it as root", err)
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return fmt.Errorf("make the cache: %w", err)
	}
	if err := make(tmp); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return os.Rename(tmp, dir)
}

// keep removes the least recently used entries of kind that nobody uses, until
// n are left.
func (c cache) keep(kind string, n int) error {
	dirs, err := filepath.Glob(filepath.Join(c.dir, kind, "*"))
	if err != nil {
		return err
	}
	dirs = slices.DeleteFunc(dirs, func(d string) bool { return strings.Contains(filepath.Base(d), ".") })
	slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(modTime(b), modTime(a)) })
	var errs []error
	for _, dir := range dirs[min(n, len(dirs)):] {
		errs = append(errs, removeUnused(dir))
	}
	return errors.Join(errs...)
}

func modTime(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.ModTime().UnixNano()
}

// removeUnused removes dir unless somebody holds its lock. The lock file stays:
// another lab may be waiting for it.
func removeUnused(dir string) error {
	lock, err := tryLock(dir+".lock", unix.LOCK_EX)
	if err != nil || lock == nil {
		return err
	}
	defer lock.Close()
	return os.RemoveAll(dir)
}

// temp makes a folder for one machine. It removes those whose machines ended
// without doing so.
func (c cache) temp() (*entry, error) {
	runs := filepath.Join(c.dir, "run")
	if err := os.MkdirAll(runs, 0o755); err != nil {
		return nil, fmt.Errorf("make a folder for the machine: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(runs, "*.lock"))
	if err != nil {
		return nil, err
	}
	for _, name := range old {
		lock, err := tryLock(name, unix.LOCK_EX)
		if err != nil {
			return nil, fmt.Errorf("clear the remains of a machine: %w", err)
		}
		if lock == nil {
			continue // it runs
		}
		stale := &entry{strings.TrimSuffix(name, ".lock"), lock}
		if err := stale.remove(); err != nil {
			return nil, fmt.Errorf("clear the remains of a machine: %w", err)
		}
	}
	f, err := os.CreateTemp(runs, "machine*.lock")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the machine: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	e := &entry{strings.TrimSuffix(f.Name(), ".lock"), f}
	return e, os.Mkdir(e.dir, 0o755)
}

// lockFile takes the lock, waiting for it as long as ctx lasts.
func lockFile(ctx context.Context, path string, how int) (*os.File, error) {
	for {
		f, err := tryLock(path, how)
		if f != nil || err != nil {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the lab that holds %s: %w", path, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tryLock returns nil where somebody else holds the lock.
func tryLock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// keyOf returns a short name for what the values and folders hold: the same
// for the same contents, wherever the folders are. An empty folder name stands
// for an empty folder.
func keyOf(value any, folders ...string) (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(value); err != nil {
		return "", err
	}
	for _, dir := range folders {
		fmt.Fprintln(h, "folder")
		if dir == "" {
			continue
		}
		if err := hashTree(h, dir); err != nil {
			return "", fmt.Errorf("read %s: %w", dir, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:32], nil
}

func hashTree(w io.Writer, root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || rel == "." {
			return err // the folder's own mode says nothing
		}
		fmt.Fprintf(w, "%q %v\n", rel, info.Mode())
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			fmt.Fprintf(w, "%q\n", target)
			return err
		case info.Mode().IsRegular():
			return hashFile(w, path)
		}
		return nil
	})
}

func hashFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(w, f)
	fmt.Fprintf(w, "\n%d\n", n)
	return err
}
