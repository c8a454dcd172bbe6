package image

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// node is what a path of a fakeHost leads to.
type node struct {
	dev   uint32 // minor number
	plain bool   // a block device that is no mapping
	mode  os.FileMode
	flags devmap.Flags
	data  []byte
	err   error
}

// live is a mapping with these bytes in it.
func live(minor uint32, data []byte) *node {
	return &node{dev: minor, flags: devmap.FlagActive, data: data}
}

// fakeHost notes what is opened.
type fakeHost struct {
	nodes  map[string]*node
	opened []string
}

func (h *fakeHost) Resolve(path string) (devmap.Resolution, error) {
	r := devmap.Resolution{Path: path, Node: path}
	n := h.nodes[path]
	switch {
	case !filepath.IsAbs(path):
		return r, fmt.Errorf("resolve %s: path is not absolute", path)
	case n == nil:
		return r, fmt.Errorf("resolve %s: %w", path, fs.ErrNotExist)
	case n.err != nil:
		return r, n.err
	}
	r.Mode = n.mode
	if n.dev == 0 {
		return r, nil
	}
	r.Mode, r.Dev = os.ModeDevice, event.Dev{Major: 253, Minor: n.dev}
	r.Node = fmt.Sprintf("/dev/dm-%d", n.dev)
	if !n.plain {
		r.Mapping = &devmap.Mapping{Name: "vg-" + filepath.Base(path), Dev: r.Dev, Flags: n.flags}
	}
	return r, nil
}

func (h *fakeHost) Size(dev event.Dev) (int64, error) {
	for _, n := range h.nodes {
		if n.dev == dev.Minor && n.flags&devmap.FlagActive == 0 && !n.plain {
			return 0, nil
		}
	}
	return 1 << 20, nil
}

func (h *fakeHost) Open(r *devmap.Resolution) (File, error) {
	h.opened = append(h.opened, r.Path)
	return memory{bytes.NewReader(h.nodes[r.Path].data)}, nil
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

func overlay(backing, format string) []byte {
	q := qcow2{version: 3, bits: 16, backing: backing}
	if format != "" {
		q.extensions = []extension{{kind: extensionBacking, data: format}}
	}
	return q.image()
}

// describe writes a chain a line a member.
func describe(c *Chain) []string {
	var lines []string
	for _, m := range c.Members {
		line := fmt.Sprintf("%s %s %q", m.Role, m.State, m.Path)
		if m.Format != "" {
			line += " " + m.Format
		}
		if m.Over >= 0 {
			line += fmt.Sprintf(" under %d", m.Over)
		}
		lines = append(lines, line)
	}
	return lines
}

func disk(t testing.TB, drive string) *guest.Image {
	t.Helper()
	g := guest.Parse([]string{"qemu-system-x86_64", "-drive", drive})
	if len(g.Disks) != 1 {
		t.Fatalf("%s: %d disks", drive, len(g.Disks))
	}
	return &g.Disks[0].Image
}

func TestFollow(t *testing.T) {
	data := qcow2{version: 3, bits: 16, features: incompatibleData,
		extensions: []extension{{kind: extensionDataFile, data: "/dev/vg/raw"}}}.image()
	relativeData := qcow2{version: 3, bits: 16, features: incompatibleData,
		extensions: []extension{{kind: extensionDataFile, data: "x.raw"}}}.image()
	host := map[string]*node{
		"/dev/vg/disk":    live(1, overlay("/dev/vg/snap", "qcow2")),
		"/dev/vg/snap":    live(2, overlay("cache", "")),
		"/dev/vg/cache":   live(3, overlay("/dev/vg/raw", "raw")),
		"/dev/vg/raw":     live(4, overlay("/dev/vg/never", "qcow2")),
		"/dev/vg/blank":   live(5, nil),
		"/dev/vg/evil":    live(6, overlay("/etc/shadow", "")),
		"/dev/vg/evil2":   live(7, overlay("/dev/sda", "qcow2")),
		"/dev/vg/loop":    live(8, overlay("/dev/vg/loop2", "qcow2")),
		"/dev/vg/loop2":   live(9, overlay("/dev/mapper/vg-loop", "qcow2")),
		"/dev/vg/self":    live(10, overlay("self", "qcow2")),
		"/dev/vg/bad":     live(11, qcow2{version: 9, bits: 16}.image()),
		"/dev/vg/net":     live(12, overlay("nbd://u:pw@host/x", "qcow2")),
		"/dev/vg/json":    live(13, overlay(`json:{"file.driver":"host_device","file.filename":"/dev/vg/raw","driver":"raw"}`, "")),
		"/dev/vg/data":    live(14, data),
		"/dev/vg/reldata": live(15, relativeData),
		"/dev/vg/odd":     live(16, overlay("strange:thing", "")),
		"/dev/vg/ctrl":    live(17, overlay("/dev/vg/\x1b]0;x\a\n", "qcow2")),
		"/dev/vg/late":    live(18, overlay("/dev/vg/absent", "qcow2")),
		"/dev/vg/loaded":  {dev: 19, flags: devmap.FlagInactive},
		"/dev/vg/hung":    {dev: 20, flags: devmap.FlagActive | devmap.FlagSuspend},
		"/dev/vg/luks":    live(21, qcow2{version: 3, bits: 16, crypt: 2}.image()),
		"/dev/vg/offset":  live(22, append(make([]byte, 4096), overlay("/dev/vg/raw", "raw")...)),
		"/dev/vg/graph": live(23, overlay(`json:{"driver":"quorum","children.0.file.filename":"/etc/shadow","children.1":{"driver":"qcow2",`+
			`"file.filename":"/dev/vg/raw","data-file.filename":"/etc/passwd","backing":{"driver":"qcow2","file.filename":"/etc/shadow"}}}`, "")),
		"/etc/passwd":         {mode: 0o600},
		"/dev/mapper/vg-loop": live(8, nil),
		"/dev/sda":            {dev: 30, plain: true, data: overlay("/dev/vg/raw", "raw")},
		"/etc/shadow":         {mode: 0o600},
		"/dev/pipe":           {mode: os.ModeNamedPipe},
		"/srv/image":          {mode: 0o600, data: overlay("base", "qcow2")},
		"/srv/base":           {mode: 0o600},
		"/run/guest/x.raw":    {mode: 0o600},
		"/dev/vg/denied":      {err: fs.ErrPermission},
	}
	for _, tc := range []struct {
		drive string
		want  []string
		// opened are the files whose header was read.
		opened []string
	}{
		{"file=/dev/vg/disk", []string{
			`disk read "/dev/vg/disk" qcow2`, `backing read "/dev/vg/snap" qcow2 under 0`,
			`backing read "/dev/vg/cache" qcow2 under 1`, `backing plain "/dev/vg/raw" raw under 2`,
		}, []string{"/dev/vg/disk", "/dev/vg/snap", "/dev/vg/cache"}},
		{"file=/dev/vg/disk,format=raw", []string{`disk plain "/dev/vg/disk" raw`}, nil},
		{"file=/dev/vg/blank", []string{`disk plain "/dev/vg/blank"`}, []string{"/dev/vg/blank"}},
		{"file=/dev/vg/blank,format=qcow2", []string{`disk unreadable "/dev/vg/blank" qcow2`}, []string{"/dev/vg/blank"}},
		{"file=/dev/vg/evil", []string{`disk read "/dev/vg/evil" qcow2`, `backing refused "/etc/shadow" under 0`}, []string{"/dev/vg/evil"}},
		{"file=/dev/vg/evil2", []string{`disk read "/dev/vg/evil2" qcow2`, `backing refused "/dev/sda" qcow2 under 0`}, []string{"/dev/vg/evil2"}},
		{"file=/dev/vg/graph", []string{
			`disk read "/dev/vg/graph" qcow2`, `backing elsewhere "" quorum under 0`, `member refused "/etc/shadow" under 1`,
			`member read "/dev/vg/raw" qcow2 under 1`, `backing refused "/etc/shadow" qcow2 under 3`, `data plain "/etc/passwd" raw under 3`,
		}, []string{"/dev/vg/graph", "/dev/vg/raw"}},
		{"file=/dev/vg/loop", []string{
			`disk read "/dev/vg/loop" qcow2`, `backing read "/dev/vg/loop2" qcow2 under 0`, `backing loop "/dev/mapper/vg-loop" qcow2 under 1`,
		}, []string{"/dev/vg/loop", "/dev/vg/loop2"}},
		{"file=/dev/vg/self", []string{`disk read "/dev/vg/self" qcow2`, `backing loop "/dev/vg/self" qcow2 under 0`}, []string{"/dev/vg/self"}},
		{"file=/dev/vg/bad", []string{`disk unreadable "/dev/vg/bad"`}, []string{"/dev/vg/bad"}},
		{"file=/dev/vg/net", []string{`disk read "/dev/vg/net" qcow2`, `backing elsewhere "nbd://[redacted]@host/x" qcow2 under 0`}, []string{"/dev/vg/net"}},
		{"file=/dev/vg/json", []string{`disk read "/dev/vg/json" qcow2`, `backing plain "/dev/vg/raw" raw under 0`}, []string{"/dev/vg/json"}},
		{"file=/dev/vg/data", []string{`disk read "/dev/vg/data" qcow2`, `data plain "/dev/vg/raw" raw under 0`}, []string{"/dev/vg/data"}},
		{"file=/dev/vg/reldata", []string{`disk read "/dev/vg/reldata" qcow2`, `data plain "/run/guest/x.raw" raw under 0`}, []string{"/dev/vg/reldata"}},
		{"file=/dev/vg/odd", []string{`disk read "/dev/vg/odd" qcow2`, `backing unreadable "strange:thing" under 0`}, []string{"/dev/vg/odd"}},
		{"file=/dev/vg/ctrl", []string{`disk read "/dev/vg/ctrl" qcow2`, `backing absent "/dev/vg/\x1b]0;x\a\n" qcow2 under 0`}, []string{"/dev/vg/ctrl"}},
		{"file=/dev/vg/absent", []string{`disk absent "/dev/vg/absent"`}, nil},
		{"file=/dev/vg/loaded", []string{`disk not-live "/dev/vg/loaded"`}, nil},
		{"file=/dev/vg/hung", []string{`disk not-live "/dev/vg/hung"`}, nil},
		{"file=/dev/vg/denied", []string{`disk unreadable "/dev/vg/denied"`}, nil},
		{"file=/dev/pipe", []string{`disk refused "/dev/pipe"`}, nil},
		{"file=/dev/vg/luks", []string{`disk read "/dev/vg/luks" qcow2`}, []string{"/dev/vg/luks"}},
		{"file=/dev/sda", []string{`disk read "/dev/sda" qcow2`, `backing plain "/dev/vg/raw" raw under 0`}, []string{"/dev/sda"}},
		{"file=/srv/image", []string{`disk read "/srv/image" qcow2`, `backing refused "/srv/base" qcow2 under 0`}, []string{"/srv/image"}},
		{"file=nbd:host:10809", []string{`disk elsewhere "nbd:host:10809"`}, nil},
		{"file=/dev/vg/disk,backing=", []string{`disk read "/dev/vg/disk" qcow2`}, []string{"/dev/vg/disk"}},
		{"file=/dev/vg/disk,backing.driver=raw,backing.file.driver=host_device,backing.file.filename=/dev/vg/raw", []string{
			`disk read "/dev/vg/disk" qcow2`, `backing plain "/dev/vg/raw" raw under 0`,
		}, []string{"/dev/vg/disk"}},
		{"driver=qcow2,file.driver=raw,file.offset=4096,file.file.driver=host_device,file.file.filename=/dev/vg/offset", []string{
			`disk read "/dev/vg/offset" qcow2`, `backing plain "/dev/vg/raw" raw under 0`,
		}, []string{"/dev/vg/offset"}},
		{"driver=quorum,children.0.file.filename=/dev/vg/raw,children.0.driver=raw,children.1.file.filename=/dev/vg/cache", []string{
			`disk elsewhere "" quorum`, `member plain "/dev/vg/raw" raw under 0`, `member read "/dev/vg/cache" qcow2 under 0`,
			`backing plain "/dev/vg/raw" raw under 2`,
		}, []string{"/dev/vg/cache"}},
		{"file=/" + strings.Repeat("n", 4096), []string{fmt.Sprintf(`disk absent %q`, "/"+strings.Repeat("n", 4096))}, nil},
	} {
		h := &fakeHost{nodes: host}
		c := Reader{Host: h, Dir: "/run/guest"}.Follow(context.Background(), disk(t, tc.drive))
		if diff := cmp.Diff(tc.want, describe(c)); diff != "" {
			t.Errorf("%s: %s", tc.drive, diff)
		}
		if diff := cmp.Diff(tc.opened, h.opened); diff != "" {
			t.Errorf("%s: opened: %s", tc.drive, diff)
		}
		if c.Cut != "" {
			t.Errorf("%s: cut: %s", tc.drive, c.Cut)
		}
	}
}

// A chain is learnt bit by bit, as its devices come up, and nothing is read
// twice.
func TestContinue(t *testing.T) {
	host := map[string]*node{}
	h := &fakeHost{nodes: host}
	r := Reader{Host: h}
	c := r.Follow(context.Background(), disk(t, "file=/dev/vg/disk"))
	for _, step := range []struct {
		path    string
		node    *node
		pending []string
	}{
		{"", nil, []string{"/dev/vg/disk"}},
		{"/dev/vg/disk", &node{dev: 1, flags: devmap.FlagInactive}, []string{"/dev/vg/disk"}},
		{"/dev/vg/disk", live(1, overlay("/dev/vg/snap", "qcow2")), []string{"/dev/vg/snap"}},
		{"/dev/vg/snap", live(2, overlay("/dev/vg/cache", "raw")), []string{"/dev/vg/cache"}},
		{"/dev/vg/cache", live(3, nil), nil},
	} {
		if step.node != nil {
			host[step.path] = step.node
		}
		r.Continue(context.Background(), c)
		var pending []string
		for _, m := range c.Pending() {
			pending = append(pending, m.Path)
		}
		if diff := cmp.Diff(step.pending, pending); diff != "" {
			t.Errorf("with %s: %s", step.path, diff)
		}
		if c.Complete() != (pending == nil) {
			t.Errorf("with %s: complete: %v", step.path, c.Complete())
		}
	}
	if diff := cmp.Diff([]string{"/dev/vg/disk", "/dev/vg/snap"}, h.opened); diff != "" {
		t.Error(diff)
	}
}

func TestFollowBounds(t *testing.T) {
	host := map[string]*node{}
	for n := range uint32(MaxDepth + 10) {
		host[fmt.Sprintf("/dev/vg/%d", n)] = live(n+1, overlay(fmt.Sprint(n+1), "qcow2"))
	}
	h := &fakeHost{nodes: host}
	c := Reader{Host: h}.Follow(context.Background(), disk(t, "file=/dev/vg/0"))
	if len(c.Members) != MaxDepth || c.Cut == "" || c.Complete() || len(h.opened) != MaxDepth {
		t.Errorf("%d members, %d opened, cut: %q", len(c.Members), len(h.opened), c.Cut)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h.opened = nil
	if c := (Reader{Host: h}).Follow(ctx, disk(t, "file=/dev/vg/0")); len(h.opened) != 0 || len(c.Members) != 1 {
		t.Error("goes on although nobody waits any more")
	}
}

// mirrorHost leads every path to a device of its own with the same bytes.
type mirrorHost struct {
	data  []byte
	minor map[string]uint32
	opens int
}

func (h *mirrorHost) Resolve(path string) (devmap.Resolution, error) {
	if h.minor[path] == 0 {
		h.minor[path] = uint32(len(h.minor) + 1)
	}
	dev := event.Dev{Major: 253, Minor: h.minor[path]}
	return devmap.Resolution{
		Path: path, Node: path, Mode: os.ModeDevice, Dev: dev,
		Mapping: &devmap.Mapping{Dev: dev, Flags: devmap.FlagActive},
	}, nil
}

func (*mirrorHost) Size(event.Dev) (int64, error) { return 1, nil }

func (h *mirrorHost) Open(*devmap.Resolution) (File, error) {
	h.opens++
	return memory{bytes.NewReader(h.data)}, nil
}

// FuzzFollow: whatever a header says, a chain is bounded and made of members
// that name each other.
func FuzzFollow(f *testing.F) {
	f.Add(overlay("next", "qcow2"))
	f.Add(overlay("../../..//x", ""))
	f.Add(overlay(`json:{"driver":"quorum","children.0.file.filename":"/a","children.1.file.filename":"/b"}`, ""))
	f.Add(overlay(`json:{"driver":"qcow2","file.filename":"/a","backing":{"driver":"qcow2","file.filename":"/b"}}`, "qcow2"))
	f.Fuzz(func(t *testing.T, in []byte) {
		h := &mirrorHost{data: in, minor: map[string]uint32{}}
		c := Reader{Host: h}.Follow(context.Background(), &guest.Image{Path: "/dev/vg/disk", Storage: guest.StorageFile})
		if len(c.Members) > MaxMembers || h.opens > MaxMembers {
			t.Errorf("%d members, %d opens", len(c.Members), h.opens)
		}
		for i, m := range c.Members {
			if m.Over >= i || m.Over < -1 || m.State == "" {
				t.Errorf("member %d: %+v", i, m)
			}
		}
	})
}
