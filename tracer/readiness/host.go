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
	"time"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/mounts"
	"github.com/bootrace/bootrace/tracer/udev"
)

// Mappings tells about the mappings that exist. The error is
// devmap.ErrNotMapping for what is none.
type Mappings interface {
	Status(dev event.Dev) (devmap.Mapping, error)
	Named(name string) (devmap.Mapping, error)
}

// host is what a Tracker asks about the host.
type host interface {
	Mappings
	// Device returns what the kernel tells of a device, with its attributes. The
	// error is fs.ErrNotExist where there is none, blockdev.ErrBusy where it can't
	// be told now.
	Device(dev event.Dev) (event.DevInfo, error)
	// Record returns udev's record of a device, nil if it has none.
	Record(dev event.Dev) (*udev.Record, error)
	// UdevRuns reports whether there is anybody to wait for.
	UdevRuns() bool
	// Planned returns the points of the mounts that the host is set up to make.
	Planned() []string
	Now() event.Time
}

// local is the host that this program runs on.
type local struct {
	kernel
	// attributes may be used by one at a time; nil where there is no sysfs.
	attributes *blockdev.Sysfs
	reading    sync.Mutex

	planning sync.Mutex
	plans    []string
	planned  time.Time // when plans were read
}

func newLocal() *local {
	h := &local{kernel: kernel{sys: sysfs{"/"}}}
	h.attributes, _ = blockdev.OpenSysfs("/") // Device says that there is none
	return h
}

func (h *local) close() error {
	err := h.kernel.close()
	if h.attributes != nil {
		err = errors.Join(err, h.attributes.Close())
	}
	return err
}

func (h *local) Now() event.Time { return event.Now() }

func (h *local) Device(dev event.Dev) (event.DevInfo, error) {
	if h.attributes == nil {
		return event.DevInfo{}, errors.New("there is no sysfs to ask about devices")
	}
	h.reading.Lock()
	defer h.reading.Unlock()
	return h.attributes.Device(dev)
}

func (h *local) Record(dev event.Dev) (*udev.Record, error) { return udev.ReadRecord("/", dev) }

func (h *local) UdevRuns() bool {
	_, err := os.Stat("/run/udev/control")
	return err == nil
}

// plansAge is how long what the host is set up to mount is taken to stay so.
const plansAge = 5 * time.Second

func (h *local) Planned() []string {
	h.planning.Lock()
	defer h.planning.Unlock()
	if h.planned.IsZero() || time.Since(h.planned) > plansAge {
		h.plans, h.planned = mounts.Planned("/"), time.Now()
	}
	return h.plans
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
