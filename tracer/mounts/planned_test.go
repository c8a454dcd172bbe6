package mounts

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestPlanned(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := func(name string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../"+filepath.Base(name), path); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/fstab", `# a comment
UUID=1 / ext4 defaults 0 1
UUID=2 none swap sw 0 0
UUID=3 /srv/images xfs nofail,x-systemd.device-timeout=90 0 0
UUID=4 /mnt/usb vfat noauto,user 0 0
nas:/vm /srv/with\040blank nfs _netdev
nas:/on /srv/access nfs noauto,x-systemd.automount 0 0
broken
`)
	write("etc/systemd/system/srv-own.mount", "[Unit]\nDescription=x\n[Mount]\nWhat=/dev/vg/own\nWhere=/srv/own/\n")
	want("etc/systemd/system/multi-user.target.wants/srv-own.mount")
	write("etc/systemd/system/srv-off.mount", "[Mount]\nWhere=/srv/off\n") // not enabled
	want("etc/systemd/system/multi-user.target.wants/srv-gone.mount")      // leads nowhere
	write("run/systemd/generator/srv-auto.automount", "[Automount]\nWhere=/srv/auto\n")
	want("run/systemd/generator/remote-fs.target.requires/srv-auto.automount")
	got := Planned(root)
	if diff := cmp.Diff([]string{
		"/srv/images", "/srv/with blank", "/srv/access", "/srv/auto", "/srv/own",
	}, got); diff != "" {
		t.Error(diff)
	}
	if got := Planned(t.TempDir()); got != nil {
		t.Errorf("an empty host plans %v", got)
	}
}

func TestNow(t *testing.T) {
	list, err := Now(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if m.Point == "/" {
			return
		}
	}
	t.Errorf("nothing is mounted at the root: %v", list)
}

func TestChangesEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	attached := make(chan struct{})
	go func() { done <- Changes(ctx, func() { close(attached) }, func() {}) }()
	<-attached
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		point, path string
		want        bool
	}{
		{"/", "/a", true}, {"/srv", "/srv", true}, {"/srv", "/srv/a", true}, {"/srv", "/srv2/a", false}, {"/srv/a", "/srv", false},
	} {
		if got := Covers(c.point, c.path); got != c.want {
			t.Errorf("Covers(%q, %q) = %v", c.point, c.path, got)
		}
	}
}

// Each mount and each umount is told, also those that come while the one before
// is being told.
func TestChangesTold(t *testing.T) {
	dir := t.TempDir()
	told := make(chan struct{}, 1000)
	attached := make(chan struct{})
	go Changes(t.Context(), func() { close(attached) }, func() { told <- struct{}{} })
	<-attached
	for range 20 {
		if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
			t.Skipf("NOT RUN: nothing can be mounted here: %v", err)
		}
		<-told
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
		<-told
	}
}
