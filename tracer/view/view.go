// Package view is the file system as one process sees it: in its mount
// namespace, below its root directory. The paths on a guest's command line mean
// something only there.
//
// A view is safe to use on behalf of a stranger. Paths are walked from descriptor
// to descriptor, and no link is left to the kernel: a link in that namespace,
// which its owner chooses, never leads out of it, even while it is being
// changed. openat2 with RESOLVE_IN_ROOT would do the same on kernels from 5.6
// on, but does not tell which links it followed. Nothing is opened on the way
// but with O_PATH, so no device and no file notices; a folder on a file system
// whose server is down can keep a walk waiting all the same.
package view

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// Place is where a path led.
type Place struct {
	// Links are the symbolic links on the way, in order. When one of them
	// changes, the way can change.
	Links []event.WayLink
	// Node is the path in which no link is left, whether it exists or not.
	Node string
	// Missing is the first element of Node that is not there, as an absolute
	// path; empty where the way did not end so.
	Missing string
	// Mode is the type of what is there: of a device, a folder, a file (0), or
	// something else (os.ModeIrregular).
	Mode os.FileMode
	// Dev is a block device's number.
	Dev   event.Dev
	Inode uint64
	Size  int64 // bytes, of a file
	// FSDev is the st_dev of the deepest folder on the way, and MountID the
	// number of the mount that this folder is on, as in mountinfo; 0 where it was
	// not asked for (see Survey), and before Linux 3.15.
	FSDev   event.Dev
	Folder  string // that folder
	MountID int
}

// Block reports whether the path led to a block device.
func (p *Place) Block() bool {
	return p.Mode&os.ModeDevice != 0 && p.Mode&os.ModeCharDevice == 0
}

// View is the file system through the root directory of a process.
type View struct {
	root int
	dev  event.Dev // of the root directory
}

// Of returns the view of process pid, of this one for 0.
func Of(pid int) (*View, error) {
	root := "/"
	if pid != 0 {
		root = fmt.Sprintf("/proc/%d/root", pid)
	}
	return Open(root)
}

// Open returns the view below the folder root.
func Open(root string) (*View, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	v := &View{root: fd}
	var at Place
	if v.dev, err = at.stat(fd); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "stat", Path: root, Err: err}
	}
	return v, nil
}

// Close gives up the view.
func (v *View) Close() error { return unix.Close(v.root) }

// Walk follows an absolute path. The Place holds the way up to an error, too;
// fs.ErrNotExist is one.
func (v *View) Walk(name string) (Place, error) {
	w := walker{view: v}
	defer w.closeAll()
	err := w.follow(name)
	return w.place, err
}

// Survey is Walk that also finds out on which mount the path ended.
func (v *View) Survey(name string) (Place, error) {
	w := walker{view: v}
	defer w.closeAll()
	err := w.follow(name)
	w.place.MountID = mountID(w.top())
	return w.place, err
}

// mountID returns which mount an open file is on, 0 where the kernel does not
// tell (fdinfo's mnt_id, Linux 3.15).
func mountID(fd int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id, _ := strconv.Atoi(strings.TrimSpace(text)) // 0 if it is no number
			return id
		}
	}
	return 0
}

// Open takes hold of the node without opening it, compares it with what was
// found, and then opens that very file for reading: nothing put in its place is
// ever opened. O_NONBLOCK keeps the open from waiting for a medium.
func (v *View) Open(name string, found *Place) (*os.File, error) {
	w := walker{view: v}
	defer w.closeAll()
	if err := w.follow(name); err != nil {
		return nil, err
	}
	held, err := unix.Openat(w.top(), path.Base(w.place.Node), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(held)
	var at Place
	if _, err := at.stat(held); err != nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if at.Mode != found.Mode || at.Dev != found.Dev {
		return nil, &os.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", held), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), w.place.Node), nil
}

// MaxLinks is the kernel's own limit (MAXSYMLINKS, include/linux/namei.h).
const MaxLinks = 40

// walker is one walk along a path.
type walker struct {
	view  *View
	dirs  []folder // entered so far, without the root
	place Place
}

type folder struct {
	fd   int
	path string
	dev  event.Dev // st_dev
}

func (w *walker) top() int {
	if n := len(w.dirs); n > 0 {
		return w.dirs[n-1].fd
	}
	return w.view.root
}

func (w *walker) at() string {
	if n := len(w.dirs); n > 0 {
		return w.dirs[n-1].path
	}
	return "/"
}

func (w *walker) leave() {
	if n := len(w.dirs); n > 0 {
		unix.Close(w.dirs[n-1].fd)
		w.dirs = w.dirs[:n-1]
	}
}

func (w *walker) closeAll() {
	for len(w.dirs) > 0 {
		w.leave()
	}
}

func (w *walker) follow(name string) error {
	defer w.settle()
	if !path.IsAbs(name) {
		return &os.PathError{Op: "walk", Path: name, Err: syscall.EINVAL}
	}
	left := strings.Split(name, "/")
	for len(left) > 0 {
		element := left[0]
		left = left[1:]
		switch element {
		case "", ".":
			continue
		case "..":
			w.leave()
			continue
		}
		target, err := w.step(element)
		if err != nil {
			at := w.at()
			if w.place.Node != "" {
				at = w.place.Node // a file in the place of a folder
			}
			w.place.Mode, w.place.Dev, w.place.Inode, w.place.Size = 0, event.Dev{}, 0, 0
			if errors.Is(err, fs.ErrNotExist) {
				w.place.Missing = filepath.Join(at, element)
			}
			w.place.Node = filepath.Join(append([]string{at, element}, left...)...)
			return &os.PathError{Op: "walk", Path: w.place.Node, Err: err}
		}
		if target == "" {
			continue
		}
		if path.IsAbs(target) {
			w.closeAll()
		}
		left = append(strings.Split(target, "/"), left...)
	}
	if w.place.Node == "" {
		w.place.Node, w.place.Mode = w.at(), os.ModeDir
	}
	return nil
}

// settle notes the deepest folder.
func (w *walker) settle() {
	w.place.Folder, w.place.FSDev = w.at(), w.view.dev
	if n := len(w.dirs); n > 0 {
		w.place.FSDev = w.dirs[n-1].dev
	}
}

// step goes to one element of the path; a link is not followed, but its target
// returned.
func (w *walker) step(element string) (target string, err error) {
	if w.place.Node != "" {
		return "", syscall.ENOTDIR // something was the end of the way, and it goes on
	}
	fd, err := unix.Openat(w.top(), element, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	here := filepath.Join(w.at(), element)
	var at Place
	dev, err := at.stat(fd)
	if err != nil {
		unix.Close(fd)
		return "", err
	}
	switch {
	case at.Mode.IsDir():
		w.dirs = append(w.dirs, folder{fd, here, dev})
		return "", nil
	case at.Mode&os.ModeSymlink != 0:
		defer unix.Close(fd)
		if len(w.place.Links) == MaxLinks {
			return "", syscall.ELOOP
		}
		target, err := readLink(fd)
		w.place.Links = append(w.place.Links, event.WayLink{Path: here, Target: target})
		return target, err
	}
	unix.Close(fd)
	w.place.Node, w.place.Mode, w.place.Dev, w.place.Inode, w.place.Size = here, at.Mode, at.Dev, at.Inode, at.Size
	return "", nil
}

// stat fills in what fd holds, and returns its st_dev.
func (p *Place) stat(fd int) (event.Dev, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return event.Dev{}, err
	}
	p.Inode = stat.Ino
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		p.Mode, p.Dev = os.ModeDevice, number(stat.Rdev)
	case unix.S_IFDIR:
		p.Mode = os.ModeDir
	case unix.S_IFLNK:
		p.Mode = os.ModeSymlink
	case unix.S_IFREG:
		p.Mode, p.Size = 0, stat.Size
	default:
		p.Mode = os.ModeIrregular
	}
	return number(stat.Dev), nil
}

func number(dev uint64) event.Dev { return event.Dev{Major: unix.Major(dev), Minor: unix.Minor(dev)} }

// readLink reads the link that fd is (Linux 2.6.39).
func readLink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", syscall.ENOENT
	}
	return string(buf[:n]), nil
}
