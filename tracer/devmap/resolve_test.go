package devmap

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// tree makes a /dev as udev does, with character nodes' stead in regular files
// where the test may not make nodes.
func tree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"dev/mapper", "dev/vg-data", "dev/disk/by-id", "srv"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"dev/mapper/vg--data-web--01": "../dm-0",
		"dev/vg-data/web-01":          "../dm-0",
		"dev/vg-data/late":            "../dm-9",
		"dev/byid":                    "disk/by-id",
		"dev/disk/by-id/abs":          "/dev/vg-data/web-01",
		"dev/loop1":                   "loop2",
		"dev/loop2":                   "loop1",
		"srv/up":                      "../../../../dev/file",
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "dev/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

func noMapping(event.Dev) (Mapping, error) { return Mapping{}, ErrNotMapping }

func TestResolveSteps(t *testing.T) {
	root := tree(t)
	for _, tc := range []struct {
		path  string
		links []Step
		node  string
		err   error
	}{
		{path: "/dev/file", node: "/dev/file"},
		{path: "/srv/up", links: []Step{{"/srv/up", "../../../../dev/file"}}, node: "/dev/file"},
		{path: "/dev/vg-data/late", links: []Step{{"/dev/vg-data/late", "../dm-9"}}, node: "/dev/dm-9", err: fs.ErrNotExist},
		{path: "/dev/byid/abs", links: []Step{
			{"/dev/byid", "disk/by-id"}, {"/dev/disk/by-id/abs", "/dev/vg-data/web-01"}, {"/dev/vg-data/web-01", "../dm-0"},
		}, node: "/dev/dm-0", err: fs.ErrNotExist},
		{path: "/dev/gone/lv", node: "/dev/gone/lv", err: fs.ErrNotExist},
		{path: "/dev/loop1", err: unix.ELOOP},
	} {
		r, err := Resolve(root, tc.path, noMapping)
		if !errors.Is(err, tc.err) {
			t.Errorf("%s: error %v, want %v", tc.path, err, tc.err)
		}
		if errors.Is(tc.err, unix.ELOOP) {
			continue
		}
		if diff := cmp.Diff(tc.links, r.Links); diff != "" {
			t.Errorf("%s: links: %s", tc.path, diff)
		}
		if r.Node != tc.node {
			t.Errorf("%s: node %s, want %s", tc.path, r.Node, tc.node)
		}
		if r.Ready() {
			t.Errorf("%s: ready without a mapping", tc.path)
		}
	}
	if _, err := Resolve(root, "dev/file", noMapping); err == nil {
		t.Error("a relative path was resolved")
	}
}

func TestResolveMapping(t *testing.T) {
	root := tree(t)
	want := event.Dev{Major: 254, Minor: 0}
	node := filepath.Join(root, "dev/dm-0")
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(want.Major, want.Minor))); err != nil {
		t.Skipf("make a block device node: %v", err)
	}
	live := func(dev event.Dev) (Mapping, error) {
		return Mapping{Name: "vg--data-web--01", Dev: dev, Flags: FlagActive}, nil
	}
	r, err := Resolve(root, "/dev/vg-data/web-01", live)
	if err != nil {
		t.Fatal(err)
	}
	if r.Dev != want || !r.IsBlock() || !r.Ready() {
		t.Errorf("got %+v", r)
	}
	stale := func(event.Dev) (Mapping, error) {
		return Mapping{Dev: event.Dev{Major: 254, Minor: 7}, Flags: FlagActive}, nil
	}
	if r, _ = Resolve(root, "/dev/vg-data/web-01", stale); r.Ready() {
		t.Error("ready although the mapping is another device")
	}
	if r, err = Resolve(root, "/dev/vg-data/web-01", noMapping); err != nil || r.Mapping != nil {
		t.Errorf("a device that is no mapping: %+v, %v", r.Mapping, err)
	}
}
