package roster

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/memory"
)

// host is a host with volumes in one group: /dev/vg/NAME. A volume's bytes are
// a qcow2 header with that backing file, or nothing.
type host struct {
	mu      sync.Mutex
	volumes map[string]*volume
	disks   map[string]event.DevInfo // /dev/NAME, which are no mappings
	files   map[string]memory.File   // by path
	hang    chan struct{}            // reads wait for it, if it is not nil
}

type volume struct {
	minor   uint32
	size    int64
	backing string
}

func (h *host) set(name string, v *volume) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.volumes[name] = v
}

func (h *host) mapping(v *volume, name string) devmap.Mapping {
	return devmap.Mapping{
		Name: "vg-" + name, UUID: "LVM-" + strings.Repeat("v", 32) + (name + strings.Repeat("0", 32))[:32],
		Dev: event.Dev{Major: 253, Minor: v.minor}, Size: v.size, Flags: devmap.FlagActive,
		Targets: []devmap.Target{{Length: uint64(v.size / 512), Type: "linear", Params: "8:16 0"}},
	}
}

func (h *host) Resolve(path string) (devmap.Resolution, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := filepath.Base(path)
	v := h.volumes[name]
	if d, ok := h.disks[name]; ok {
		return devmap.Resolution{Path: path, Node: path, Mode: os.ModeDevice, Dev: *d.Dev}, nil
	}
	if _, ok := h.files[path]; ok {
		return devmap.Resolution{Path: path, Node: path}, nil
	}
	if v == nil {
		return devmap.Resolution{Path: path, Node: path}, fs.ErrNotExist
	}
	m := h.mapping(v, name)
	return devmap.Resolution{Path: path, Node: fmt.Sprintf("/dev/dm-%d", v.minor), Mode: os.ModeDevice, Dev: m.Dev, Mapping: &m}, nil
}

func (h *host) Get(dev event.Dev) (devmap.Mapping, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, v := range h.volumes {
		if v.minor == dev.Minor && dev.Major == 253 {
			return h.mapping(v, name), nil
		}
	}
	return devmap.Mapping{}, devmap.ErrNotMapping
}

func (h *host) Device(dev event.Dev) (event.DevInfo, error) {
	for _, d := range h.disks {
		if *d.Dev == dev {
			return d, nil
		}
	}
	return event.DevInfo{}, fs.ErrNotExist
}

func (h *host) File(path string) (memory.File, error) {
	f, ok := h.files[path]
	if !ok {
		return f, fs.ErrNotExist
	}
	return f, nil
}

func (h *host) Status(dev event.Dev) (devmap.Mapping, error) { return h.Get(dev) }

func (h *host) Size(dev event.Dev) (int64, error) {
	m, err := h.Get(dev)
	return m.Size, err
}

func (h *host) Open(r *devmap.Resolution) (image.File, error) {
	if h.hang != nil {
		<-h.hang
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	v, name := h.volumes[filepath.Base(r.Path)], ""
	if v != nil {
		name = v.backing
	}
	if name == "" {
		return file{bytes.NewReader(make([]byte, 512))}, nil
	}
	raw := make([]byte, 512)
	copy(raw, "QFI\xfb\x00\x00\x00\x02")
	raw[15], raw[19], raw[23] = 0x80, byte(len(name)), 16
	copy(raw[0x80:], name)
	return file{bytes.NewReader(append(raw, make([]byte, 1<<16)...))}, nil
}

type file struct{ *bytes.Reader }

func (file) Close() error { return nil }

// rig runs a Roster on such a host, in a bubble with a clock of its own.
type rig struct {
	*Roster
	host *host
	mu   sync.Mutex
	told []string
	uid  uint32 // who runs guests
	held map[int][]event.OpenInfo
	ways map[string]event.WayInfo // by path; with no node there is nobody to look
	hold chan struct{}            // looks wait for it, if it is not nil
	eyes int                      // looks so far
	open []memory.HeldFile        // by each guest
}

func run(t *testing.T, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{host: &host{volumes: map[string]*volume{
			"a": {minor: 1, size: 1 << 20}, "over": {minor: 2, size: 1 << 20, backing: "/dev/vg/base"}, "base": {minor: 3, size: 1 << 20},
		}}, held: map[int][]event.OpenInfo{}, ways: map[string]event.WayInfo{}}
		r.Roster = New(Options{
			Memory: memory.NewStore("now"), Record: r.record, Log: slog.New(slog.DiscardHandler),
			Host: r.host, Held: r.holds, Files: func(int) ([]memory.HeldFile, error) { return r.open, nil }, Dir: func(int) string { return "/" }, Ways: r.sights,
		})
		ctx, stop := context.WithCancel(context.Background())
		go r.Run(ctx)
		f(t, r)
		stop()
		synctest.Wait()
	})
}

func (r *rig) record(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Loss != nil {
		line := "loss " + e.Loss.What + ": " + e.Loss.Why
		if e.Loss.UID != 0 {
			line += fmt.Sprintf(" (user %d)", e.Loss.UID)
		}
		r.told = append(r.told, line)
		return
	}
	line := fmt.Sprintf("%s %d", e.Kind, e.Proc.PID)
	if e.Image != nil {
		for _, m := range e.Image.Members {
			line += fmt.Sprintf(" %s=%s", m.Path, m.State)
		}
	}
	if e.Memory != nil {
		line += " " + e.Memory.Boot
	}
	if e.Way != nil {
		line += fmt.Sprintf(" %s -> %s %s", e.Way.Path, e.Way.Node, syscall.Errno(e.Way.Errno))
	}
	if e.Proc.UID != 0 {
		line += fmt.Sprintf(" (user %d)", e.Proc.UID)
	}
	r.told = append(r.told, line)
}

// sights stands for LookAt.
func (r *rig) sights(_ []int, paths map[string]string) (list []Sight) {
	r.mu.Lock()
	hold := r.hold
	r.eyes++
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		if w, ok := r.ways[paths[name]]; ok {
			w.Path = name
			list = append(list, Sight{From: 1, At: 2, Way: w})
		}
	}
	r.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return list
}

func (r *rig) way(path string, w event.WayInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ways[path] = w
}

func (r *rig) failed(pid int, path string) {
	r.Observe(&event.Event{Kind: event.Open, Proc: &event.Proc{PID: pid}, Open: &event.OpenInfo{Path: path, Errno: 2}})
	synctest.Wait()
}

func (r *rig) holds(pid int) ([]event.OpenInfo, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held[pid] == nil {
		return nil, fs.ErrNotExist
	}
	return r.held[pid], nil
}

func (r *rig) exec(pid int, args string, minors ...uint32) {
	r.mu.Lock()
	for _, minor := range minors {
		r.held[pid] = append(r.held[pid], event.OpenInfo{Path: fmt.Sprintf("/dev/dm-%d", minor), Dev: &event.Dev{Major: 253, Minor: minor}})
	}
	r.mu.Unlock()
	r.Observe(&event.Event{Kind: event.Exec, Proc: &event.Proc{PID: pid, UID: r.uid}, Exec: &event.ExecInfo{Args: strings.Fields("qemu-system-x86_64 " + args)}})
	synctest.Wait()
}

func (r *rig) exit(pid, status int) {
	r.Observe(&event.Event{Kind: event.Exit, Proc: &event.Proc{PID: pid}, Exit: &event.ExitInfo{Status: status}})
	synctest.Wait()
}

func (r *rig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// known is what the next boot would know of a guest, by paths.
func (r *rig) known(t *testing.T, dir, guest string) []string {
	t.Helper()
	next := memory.NewStore("next")
	if err := next.Open(dir); err != nil {
		t.Fatal(err)
	}
	var paths []string
	if m := next.Last(guest); m != nil {
		for _, d := range m.Disks {
			paths = append(paths, d.Path+"<"+d.BackingOf)
		}
	}
	return paths
}

func TestRemember(t *testing.T) {
	for name, tc := range map[string]struct {
		live func(r *rig)
		want []string
	}{
		"it lived": {func(r *rig) { r.after(time.Minute) }, []string{"/dev/vg/over<", "/dev/vg/base</dev/vg/over"}},
		"it failed soon": {func(r *rig) {
			r.after(5 * time.Second)
			r.exit(10, 1)
			r.after(time.Minute)
		}, nil},
		"it ended well": {func(r *rig) {
			r.after(5 * time.Second)
			r.exit(10, 0)
			r.after(time.Minute)
		}, []string{"/dev/vg/over<", "/dev/vg/base</dev/vg/over"}},
		"it ended at once": {func(r *rig) { r.exit(10, 0); r.after(time.Minute) }, nil},
		"its child goes on": {func(r *rig) {
			r.mu.Lock()
			r.held[11] = r.held[10]
			r.mu.Unlock()
			r.Observe(&event.Event{Kind: event.Fork, Proc: &event.Proc{PID: 11, PPID: 10}})
			r.exit(10, 1)
			r.after(time.Minute)
		}, []string{"/dev/vg/over<", "/dev/vg/base</dev/vg/over"}},
		"stopped early": {func(r *rig) { r.after(20 * time.Second) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			run(t, func(t *testing.T, r *rig) {
				r.Opened(dir)
				r.exec(10, "-name vm -hda /dev/vg/over -hdb /dev/vg/absent", 2, 3)
				tc.live(r)
				if diff := cmp.Diff(tc.want, r.known(t, dir, "name:vm")); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// A disk that grows while the guest runs is remembered with its new size.
func TestRememberResize(t *testing.T) {
	dir := t.TempDir()
	run(t, func(t *testing.T, r *rig) {
		r.Opened(dir)
		r.exec(10, "-name vm -hda /dev/vg/a", 1)
		r.after(time.Minute)
		r.host.set("a", &volume{minor: 1, size: 2 << 20})
		r.Observe(&event.Event{Kind: event.DMResume})
		r.after(time.Minute)
	})
	next := memory.NewStore("next")
	if err := next.Open(dir); err != nil {
		t.Fatal(err)
	}
	if m := next.Last("name:vm"); m == nil || m.Disks[0].Size != 2<<20 || m.Disks[0].Table[0] != "0 4096 linear 8:16 0" {
		t.Errorf("got %+v", m)
	}
}

// Disks that are no mappings are remembered by what identifies them, and files by
// where they lie; a file that the guest was moved to while it ran, too.
func TestRememberOthers(t *testing.T) {
	dir := t.TempDir()
	sdb, nbd := event.Dev{Major: 8, Minor: 16}, event.Dev{Major: 43}
	run(t, func(t *testing.T, r *rig) {
		r.host.disks = map[string]event.DevInfo{
			"sdb":  {Name: "sdb", Dev: &sdb, Props: map[string]string{"ID_WWN": "0x5"}, Attrs: map[string]string{"size": "4096"}},
			"nbd0": {Name: "nbd0", Dev: &nbd, Attrs: map[string]string{"size": "512"}},
			"sr0":  {Name: "sr0", Dev: &event.Dev{Major: 11}},
		}
		at := event.Dev{Minor: 40}
		r.host.files = map[string]memory.File{
			"/srv/a.raw":   {FS: "fs1", Mount: "/srv", Dev: at, Inode: 7, Size: 1 << 20},
			"/srv/b.qcow2": {FS: "fs1", Mount: "/srv", Dev: at, Inode: 8, Size: 1 << 20},
			"/srv/c.qcow2": {FS: "fs1", Mount: "/srv", Dev: at, Inode: 9},
			"/srv/d.qcow2": {FS: "fs1", Mount: "/srv", Dev: at, Inode: 10},
		}
		for inode, flags := range map[uint64]uint32{7: unix.O_RDWR, 8: unix.O_RDWR, 10: unix.O_RDWR, 11: unix.O_WRONLY} {
			path := map[uint64]string{10: "/srv/d.qcow2", 11: "/var/log/a.log"}[inode]
			r.open = append(r.open, memory.HeldFile{Path: path, Dev: at, Inode: inode, Flags: flags})
		}
		r.held[10] = []event.OpenInfo{{Path: "/dev/sdb", Dev: &sdb}, {Path: "/dev/nbd0", Dev: &nbd}, {Path: "/dev/sr0", Dev: &event.Dev{Major: 11}}}
		r.Opened(dir)
		r.exec(10, "-name vm -drive file=/dev/sdb,format=raw -drive file=/dev/nbd0,format=raw -drive file=/srv/a.raw,format=raw -drive file=/srv/b.qcow2,format=qcow2 -drive file=/srv/c.qcow2,format=qcow2")
		r.after(time.Minute)
	})
	next := memory.NewStore("next")
	if err := next.Open(dir); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range next.Last("name:vm").Disks {
		got = append(got, fmt.Sprintf("%s %s %s %q %s %d %d", d.Path, d.DeviceKind, d.Name, d.UUID, d.Mount, d.Inode, d.Size))
	}
	want := []string{
		`/dev/sdb scsi sdb "wwn:0x5"  0 4096`, `/dev/nbd0 nbd nbd0 ""  0 512`,
		`/srv/a.raw file  "fs1" /srv 7 1048576`, `/srv/b.qcow2 file  "fs1" /srv 8 0`, `/srv/d.qcow2 file  "fs1" /srv 10 0`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A chain is told as far as it is there, and again when there is more of it.
func TestChains(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.host.set("base", nil)
		delete(r.host.volumes, "base")
		r.exec(10, "-name vm -hda /dev/vg/over -drive file=/dev/vg/a,format=raw", 2)
		r.after(time.Second)
		want := []string{"image 10 /dev/vg/over=read /dev/vg/base=absent"}
		if diff := cmp.Diff(want, r.told); diff != "" {
			t.Error(diff)
		}
		r.host.set("base", &volume{minor: 3, size: 1})
		r.after(time.Hour) // nothing happened, so nothing is looked at
		if diff := cmp.Diff(want, r.told); diff != "" {
			t.Error(diff)
		}
		for range 1000 {
			r.Observe(&event.Event{Kind: event.Udev})
		}
		r.after(time.Second)
		if diff := cmp.Diff(append(want, "image 10 /dev/vg/over=read /dev/vg/base=plain"), r.told); diff != "" {
			t.Error(diff)
		}
		if n := r.pending.Load(); n != 0 {
			t.Errorf("%d chains are waited for", n)
		}
	})
}

// Guests start before the state folder is there: what they last ran on is told
// once it is, of those that ended meanwhile, too.
func TestRecall(t *testing.T) {
	dir := t.TempDir()
	before := memory.NewStore("before")
	if err := before.Open(dir); err != nil {
		t.Fatal(err)
	}
	for _, guest := range []string{"name:early", "name:gone", "name:late"} {
		before.Remember(guest, "", []event.MemoryDisk{{Path: "/dev/vg/a", Name: "vg-a"}})
	}
	if err := before.Save(); err != nil {
		t.Fatal(err)
	}
	run(t, func(t *testing.T, r *rig) {
		r.exec(10, "-name early -drive file=/dev/vg/a,format=raw", 1)
		r.exec(11, "-name gone -drive file=/dev/vg/a,format=raw", 1)
		r.exit(11, 1)
		if len(r.told) != 0 {
			t.Errorf("told %q", r.told)
		}
		r.Opened(dir)
		synctest.Wait()
		r.exec(12, "-name late -drive file=/dev/vg/a,format=raw", 1)
		r.exec(13, "-name unknown -drive file=/dev/vg/a,format=raw", 1)
		if diff := cmp.Diff([]string{"memory 10 before", "memory 11 before", "memory 12 before"}, r.told); diff != "" {
			t.Error(diff)
		}
	})
}

// Storage that hangs keeps nobody waiting: not the record, not the end.
func TestHang(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.host.hang = make(chan struct{})
		for pid := range 2 * workers {
			r.exec(100+pid, fmt.Sprintf("-name vm%d -hda /dev/vg/over", pid), 2)
		}
		r.after(time.Hour)
		for range 10 * backlog {
			r.Observe(&event.Event{Kind: event.Exit, Proc: &event.Proc{PID: 1}, Exit: &event.ExitInfo{}})
		}
		synctest.Wait()
		close(r.host.hang)
		r.after(time.Minute)
		slices.Sort(r.told)
		if len(r.told) != 2*workers {
			t.Errorf("told %q", r.told)
		}
	})
}

func TestNotGuests(t *testing.T) {
	run(t, func(t *testing.T, r *rig) {
		r.exec(10, "-machine none -qmp stdio")
		r.exec(11, "-device virtio-net-pci,help")
		r.exit(11, 0)
		r.exit(99, 0)
		r.after(time.Hour)
		if len(r.guests) != 0 || len(r.told) != 0 {
			t.Errorf("%v, told %q", r.guests, r.told)
		}
	})
}
