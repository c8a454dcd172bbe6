package readiness

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/image"
)

// place is where a path led.
type place struct {
	// links are the symbolic links on the way, in order; the paths that, when
	// they change, can change the way.
	links []string
	// node is the path in which no link is left, whether it exists or not.
	node string
	// mode is the node's type, dev its number where it is a block device.
	mode os.FileMode
	dev  event.Dev
}

func (p *place) block() bool {
	return p.mode&os.ModeDevice != 0 && p.mode&os.ModeCharDevice == 0
}

// view is the file system as one mount namespace has it.
type view interface {
	// walk follows a path. The place holds the way up to an error, too.
	walk(path string) (place, error)
	// open opens what a path was found to lead to for reading, and nothing
	// else: where another thing is there by now, it fails.
	open(path string, found *place) (image.File, error)
	close() error
}

// namespace is a view through the root directory of a process. Paths are
// walked from descriptor to descriptor, and no link is left to the kernel: a
// link in that namespace, which its owner chooses, never leads out of it, even
// while it is being changed. openat2 with RESOLVE_IN_ROOT would do the same on
// kernels from 5.6 on, but does not tell which links it followed.
type namespace struct{ root int }

// viewOf returns the view of process pid, of this one for 0.
func viewOf(pid int) (*namespace, error) {
	root := "/"
	if pid != 0 {
		root = fmt.Sprintf("/proc/%d/root", pid)
	}
	return openView(root)
}

func openView(root string) (*namespace, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	return &namespace{fd}, nil
}

func (n *namespace) close() error { return unix.Close(n.root) }

func (n *namespace) walk(name string) (place, error) {
	w := walker{root: n.root}
	defer w.closeAll()
	err := w.follow(name)
	return w.place, err
}

// open takes hold of the node without opening it, compares it with what was
// found, and then opens that very file: nothing put in its place is ever
// opened. O_NONBLOCK keeps the open from waiting for a medium.
func (n *namespace) open(name string, found *place) (image.File, error) {
	w := walker{root: n.root}
	defer w.closeAll()
	if err := w.follow(name); err != nil {
		return nil, err
	}
	held, err := unix.Openat(w.top(), path.Base(w.place.node), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(held)
	var at place
	if err := at.stat(held); err != nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if at.mode != found.mode || at.dev != found.dev {
		return nil, &os.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", held), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), w.place.node), nil
}

// maxLinks is the kernel's own limit (MAXSYMLINKS, include/linux/namei.h).
const maxLinks = 40

// walker is one walk along a path.
type walker struct {
	root  int
	dirs  []folder // entered so far, without the root
	place place
}

type folder struct {
	fd   int
	path string
}

func (w *walker) top() int {
	if n := len(w.dirs); n > 0 {
		return w.dirs[n-1].fd
	}
	return w.root
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
			if w.place.node != "" {
				at = w.place.node // a file in the place of a folder
			}
			w.place.mode, w.place.dev = 0, event.Dev{}
			w.place.node = filepath.Join(append([]string{at, element}, left...)...)
			return &os.PathError{Op: "walk", Path: w.place.node, Err: err}
		}
		if target == "" {
			continue
		}
		if path.IsAbs(target) {
			w.closeAll()
		}
		left = append(strings.Split(target, "/"), left...)
	}
	if w.place.node == "" {
		w.place.node = w.at()
	}
	return nil
}

// step goes to one element of the path; a link is not followed, but its target
// returned.
func (w *walker) step(element string) (target string, err error) {
	if w.place.node != "" {
		return "", syscall.ENOTDIR // something was the end of the way, and it goes on
	}
	fd, err := unix.Openat(w.top(), element, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	here := filepath.Join(w.at(), element)
	var at place
	if err := at.stat(fd); err != nil {
		unix.Close(fd)
		return "", err
	}
	switch {
	case at.mode.IsDir():
		w.dirs = append(w.dirs, folder{fd, here})
		return "", nil
	case at.mode&os.ModeSymlink != 0:
		defer unix.Close(fd)
		if len(w.place.links) == maxLinks {
			return "", syscall.ELOOP
		}
		w.place.links = append(w.place.links, here)
		return readLink(fd)
	}
	unix.Close(fd)
	w.place.node, w.place.mode, w.place.dev = here, at.mode, at.dev
	return "", nil
}

// stat fills in the type of the file that fd holds.
func (p *place) stat(fd int) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		p.mode = os.ModeDevice
		p.dev = event.Dev{Major: unix.Major(stat.Rdev), Minor: unix.Minor(stat.Rdev)}
	case unix.S_IFDIR:
		p.mode = os.ModeDir
	case unix.S_IFLNK:
		p.mode = os.ModeSymlink
	case unix.S_IFREG:
		p.mode = 0
	default:
		p.mode = os.ModeIrregular
	}
	return nil
}

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
