package udev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// database is where udev keeps its records, one file a device.
const database = "run/udev/data"

// stores notices when udev stores a device's record. It does that after the
// rules have run and the links are made, and before it runs the programs that
// the rules named and sends its event (udev_event_execute_rules, then
// udev_event_execute_run, systemd src/udev). On a host that activates volumes
// those programs take most of the time: each tells LVM that udev is done.
type stores struct {
	root string
	fd   int    // inotify
	buf  []byte // read's

	mu     sync.Mutex
	wanted bool
	wd     int // -1: the folder is not watched
}

func openStores(root string) (*stores, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch udev's database: %w", err)
	}
	buf := make([]byte, 64*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	return &stores{root: root, fd: fd, buf: buf, wd: -1}, nil
}

func (s *stores) close() error { return unix.Close(s.fd) }

// want begins or ends the watching: udev stores records of everything, and
// every one wakes the reader.
func (s *stores) want(on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = on
	if !on && s.wd >= 0 {
		// Its failure means that the folder is gone, and the watch with it.
		_, _ = unix.InotifyRmWatch(s.fd, uint32(s.wd))
		s.wd = -1
	}
	return s.add()
}

// add watches the folder, as soon as udev has made it. udev writes a record
// under another name and renames it.
func (s *stores) add() error {
	if !s.wanted || s.wd >= 0 {
		return nil
	}
	dir := filepath.Join(s.root, database)
	wd, err := unix.InotifyAddWatch(s.fd, dir, unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	s.wd = wd
	return nil
}

// read returns the block devices whose records were stored since the last
// call. What does not fit into the kernel's queue is left out: udev's event
// comes all the same. One goroutine at a time may call it.
func (s *stores) read() ([]event.Dev, error) {
	s.mu.Lock()
	err := s.add()
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var devs []event.Dev
	for {
		n, err := unix.Read(s.fd, s.buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return devs, nil
		case err != nil:
			return devs, fmt.Errorf("read changes of udev's database: %w", err)
		}
		devs = append(devs, s.parse(s.buf[:n])...)
	}
}

func (s *stores) parse(buf []byte) []event.Dev {
	var devs []event.Dev
	for len(buf) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(buf[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[12:]))
		if end > len(buf) {
			break
		}
		name, _, _ := bytes.Cut(buf[unix.SizeofInotifyEvent:end], []byte{0})
		if dev, ok := recordOf(string(name)); ok && mask&unix.IN_MOVED_TO != 0 {
			devs = append(devs, dev)
		}
		buf = buf[end:]
	}
	return devs
}

// recordOf returns the block device that a record is about, by its name:
// b253:0.
func recordOf(name string) (event.Dev, bool) {
	numbers, ok := strings.CutPrefix(name, "b")
	if !ok {
		return event.Dev{}, false
	}
	first, second, _ := strings.Cut(numbers, ":")
	major, err1 := strconv.ParseUint(first, 10, 32)
	minor, err2 := strconv.ParseUint(second, 10, 32)
	return event.Dev{Major: uint32(major), Minor: uint32(minor)}, err1 == nil && err2 == nil
}
