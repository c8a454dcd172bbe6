package readiness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/mounts"
	"github.com/bootrace/bootrace/tracer/udev"
	"github.com/bootrace/bootrace/tracer/view"
)

const (
	major      = 253 // of mappings
	otherMajor = 8
)

// world is a host made up: links, nodes and files, mounts, devices, udev's
// database, and the events that come when they change.
type world struct {
	mu       sync.Mutex
	now      func() event.Time
	noUdev   bool
	links    map[string]string // path to target, absolute
	nodes    map[string]view.Place
	data     map[event.Dev][]byte
	mappings map[event.Dev]devmap.Mapping
	disks    map[event.Dev]event.DevInfo
	records  map[event.Dev]*udev.Record
	mounted  []mounts.Mounted
	plans    []string
	seq      uint64
	queue    []event.Event // announced, and not yet read

	tracker *Tracker
	emit    sync.Mutex
}

func newWorld() *world {
	h := &world{
		now:   event.Now,
		links: map[string]string{}, nodes: map[string]view.Place{}, data: map[event.Dev][]byte{},
		mappings: map[event.Dev]devmap.Mapping{}, disks: map[event.Dev]event.DevInfo{}, records: map[event.Dev]*udev.Record{},
		mounted: []mounts.Mounted{{Point: "/", FSType: "ext4"}},
	}
	h.tracker = newTracker(Options{Recheck: time.Hour}, h)
	h.tracker.uevents = h
	return h
}

// newHost is a world in which there are a disk and a file.
func newHost(testing.TB) *world {
	h := newWorld()
	h.disk("sda", event.Dev{Major: otherMajor}, map[string]string{blockdev.AttrSize: "1048576"})
	h.records[event.Dev{Major: otherMajor}] = &udev.Record{Initialized: 1}
	h.nodes["/srv/image"] = view.Place{}
	return h
}

// disk makes a device that is no mapping, and its node.
func (h *world) disk(name string, dev event.Dev, attrs map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.disks[dev] = event.DevInfo{Subsystem: "block", Name: name, Dev: &dev, Attrs: attrs}
	h.nodes["/dev/"+name] = view.Place{Mode: os.ModeDevice, Dev: dev}
}

func (h *world) Now() event.Time { return h.now() }

func (h *world) Device(dev event.Dev) (event.DevInfo, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d, ok := h.disks[dev]; ok {
		d.Attrs = maps.Clone(d.Attrs)
		return d, nil
	}
	if _, ok := h.mappings[dev]; ok {
		return event.DevInfo{Name: mappingName(dev), Dev: &dev, Attrs: map[string]string{blockdev.AttrSize: "1048576"}}, nil
	}
	return event.DevInfo{}, fs.ErrNotExist
}

func (h *world) Record(dev event.Dev) (*udev.Record, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.records[dev], nil
}

func (h *world) UdevRuns() bool { return !h.noUdev }

func (h *world) Planned() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.plans
}

func (h *world) Mounts() (list []mounts.Mounted, announced bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.mounted), true, nil
}

// Run, CatchUp and Close stand for udev.Source.
func (h *world) Run(ctx context.Context, _ func(event.Event)) error { <-ctx.Done(); return nil }
func (h *world) FollowStores(bool) error                            { return nil }
func (h *world) Close() error                                       { return nil }
func (h *world) CatchUp(context.Context) error {
	h.emit.Lock()
	defer h.emit.Unlock()
	h.mu.Lock()
	queue := h.queue
	h.queue = nil
	h.mu.Unlock()
	for _, e := range queue {
		h.tracker.observe(e)
	}
	return nil
}

func (h *world) Status(dev event.Dev) (devmap.Mapping, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, ok := h.mappings[dev]
	if !ok {
		return m, devmap.ErrNotMapping
	}
	return m, nil
}

func (h *world) Named(name string) (devmap.Mapping, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.mappings {
		if m.Name == name {
			return m, nil
		}
	}
	return devmap.Mapping{}, devmap.ErrNotMapping
}

func (h *world) Walk(path string) (view.Place, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var links []event.WayLink
	for at := path; ; {
		if target, ok := h.links[at]; ok {
			if links = append(links, event.WayLink{Path: at, Target: target}); len(links) > view.MaxLinks {
				return view.Place{Links: links}, errors.New("too many levels of symbolic links")
			}
			at = target
			continue
		}
		p, ok := h.nodes[at]
		p.Links, p.Node = links, at
		if !ok {
			return p, fmt.Errorf("walk %s: %w", at, fs.ErrNotExist)
		}
		return p, nil
	}
}

func (h *world) Open(path string, found *view.Place) (image.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return file{bytes.NewReader(h.data[found.Dev])}, nil
}

type file struct{ *bytes.Reader }

func (file) Close() error { return nil }

func node(minor uint32) string      { return fmt.Sprintf("/dev/dm-%d", minor) }
func number(minor uint32) event.Dev { return event.Dev{Major: major, Minor: minor} }

// announce queues a uevent, or udev's event with a sequence number.
func (h *world) announce(kind event.Kind, action string, minor uint32, seq uint64, props map[string]string, links ...string) uint64 {
	h.mu.Lock()
	if seq == 0 {
		h.seq++
		seq = h.seq
	}
	dev := number(minor)
	h.queue = append(h.queue, event.Event{Kind: kind, Dev: &event.DevInfo{
		Action: action, Name: fmt.Sprintf("dm-%d", minor), Dev: &dev, Seq: seq, Props: props, Links: links}})
	h.mu.Unlock()
	return seq
}

// deliver has the queue read, as udev.Source does by itself.
func (h *world) deliver() { h.CatchUp(context.Background()) }

// set makes a mapping with these flags, and its node.
func (h *world) set(minor uint32, name string, flags devmap.Flags) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mappings[number(minor)] = devmap.Mapping{Name: name, UUID: uuidOf(name), Dev: number(minor), Flags: flags}
	h.nodes[node(minor)] = view.Place{Mode: os.ModeDevice, Dev: number(minor)}
}

func uuidOf(name string) string { return "LVM-" + name }

func (h *world) unset(minor uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.mappings, number(minor))
	delete(h.nodes, node(minor))
}

func (h *world) link(path, target string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.links[path] = target; target == "" {
		delete(h.links, path)
	}
}

// properties are what udev says about a mapping that it made ready.
func properties(name string) map[string]string {
	return map[string]string{
		"DM_NAME": name, "DM_UUID": uuidOf(name), "DM_UDEV_RULES_VSN": "2", "DM_ACTIVATION": "1", "SYSTEMD_READY": "1",
	}
}

// record writes udev's record of a mapping.
func (h *world) record(minor uint32, props map[string]string, links ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records[number(minor)] = &udev.Record{Initialized: 1000, Props: maps.Clone(props), Links: links}
}

func (h *world) unrecord(minor uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.records, number(minor))
}

// activate does what lvchange and udev do, up to udev's event.
func (h *world) activate(minor uint32, name, path string) {
	h.set(minor, name, devmap.FlagActive)
	h.announce(event.Uevent, "add", minor, 0, nil)
	seq := h.announce(event.Uevent, "change", minor, 0, nil)
	h.link(path, node(minor))
	h.record(minor, properties(name), path)
	h.announce(event.Udev, "change", minor, seq, properties(name), path)
}

// deactivate does the reverse.
func (h *world) deactivate(minor uint32, name, path string) {
	h.unset(minor)
	seq := h.announce(event.Uevent, "remove", minor, 0, nil)
	h.link(path, "")
	h.unrecord(minor)
	h.announce(event.Udev, "remove", minor, seq, properties(name), path)
}
