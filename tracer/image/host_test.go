package image

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLocalHost(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, overlay("base", "raw"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("image", link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]State{
		link: StateRead, filepath.Join(dir, "pipe"): StateRefused, filepath.Join(dir, "gone"): StateAbsent,
		dir: StateRefused, "/dev/null": StateRefused, "/" + strings.Repeat("n", 4096): StateUnreadable,
	} {
		c := Reader{Host: LocalHost{}}.Follow(context.Background(), disk(t, "file="+path))
		if got := c.Members[0].State; got != want {
			t.Errorf("%.40s: %s (%s), want %s", path, got, c.Members[0].Why, want)
		}
	}
}

// What was put in the place of a file between the look at it and the open is
// not opened.
func TestLocalHostSwapped(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "image")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	at, err := LocalHost{}.Resolve(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func() error{
		"pipe":   func() error { return unix.Mkfifo(path, 0o600) },
		"link":   func() error { return os.Symlink("/etc/hostname", path) },
		"folder": func() error { return os.Mkdir(path, 0o700) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if f, err := (LocalHost{}).Open(&at); err == nil {
			f.Close()
			t.Errorf("a %s was opened", name)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
