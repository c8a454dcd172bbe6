package devmap

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

var (
	// ErrNotLoaded says that this kernel has no device-mapper now, and so no
	// mapping either.
	ErrNotLoaded = errors.New("device-mapper is not loaded (modprobe dm_mod loads it)")
	// ErrNoNode says that device-mapper is there but its control node is not.
	ErrNoNode = errors.New("device-mapper is loaded, but /dev/mapper/control does not exist " +
		"(devtmpfs, systemd-tmpfiles or `dmsetup mknodes` makes it)")
	// ErrNotMapping says that a device is no mapping, or no longer one.
	ErrNotMapping = errors.New("no device-mapper device")
)

const controlPath = "/dev/mapper/control"

// Control is device-mapper's control node. Its methods may be called at the
// same time.
type Control struct {
	file *os.File
	call func(cmd uintptr, buf []byte) error
}

// Open opens the control node. It does not make it, and does not open a node
// that nothing answers yet: opening would load the module, and a tool that
// watches must not change what it watches. Without the rights, the error is
// fs.ErrPermission.
func Open() (*Control, error) {
	if noModule() {
		return nil, ErrNotLoaded
	}
	loaded, err := registered("/proc/misc")
	if err != nil {
		return nil, fmt.Errorf("find out whether device-mapper is loaded: %w", err)
	}
	if !loaded {
		return nil, ErrNotLoaded
	}
	file, err := os.OpenFile(controlPath, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNoNode
	}
	if err != nil {
		return nil, fmt.Errorf("open device-mapper's control node (needs root): %w", err)
	}
	c := &Control{file: file}
	c.call = c.ioctl
	return c, nil
}

// registered looks for device-mapper among the misc devices. The static node
// of a module that is not loaded exists too (kmod static-nodes).
func registered(misc string) (bool, error) {
	file, err := os.Open(misc)
	if err != nil {
		return false, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) == 2 && fields[1] == "device-mapper" {
			return true, nil
		}
	}
	return false, lines.Err()
}

// Close closes the control node.
func (c *Control) Close() error { return c.file.Close() }

func (c *Control) ioctl(cmd uintptr, buf []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, c.file.Fd(), ioctlNumber(cmd), uintptr(unsafe.Pointer(&buf[0])))
	runtime.KeepAlive(c.file)
	if errno != 0 {
		return errno
	}
	return nil
}

// Version returns the version of the kernel's device-mapper interface, such as
// 4.47.0.
func (c *Control) Version() (major, minor, patch int, err error) {
	buf := newRequest(headerSize, 0, event.Dev{})
	if err := c.call(cmdVersion, buf); err != nil {
		return 0, 0, 0, fmt.Errorf("ask device-mapper for its version: %w", err)
	}
	v := func(i int) int { return int(binary.NativeEndian.Uint32(buf[offVersion+4*i:])) }
	return v(0), v(1), v(2), nil
}

// Status returns the mapping behind dev without its table; Size stays 0. The
// error is ErrNotMapping where dev is another kind of device or gone.
func (c *Control) Status(dev event.Dev) (Mapping, error) {
	if dev.IsZero() {
		return Mapping{}, fmt.Errorf("status of device 0:0: %w", ErrNotMapping)
	}
	buf := newRequest(headerSize, FlagSkipBdget|FlagNoFlush, dev)
	if err := c.call(cmdDevStatus, buf); err != nil {
		return Mapping{}, statusError("status", dev, err)
	}
	return parseHeader(buf)
}

// Named is Status by the mapping's name.
func (c *Control) Named(name string) (Mapping, error) {
	return c.statusBy("mapping", offName, nameLen, name)
}

// WithUUID is Status by the mapping's uuid, which it keeps where it is renamed.
func (c *Control) WithUUID(uuid string) (Mapping, error) {
	return c.statusBy("mapping with the uuid", offUUID, uuidFieldLen, uuid)
}

// statusBy asks for the mapping whose header has that text in a field of size bytes.
func (c *Control) statusBy(what string, offset, size int, text string) (Mapping, error) {
	if text == "" || len(text) >= size {
		return Mapping{}, fmt.Errorf("status of %s %q: %w", what, text, ErrNotMapping)
	}
	buf := newRequest(headerSize, FlagSkipBdget|FlagNoFlush, event.Dev{})
	copy(buf[offset:offset+size], text)
	err := c.call(cmdDevStatus, buf)
	if errors.Is(err, unix.ENXIO) {
		err = ErrNotMapping
	}
	if err != nil {
		return Mapping{}, fmt.Errorf("status of %s %q: %w", what, text, err)
	}
	return parseHeader(buf)
}

// Get returns the mapping behind dev with its live table and size.
func (c *Control) Get(dev event.Dev) (Mapping, error) {
	buf, err := c.answer(cmdTableStatus, FlagStatusTable|FlagSkipBdget|FlagNoFlush|FlagSecureData, dev)
	if err != nil {
		return Mapping{}, statusError("table", dev, err)
	}
	defer clear(buf) // it may hold a key
	m, err := parseHeader(buf)
	if err != nil {
		return Mapping{}, statusError("table", dev, err)
	}
	if m.Flags&FlagActive == 0 {
		return m, nil
	}
	if m.Targets, err = parseTable(buf); err != nil {
		return Mapping{}, statusError("table", dev, err)
	}
	m.Size = tableSize(m.Targets)
	return m, nil
}

// Deps returns the devices that the live table of dev stands on, without an
// order.
func (c *Control) Deps(dev event.Dev) ([]event.Dev, error) {
	buf, err := c.answer(cmdTableDeps, FlagSkipBdget, dev)
	if err != nil {
		return nil, statusError("dependencies", dev, err)
	}
	deps, err := parseDeps(buf)
	if err != nil {
		return nil, statusError("dependencies", dev, err)
	}
	return deps, nil
}

// List returns all mappings with their tables. One that vanishes meanwhile is
// left out. A mapping that is suspended is asked like any other: none of the
// requests waits for I/O.
func (c *Control) List(ctx context.Context) ([]Mapping, error) {
	buf, err := c.answer(cmdListDevices, 0, event.Dev{})
	if err != nil {
		return nil, fmt.Errorf("list device-mapper devices: %w", err)
	}
	names, err := parseNames(buf)
	if err != nil {
		return nil, fmt.Errorf("list device-mapper devices: %w", err)
	}
	list := make([]Mapping, 0, len(names))
	for _, entry := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, err := c.Get(entry.Dev)
		if errors.Is(err, ErrNotMapping) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// answer makes a request with a growing buffer until the answer fits in.
func (c *Control) answer(cmd uintptr, flags Flags, dev event.Dev) ([]byte, error) {
	for size := firstAnswerSize; size <= maxAnswer; size *= 4 {
		buf := newRequest(size, flags, dev)
		if err := c.call(cmd, buf); err != nil {
			return nil, err
		}
		if answerFlags(buf)&FlagBufferFull == 0 {
			return buf, nil
		}
		clear(buf)
	}
	return nil, fmt.Errorf("answer is larger than %d bytes", maxAnswer)
}

// statusError says which device was asked. ENXIO is the kernel's answer for
// every device that is no mapping.
func statusError(what string, dev event.Dev, err error) error {
	if errors.Is(err, unix.ENXIO) {
		err = ErrNotMapping
	}
	return fmt.Errorf("device-mapper %s of %s: %w", what, devString(dev), err)
}
