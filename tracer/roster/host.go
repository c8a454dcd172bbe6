package roster

import (
	"fmt"
	"os"
	"sync"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/memory"
)

// NewHost returns this host.
func NewHost() Host { return &localHost{} }

// localHost is this host. device-mapper may be loaded later than the service
// starts.
type localHost struct {
	memory.Local
	mu      sync.Mutex
	control *devmap.Control
}

// mappings returns the control node, nil while there is none.
func (h *localHost) mappings() *devmap.Control {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.control == nil {
		h.control, _ = devmap.Open() // without it there is no mapping
	}
	return h.control
}

func (h *localHost) local() image.LocalHost { return image.LocalHost{Mappings: h.mappings()} }

func (h *localHost) Resolve(path string) (devmap.Resolution, error) { return h.local().Resolve(path) }
func (h *localHost) Size(dev event.Dev) (int64, error)              { return h.local().Size(dev) }
func (h *localHost) Open(r *devmap.Resolution) (image.File, error)  { return h.local().Open(r) }

func (h *localHost) Get(dev event.Dev) (devmap.Mapping, error) {
	if c := h.mappings(); c != nil {
		return c.Get(dev)
	}
	return devmap.Mapping{}, devmap.ErrNotMapping
}

func (h *localHost) Status(dev event.Dev) (devmap.Mapping, error) {
	if c := h.mappings(); c != nil {
		return c.Status(dev)
	}
	return devmap.Mapping{}, devmap.ErrNotMapping
}

// WorkingDir returns the working directory of a process, empty where it is not to be
// had.
func WorkingDir(pid int) string {
	dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return dir
}
