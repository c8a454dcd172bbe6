package readiness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
)

// Mappings tells about the mappings that exist. The error is
// devmap.ErrNotMapping for what is none.
type Mappings interface {
	Status(dev event.Dev) (devmap.Mapping, error)
	Named(name string) (devmap.Mapping, error)
}

// kernel asks device-mapper, and sysfs where the rights for that are lacking.
type kernel struct {
	sys sysfs

	mu      sync.Mutex
	control *devmap.Control // nil until dm_mod is loaded
	refused bool            // no right to open it
}

func (k *kernel) open() (*devmap.Control, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.control != nil || k.refused {
		return k.control, nil
	}
	control, err := devmap.Open()
	switch {
	case errors.Is(err, fs.ErrPermission):
		k.refused = true
		return nil, nil
	case errors.Is(err, devmap.ErrNotLoaded):
		return nil, devmap.ErrNotMapping // and so there is none
	case errors.Is(err, devmap.ErrNoNode):
		return nil, nil
	case err != nil:
		return nil, err
	}
	k.control = control
	return control, nil
}

func (k *kernel) close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.control == nil {
		return nil
	}
	return k.control.Close()
}

func (k *kernel) Status(dev event.Dev) (devmap.Mapping, error) {
	control, err := k.open()
	if err != nil {
		return devmap.Mapping{}, err
	}
	if control == nil {
		return k.sys.Status(dev)
	}
	return control.Status(dev)
}

func (k *kernel) Named(name string) (devmap.Mapping, error) {
	control, err := k.open()
	if err != nil {
		return devmap.Mapping{}, err
	}
	if control == nil {
		return k.sys.Named(name)
	}
	return control.Named(name)
}

// sysfs tells what anybody may know: a mapping is live where it has a size and
// is not suspended. It does not tell a mapping that is created from one that
// has a table loaded, nor whether its removal is due.
type sysfs struct{ root string }

func (s sysfs) Status(dev event.Dev) (devmap.Mapping, error) {
	return s.read(s.path("dev/block", fmt.Sprintf("%d:%d", dev.Major, dev.Minor)))
}

func (s sysfs) Named(name string) (devmap.Mapping, error) {
	dirs, err := filepath.Glob(s.path("block/dm-*"))
	if err != nil {
		return devmap.Mapping{}, err
	}
	for _, dir := range dirs {
		if m, err := s.read(dir); err == nil && m.Name == name {
			return m, nil
		}
	}
	return devmap.Mapping{}, devmap.ErrNotMapping
}

func (s sysfs) path(elements ...string) string {
	return filepath.Join(append([]string{s.root, "sys"}, elements...)...)
}

func (s sysfs) read(dir string) (m devmap.Mapping, err error) {
	if m.Name, err = attribute(dir, "dm/name"); errors.Is(err, fs.ErrNotExist) {
		return m, devmap.ErrNotMapping
	}
	if err != nil {
		return m, err
	}
	text := map[string]string{"dm/uuid": "", "dm/suspended": "", "size": "", "dev": ""}
	for name := range text {
		if text[name], err = attribute(dir, name); err != nil {
			return m, err
		}
	}
	m.UUID = text["dm/uuid"]
	if _, err := fmt.Sscanf(text["dev"], "%d:%d", &m.Dev.Major, &m.Dev.Minor); err != nil {
		return m, fmt.Errorf("read %s/dev: %w", dir, err)
	}
	sectors, err := strconv.ParseInt(text["size"], 10, 64)
	if err != nil {
		return m, fmt.Errorf("read %s/size: %w", dir, err)
	}
	if sectors > 0 {
		m.Size, m.Flags = sectors*devmap.SectorSize, devmap.FlagActive
	}
	if text["dm/suspended"] != "0" {
		m.Flags |= devmap.FlagSuspend
	}
	return m, nil
}

func attribute(dir, name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	return strings.TrimSuffix(string(data), "\n"), err
}

// size returns the size of a block device in bytes.
func (s sysfs) size(dev event.Dev) (int64, error) {
	text, err := attribute(s.path("dev/block", fmt.Sprintf("%d:%d", dev.Major, dev.Minor)), "size")
	if err != nil {
		return 0, err
	}
	sectors, err := strconv.ParseInt(text, 10, 54)
	if err != nil {
		return 0, fmt.Errorf("size of device %d:%d: %w", dev.Major, dev.Minor, err)
	}
	return sectors * devmap.SectorSize, nil
}

// isOther reports whether dev is a block device that exists and can be no
// mapping. The number alone says so: between two looks a mapping can come.
func (s sysfs) isOther(dev event.Dev) bool {
	if major, err := s.mappingsMajor(); err != nil || major == dev.Major {
		return false
	}
	_, err := os.Stat(s.path("dev/block", fmt.Sprintf("%d:%d", dev.Major, dev.Minor)))
	return err == nil
}

// mappingsMajor returns device-mapper's major number, which the kernel chooses
// when it is loaded; 0 where it is not.
func (s sysfs) mappingsMajor() (uint32, error) {
	data, err := os.ReadFile(filepath.Join(s.root, "proc/devices"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if number, found := strings.CutSuffix(strings.TrimSpace(line), " device-mapper"); found {
			major, err := strconv.ParseUint(number, 10, 32)
			return uint32(major), err
		}
	}
	return 0, nil
}
