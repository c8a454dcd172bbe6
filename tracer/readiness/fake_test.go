package readiness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/view"
)

const (
	major      = 253 // of mappings
	otherMajor = 8
)

// host is a host made up: links and nodes, mappings, udev's database, and the
// events that come when they change.
type host struct {
	t    testing.TB
	root string

	mu       sync.Mutex
	links    map[string]string // path to target, absolute
	nodes    map[string]view.Place
	data     map[event.Dev][]byte
	mappings map[event.Dev]devmap.Mapping
	seq      uint64
	queue    []event.Event // announced, and not yet read

	tracker *Tracker
	emit    sync.Mutex
}

func newHost(t testing.TB) *host {
	h := &host{
		t: t, root: t.TempDir(),
		links: map[string]string{}, nodes: map[string]view.Place{}, data: map[event.Dev][]byte{}, mappings: map[event.Dev]devmap.Mapping{},
	}
	h.write("run/udev/control", "")
	h.write("proc/devices", "Character devices:\n  1 mem\n\nBlock devices:\n  8 sd\n253 device-mapper\n")
	h.write("sys/dev/block/8:0/size", "2048\n")
	h.nodes["/dev/sda"] = view.Place{Mode: os.ModeDevice, Dev: event.Dev{Major: otherMajor}}
	h.nodes["/srv/image"] = view.Place{}
	h.tracker = newTracker(h.root, Options{Recheck: time.Hour}, h)
	h.tracker.uevents = h
	return h
}

func (h *host) write(name, text string) {
	h.t.Helper()
	path := filepath.Join(h.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// Run, CatchUp and Close stand for udev.Source.
func (h *host) Run(ctx context.Context, _ func(event.Event)) error { <-ctx.Done(); return nil }
func (h *host) FollowStores(bool) error                            { return nil }
func (h *host) Close() error                                       { return nil }
func (h *host) CatchUp(context.Context) error {
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

func (h *host) Status(dev event.Dev) (devmap.Mapping, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, ok := h.mappings[dev]
	if !ok {
		return m, devmap.ErrNotMapping
	}
	return m, nil
}

func (h *host) Named(name string) (devmap.Mapping, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.mappings {
		if m.Name == name {
			return m, nil
		}
	}
	return devmap.Mapping{}, devmap.ErrNotMapping
}

func (h *host) Walk(path string) (view.Place, error) {
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

func (h *host) Open(path string, found *view.Place) (image.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return file{bytes.NewReader(h.data[found.Dev])}, nil
}

type file struct{ *bytes.Reader }

func (file) Close() error { return nil }

func node(minor uint32) string      { return fmt.Sprintf("/dev/dm-%d", minor) }
func number(minor uint32) event.Dev { return event.Dev{Major: major, Minor: minor} }

// announce queues a uevent, or udev's event with a sequence number.
func (h *host) announce(kind event.Kind, action string, minor uint32, seq uint64, props map[string]string, links ...string) uint64 {
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
func (h *host) deliver() { h.CatchUp(context.Background()) }

// set makes a mapping with these flags, and its node.
func (h *host) set(minor uint32, name string, flags devmap.Flags) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mappings[number(minor)] = devmap.Mapping{Name: name, UUID: uuidOf(name), Dev: number(minor), Flags: flags}
	h.nodes[node(minor)] = view.Place{Mode: os.ModeDevice, Dev: number(minor)}
	h.write(fmt.Sprintf("sys/dev/block/%d:%d/size", major, minor), "2048\n")
}

func uuidOf(name string) string { return "LVM-" + name }

func (h *host) unset(minor uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.mappings, number(minor))
	delete(h.nodes, node(minor))
}

func (h *host) link(path, target string) {
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
func (h *host) record(minor uint32, props map[string]string, links ...string) {
	var b strings.Builder
	for _, l := range links {
		fmt.Fprintf(&b, "S:%s\n", strings.TrimPrefix(l, "/dev/"))
	}
	b.WriteString("I:1000\n")
	for k, v := range props {
		fmt.Fprintf(&b, "E:%s=%s\n", k, v)
	}
	h.write(fmt.Sprintf("run/udev/data/b%d:%d", major, minor), b.String())
}

func (h *host) unrecord(minor uint32) {
	os.Remove(filepath.Join(h.root, fmt.Sprintf("run/udev/data/b%d:%d", major, minor)))
}

// activate does what lvchange and udev do, up to udev's event.
func (h *host) activate(minor uint32, name, path string) {
	h.set(minor, name, devmap.FlagActive)
	h.announce(event.Uevent, "add", minor, 0, nil)
	seq := h.announce(event.Uevent, "change", minor, 0, nil)
	h.link(path, node(minor))
	h.record(minor, properties(name), path)
	h.announce(event.Udev, "change", minor, seq, properties(name), path)
}

// deactivate does the reverse.
func (h *host) deactivate(minor uint32, name, path string) {
	h.unset(minor)
	seq := h.announce(event.Uevent, "remove", minor, 0, nil)
	h.link(path, "")
	h.unrecord(minor)
	h.announce(event.Udev, "remove", minor, seq, properties(name), path)
}
