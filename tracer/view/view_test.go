package view

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
)

// tree makes a root directory with files, folders (a slash at the end) and
// links (name -> target).
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, e := range entries {
		name, target, link := strings.Cut(e, " -> ")
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case link:
			err = os.Symlink(target, path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		default:
			err = os.WriteFile(path, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestWalk(t *testing.T) {
	root := tree(t,
		"dev/dm-0", "dev/vg/web -> ../dm-0", "dev/vg/late -> ../dm-9", "srv/abs -> /dev/vg/web",
		"srv/up -> ../../../../../dev/dm-0", "srv/loop -> loop2", "srv/loop2 -> loop", "srv/dir -> /dev/vg/",
		"srv/out -> /etc/hostname", "dev/ctl\n\x1b -> dm-0",
	)
	v, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, tc := range []struct {
		path  string
		links []string
		node  string
		err   error
	}{
		{path: "/dev/dm-0", node: "/dev/dm-0"},
		{path: "//dev/./vg/../dm-0", node: "/dev/dm-0"},
		{path: "/dev/vg/web", links: []string{"/dev/vg/web"}, node: "/dev/dm-0"},
		{path: "/dev/vg/late", links: []string{"/dev/vg/late"}, node: "/dev/dm-9", err: fs.ErrNotExist},
		{path: "/dev/none/web", node: "/dev/none/web", err: fs.ErrNotExist},
		{path: "/srv/abs", links: []string{"/srv/abs", "/dev/vg/web"}, node: "/dev/dm-0"},
		{path: "/srv/dir/web", links: []string{"/srv/dir", "/dev/vg/web"}, node: "/dev/dm-0"},
		{path: "/srv/up", links: []string{"/srv/up"}, node: "/dev/dm-0"}, // ".." does not leave the root
		{path: "/srv/out", links: []string{"/srv/out"}, node: "/etc/hostname", err: fs.ErrNotExist},
		{path: "/dev/ctl\n\x1b", links: []string{"/dev/ctl\n\x1b"}, node: "/dev/dm-0"},
		{path: "/dev/dm-0/x", node: "/dev/dm-0/x", err: syscall.ENOTDIR},
		{path: "/dev/" + strings.Repeat("n", 300), node: "/dev/" + strings.Repeat("n", 300), err: syscall.ENAMETOOLONG},
		{path: "dev/dm-0", err: syscall.EINVAL},
		{path: "/srv/loop", err: syscall.ELOOP},
	} {
		got, err := v.Walk(tc.path)
		if !errors.Is(err, tc.err) || (tc.err == nil) != (err == nil) {
			t.Errorf("%q: %v, want %v", tc.path, err, tc.err)
		}
		if errors.Is(tc.err, syscall.ELOOP) {
			continue
		}
		var links []string
		for _, l := range got.Links {
			links = append(links, l.Path)
		}
		if diff := cmp.Diff(tc.links, links); diff != "" {
			t.Errorf("%q: links: %s", tc.path, diff)
		}
		if got.Node != tc.node {
			t.Errorf("%q: node %q, want %q", tc.path, got.Node, tc.node)
		}
	}
}

// Where a way ends is told: which element is not there, and in which folder of
// which file system.
func TestSurvey(t *testing.T) {
	root := tree(t, "srv/images/", "srv/a.img", "one/disk.0 -> /srv/images/web/disk.raw", "one/file -> /srv/a.img")
	v, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var stat syscall.Stat_t
	if err := syscall.Stat(filepath.Join(root, "srv/images"), &stat); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Place{
		"/one/disk.0": {
			Links: []event.WayLink{{Path: "/one/disk.0", Target: "/srv/images/web/disk.raw"}},
			Node:  "/srv/images/web/disk.raw", Missing: "/srv/images/web", Folder: "/srv/images",
		},
		"/one/file":   {Links: []event.WayLink{{Path: "/one/file", Target: "/srv/a.img"}}, Node: "/srv/a.img", Folder: "/srv", Size: 9},
		"/srv/images": {Node: "/srv/images", Mode: os.ModeDir, Folder: "/srv/images"},
		"/srv/a.img/": {Node: "/srv/a.img", Folder: "/srv", Size: 9},
		"/none":       {Node: "/none", Missing: "/none", Folder: "/"},
		"/":           {Node: "/", Mode: os.ModeDir, Folder: "/"},
	} {
		got, err := v.Survey(path)
		if (err != nil) != (want.Missing != "") {
			t.Errorf("%s: %v", path, err)
		}
		if got.FSDev != number(stat.Dev) {
			t.Errorf("%s: on %v, want %v", path, got.FSDev, number(stat.Dev))
		}
		if (got.Inode != 0) != (want.Size != 0) || got.MountID == 0 {
			t.Errorf("%s: inode %d on mount %d", path, got.Inode, got.MountID)
		}
		got.Inode, got.MountID, got.FSDev = 0, 0, event.Dev{}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

func TestWalkDevices(t *testing.T) {
	v, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if p, err := v.Walk("/dev/null"); err != nil || p.Block() || p.Mode.IsRegular() {
		t.Errorf("/dev/null: %+v, %v", p, err)
	}
	if _, err := Of(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that does not exist: %v", err)
	}
}

// What was looked at is opened, and nothing that has taken its place.
func TestOpenSame(t *testing.T) {
	root := tree(t, "srv/image", "srv/other")
	v, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	found, err := v.Walk("/srv/image")
	if err != nil {
		t.Fatal(err)
	}
	f, err := v.Open("/srv/image", &found)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Remove(filepath.Join(root, "srv/image")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(root, "srv/image"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Open("/srv/image", &found); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a pipe in the file's place: %v", err)
	}
}

func BenchmarkWalk(b *testing.B) {
	v, err := Of(0)
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	for b.Loop() {
		if _, err := v.Walk("/dev/null"); err != nil {
			b.Fatal(err)
		}
	}
}
