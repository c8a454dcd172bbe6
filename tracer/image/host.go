package image

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
)

// LocalHost is the host that this program runs on.
type LocalHost struct {
	// Mappings may be nil, on a host without device-mapper or for a user who
	// may not ask it: then nothing is known to be a mapping.
	Mappings *devmap.Control
}

// Resolve implements Host.
func (h LocalHost) Resolve(path string) (devmap.Resolution, error) {
	if h.Mappings == nil {
		return devmap.Resolve("/", path, func(event.Dev) (devmap.Mapping, error) {
			return devmap.Mapping{}, devmap.ErrNotMapping
		})
	}
	return h.Mappings.Resolve(path)
}

// Size implements Host. It goes by sysfs, which needs no open: to open a device
// is to hold it for a moment, and its removal fails in that moment.
func (h LocalHost) Size(dev event.Dev) (int64, error) {
	name := filepath.Join("/sys/dev/block", fmt.Sprintf("%d:%d", dev.Major, dev.Minor), "size")
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, fmt.Errorf("size of the device: %w", err)
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 54)
	if err != nil {
		return 0, fmt.Errorf("size of the device in %s: %w", name, err)
	}
	return sectors * devmap.SectorSize, nil
}

// Open implements Host. It takes hold of the node without opening it (O_PATH),
// compares it with what was resolved, and only then opens that very file, so
// that nothing put in its place is ever opened. O_NONBLOCK keeps an open from
// waiting for a medium, O_NOATIME a file from being changed by a look at it. The
// probes see neither open: to them, the first open of a mapping stays that of
// somebody else.
func (h LocalHost) Open(r *devmap.Resolution) (File, error) {
	held, err := unix.Open(r.Node, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: r.Node, Err: err}
	}
	defer unix.Close(held)
	if err := same(held, r); err != nil {
		return nil, err
	}
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC
	itself := fmt.Sprintf("/proc/self/fd/%d", held)
	if r.Mode.IsRegular() {
		if fd, err := unix.Open(itself, flags|unix.O_NOATIME, 0); err == nil {
			return os.NewFile(uintptr(fd), r.Node), nil
		} // only root and the owner may
	}
	fd, err := unix.Open(itself, flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: r.Node, Err: err}
	}
	return os.NewFile(uintptr(fd), r.Node), nil
}

// same fails where the file that is held is not the one that was resolved.
func same(held int, r *devmap.Resolution) error {
	var st unix.Stat_t
	if err := unix.Fstat(held, &st); err != nil {
		return &os.PathError{Op: "stat", Path: r.Node, Err: err}
	}
	dev := event.Dev{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFBLK && r.IsBlock() && dev == r.Dev:
	case kind == unix.S_IFREG && r.Mode.IsRegular():
	default:
		return fmt.Errorf("open %s: another file has taken its place", r.Node)
	}
	return nil
}
