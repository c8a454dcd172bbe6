package devmap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// Step is one symbolic link that was followed.
type Step struct {
	Path   string // of the link
	Target string // what it holds, as it stands there
}

// Resolution is the way from a path to the mapping behind it, as far as it
// went.
type Resolution struct {
	Path  string // as it was asked for
	Links []Step // in the order they were followed
	// Node is the path that no link was left in, whether it exists or not.
	Node string
	// Mode is the node's file type and permissions; Dev is set where that is a
	// device.
	Mode os.FileMode
	Dev  event.Dev
	// Mapping is nil where the node is no mapping.
	Mapping *Mapping
}

// IsBlock reports whether the path led to a block device's node.
func (r *Resolution) IsBlock() bool {
	return r.Mode&os.ModeDevice != 0 && r.Mode&os.ModeCharDevice == 0
}

// Ready reports whether the path leads to a mapping whose table answers now.
func (r *Resolution) Ready() bool {
	return r.IsBlock() && r.Mapping != nil && Ready(r.Mapping.Flags, r.Mapping.Dev, r.Dev)
}

// Resolve follows path to the mapping behind it, without its table. The result
// holds the steps up to an error, too: errors.Is(err, fs.ErrNotExist) with
// links in it is a link that leads nowhere yet.
func (c *Control) Resolve(path string) (Resolution, error) {
	return Resolve("/", path, c.Status)
}

// Resolve is Control's Resolve below another root directory, in which absolute
// links stay, and with another source of mappings: status returns
// ErrNotMapping for a device that is none.
func Resolve(root, path string, status func(event.Dev) (Mapping, error)) (Resolution, error) {
	r := Resolution{Path: path}
	if err := r.follow(root); err != nil {
		return r, fmt.Errorf("resolve %s: %w", path, err)
	}
	if err := r.stat(root); err != nil {
		return r, fmt.Errorf("resolve %s: %w", path, err)
	}
	if !r.IsBlock() {
		return r, nil
	}
	m, err := status(r.Dev)
	if errors.Is(err, ErrNotMapping) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("resolve %s: %w", path, err)
	}
	r.Mapping = &m
	return r, nil
}

// maxLinks is the kernel's own limit (MAXSYMLINKS, include/linux/namei.h).
const maxLinks = 40

// follow walks the path's elements as the kernel does, ".." after a link
// included.
func (r *Resolution) follow(root string) error {
	if !filepath.IsAbs(r.Path) {
		return errors.New("path is not absolute")
	}
	at, left := "/", strings.Split(r.Path, "/")
	for len(left) > 0 {
		name := left[0]
		left = left[1:]
		if name == "" || name == "." {
			continue
		}
		next := filepath.Join(at, name) // Clean takes ".." up, and "/.." is "/"
		target, err := os.Readlink(filepath.Join(root, next))
		if errors.Is(err, unix.EINVAL) { // no link
			at = next
			continue
		}
		if err != nil {
			r.Node = filepath.Join(append([]string{next}, left...)...)
			return err
		}
		if len(r.Links) == maxLinks {
			return unix.ELOOP
		}
		r.Links = append(r.Links, Step{Path: next, Target: target})
		left = append(strings.Split(target, "/"), left...)
		if filepath.IsAbs(target) {
			at = "/"
		}
	}
	r.Node = at
	return nil
}

func (r *Resolution) stat(root string) error {
	info, err := os.Lstat(filepath.Join(root, r.Node))
	if err != nil {
		return err
	}
	r.Mode = info.Mode()
	if raw, ok := info.Sys().(*syscall.Stat_t); ok && r.Mode&os.ModeDevice != 0 {
		r.Dev = decodeDev(raw.Rdev)
	}
	return nil
}
