package view

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// world is a root directory with what strangers name as their configuration.
func world(t *testing.T) (root string, v *View) {
	t.Helper()
	root = t.TempDir()
	for dir := root; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	v, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return root, v
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func ourselves() User { return User{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())} }

// prompt fails the test where a read waits for somebody.
func prompt(t *testing.T, v *View, name string, user User) (data []byte, err error) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		data, err = v.ReadFile(name, user, 100)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: the read waits", name)
	}
	return data, err
}

func TestReadFile(t *testing.T) {
	root, v := world(t)
	write(t, root+"/etc/vm.cfg", "[drive]", 0o644)
	link(t, "/etc/vm.cfg", root+"/absolute")
	link(t, "etc/vm.cfg", root+"/relative")
	link(t, "../../../../etc/vm.cfg", root+"/etc/above")
	link(t, root+"/etc/vm.cfg", root+"/outside")
	link(t, "round", root+"/round")
	write(t, root+"/long", strings.Repeat("x", 1000), 0o644)
	if err := unix.Mkfifo(root+"/fifo", 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		"/etc/vm.cfg": nil, "/absolute": nil, "/relative": nil, "/etc/above": nil,
		"/outside": fs.ErrNotExist, "/round": unix.ELOOP, "/etc": ErrNotRegular, "/fifo": ErrNotRegular, "/missing": fs.ErrNotExist,
		"etc/vm.cfg": unix.EINVAL, "/etc/vm.cfg/x": unix.ENOTDIR,
	} {
		data, err := prompt(t, v, name, ourselves())
		if !errors.Is(err, want) || err == nil && string(data) != "[drive]" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if data, err := prompt(t, v, "/long", ourselves()); err != nil || len(data) != 101 {
		t.Errorf("a long file: %d bytes, %v", len(data), err)
	}
}

// TestReadNoDevice: a device is not even opened, be it a terminal or one that
// does something when it is.
func TestReadNoDevice(t *testing.T) {
	v, err := Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, name := range []string{"/dev/null", "/dev/zero", "/dev/tty", "/dev/ptmx"} {
		if _, err := prompt(t, v, name, ourselves()); !errors.Is(err, ErrNotRegular) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// /proc/self is whoever walks there, which is us.
	for _, name := range []string{"/proc/self/environ", "/proc/self/cmdline", "/proc/version"} {
		if data, err := prompt(t, v, name, ourselves()); !errors.Is(err, ErrVirtual) {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED as another: only root makes devices")
	}
	root, v := world(t)
	if err := unix.Mknod(root+"/disk", unix.S_IFBLK|0o666, int(unix.Mkdev(7, 200))); err != nil {
		t.Skip("NOT TESTED:", err)
	}
	if _, err := prompt(t, v, "/disk", ourselves()); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a block device: %v", err)
	}
}

// TestReadAs: what the user may not read is not read for it, be it for the file's
// mode or a folder's on the way, and what the user may is, by a group too.
func TestReadAs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: only root reads as others")
	}
	root, v := world(t)
	const mine, ours = 54321, 54322
	write(t, root+"/of-root", "root's", 0o600)
	write(t, root+"/mine", "mine", 0o600)
	write(t, root+"/ours", "ours", 0o640)
	write(t, root+"/closed/file", "closed", 0o644)
	for _, err := range []error{
		os.Chown(root+"/mine", mine, 0), os.Chown(root+"/ours", 0, ours), os.Chmod(root+"/closed", 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	link(t, "/of-root", root+"/link")
	user := User{UID: mine, GID: mine, Groups: []uint32{ours}}
	for name, want := range map[string]error{
		"/of-root": fs.ErrPermission, "/link": fs.ErrPermission, "/closed/file": fs.ErrPermission, "/mine": nil, "/ours": nil,
	} {
		if _, err := prompt(t, v, name, user); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	user.Groups = nil
	if _, err := prompt(t, v, "/ours", user); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("without the group: %v", err)
	}
	// And we are who we were.
	if data, err := os.ReadFile(root + "/of-root"); err != nil || string(data) != "root's" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := prompt(t, v, "/of-root", ourselves()); err != nil {
		t.Error(err)
	}
}

// TestReadChanging: half of one file and half of another is neither.
func TestReadChanging(t *testing.T) {
	root, v := world(t)
	write(t, root+"/file", strings.Repeat("a", 90), 0o644)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				_ = os.WriteFile(root+"/file", []byte(strings.Repeat(string(rune('a'+n%26)), 10+n%80)), 0o644)
			}
		}
	}()
	for range 200 {
		data, err := v.ReadFile("/file", ourselves(), 100)
		if err != nil && !errors.Is(err, ErrChanged) {
			t.Error(err)
		}
		if err == nil && len(data) > 0 && strings.Trim(string(data), string(data[:1])) != "" {
			t.Errorf("mixed: %q", data)
		}
	}
	close(stop)
	<-stopped
}
