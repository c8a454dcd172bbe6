package readiness

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	v, err := openView(root)
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
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
		got, err := v.walk(tc.path)
		if !errors.Is(err, tc.err) || (tc.err == nil) != (err == nil) {
			t.Errorf("%q: %v, want %v", tc.path, err, tc.err)
		}
		if errors.Is(tc.err, syscall.ELOOP) {
			continue
		}
		if diff := cmp.Diff(tc.links, got.links); diff != "" {
			t.Errorf("%q: links: %s", tc.path, diff)
		}
		if got.node != tc.node {
			t.Errorf("%q: node %q, want %q", tc.path, got.node, tc.node)
		}
	}
}

func TestWalkDevices(t *testing.T) {
	v, err := viewOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	if p, err := v.walk("/dev/null"); err != nil || p.block() || p.mode.IsRegular() {
		t.Errorf("/dev/null: %+v, %v", p, err)
	}
	if _, err := viewOf(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that does not exist: %v", err)
	}
}

// What was looked at is opened, and nothing that has taken its place.
func TestOpenSame(t *testing.T) {
	root := tree(t, "srv/image", "srv/other")
	v, err := openView(root)
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	found, err := v.walk("/srv/image")
	if err != nil {
		t.Fatal(err)
	}
	f, err := v.open("/srv/image", &found)
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
	if _, err := v.open("/srv/image", &found); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a pipe in the file's place: %v", err)
	}
}

func BenchmarkWalk(b *testing.B) {
	v, err := viewOf(0)
	if err != nil {
		b.Fatal(err)
	}
	defer v.close()
	for b.Loop() {
		if _, err := v.walk("/dev/null"); err != nil {
			b.Fatal(err)
		}
	}
}
