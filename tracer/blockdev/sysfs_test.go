package blockdev

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
)

// sysfs makes one with these files; the content "-> target" makes a link.
func sysfs(t testing.TB, files map[string]string) *Sysfs {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "sys"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		name = filepath.Join(root, "sys", name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, name)
		} else {
			err = os.WriteFile(name, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return openedSysfs(t, root)
}

func openedSysfs(t testing.TB, root string) *Sysfs {
	t.Helper()
	s, err := OpenSysfs(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

const virtual = "devices/virtual/block/"

func TestFill(t *testing.T) {
	s := sysfs(t, map[string]string{
		virtual + "md0/size": "20971520\n", virtual + "md0/ro": "0\n", virtual + "md0/dev": "9:0\n",
		virtual + "md0/md/array_state": "clean\n", virtual + "md0/md/degraded": "1\n",
		virtual + "md0/slaves/sdb": "-> ../../../../pci/block/sdb", virtual + "md0/slaves/sda": "-> ../../../../pci/block/sda",
		virtual + "md0/md0p1/partition": "1\n", virtual + "md0/md0p1/size": "2048\n", virtual + "md0/md0p1/ro": "1\n",
		virtual + "md1/size": "0\n", virtual + "md1/md/array_state": "inactive\n", virtual + "md1/md/degraded": "0\n",
		virtual + "md1/slaves/none": "-> ../../../../pci/block/none",
		virtual + "loop0/size":      "8\n", virtual + "loop0/loop/backing_file": "/srv/a b\\c.img (deleted)\n",
		virtual + "loop1/size": "0\n",
		virtual + "nbd3/size":  "16\n", virtual + "nbd3/pid": "812\n",
		virtual + "zram0/size": "0\n", virtual + "zram0/disksize": "0\n",
		virtual + "drbd1000/size": "64\n", virtual + "drbd1000/ro": "1\n", "module/drbd/version": "8.4.11\n",
		virtual + "bcache0/size": "64\n", virtual + "bcache0/bcache/state": "dirty\n", virtual + "bcache0/slaves/sda": "-> ../../../../pci/block/sda",
		virtual + "dm-0/size": "64\n", virtual + "rbd0/size": "64\n", virtual + "rbd1/size": "64\n",
		"bus/rbd/devices/0/pool": "vms\n", "bus/rbd/devices/0/pool_ns": "\n", "bus/rbd/devices/0/name": "web-a\n", "bus/rbd/devices/0/current_snap": "-\n",
		"devices/pci/block/sda/size": "2\n", "devices/pci/block/sda/dev": "8:0\n", "devices/pci/block/sda/device/wwid": "naa.6001405\n",
		"devices/pci/block/sdb/size": "2\n", "devices/pci/block/sdb/dev": "8:16\n",
		"devices/pci/nvme0/nvme0n1/size": "2\n", "devices/pci/nvme0/nvme0n1/wwid": "eui.0025\n", "devices/pci/nvme0/nvme0n1/nsid": "1\n",
		"devices/pci/block/vda/size": "99999999999999999999\n",
	})
	sda, sdb := event.Dev{Major: 8}, event.Dev{Major: 8, Minor: 16}
	for _, tc := range []struct {
		path, devtype string
		attrs         map[string]string
		under         []event.Dev
	}{
		{virtual + "md0", "disk", map[string]string{"size": "10737418240", "md/array_state": "clean", "md/degraded": "1"}, []event.Dev{sda, sdb}},
		{virtual + "md0/md0p1", "partition", map[string]string{"size": "1048576", "ro": "1", "partition": "1"}, []event.Dev{{Major: 9}}},
		{virtual + "md1", "disk", map[string]string{"size": "0", "md/array_state": "inactive"}, nil},
		{virtual + "loop0", "disk", map[string]string{"size": "4096", "loop/backing_file": "/srv/a b\\c.img (deleted)"}, nil},
		{virtual + "loop1", "disk", map[string]string{"size": "0"}, nil},
		{virtual + "nbd3", "disk", map[string]string{"size": "8192", "pid": "812"}, nil},
		{virtual + "zram0", "disk", map[string]string{"size": "0", "disksize": "0"}, nil},
		{virtual + "drbd1000", "disk", map[string]string{"size": "32768", "ro": "1", "drbd/version": "8.4.11"}, nil},
		{virtual + "bcache0", "disk", map[string]string{"size": "32768", "bcache/state": "dirty"}, []event.Dev{sda}},
		{virtual + "rbd0", "disk", map[string]string{"size": "32768", "rbd/pool": "vms", "rbd/name": "web-a", "rbd/snap": "-"}, nil},
		{virtual + "rbd1", "disk", map[string]string{"size": "32768"}, nil},
		{"devices/pci/block/sda", "disk", map[string]string{"size": "1024", "device/wwid": "naa.6001405"}, nil},
		{"devices/pci/nvme0/nvme0n1", "disk", map[string]string{"size": "1024", "wwid": "eui.0025", "nsid": "1"}, nil},
		{"devices/pci/block/vda", "disk", map[string]string{}, nil}, // no size that a device can have
		{virtual + "dm-0", "disk", nil, nil},
		{virtual + "loop77", "disk", nil, nil}, // gone by now
	} {
		d := event.DevInfo{Action: "change", Path: "/" + tc.path, Name: filepath.Base(tc.path), Type: tc.devtype}
		if err := s.Fill(&d); err != nil {
			t.Errorf("%s: %v", tc.path, err)
		}
		if diff := cmp.Diff(tc.attrs, d.Attrs); diff != "" {
			t.Errorf("%s: %s", tc.path, diff)
		}
		if diff := cmp.Diff(tc.under, d.Under); diff != "" {
			t.Errorf("%s: under: %s", tc.path, diff)
		}
	}
}

func TestFillLeavesAlone(t *testing.T) {
	s := sysfs(t, map[string]string{virtual + "sda/size": "8\n", "../outside/size": "8\n"})
	gone := event.DevInfo{Action: "remove", Path: "/" + virtual + "sda", Name: "sda"}
	if err := s.Fill(&gone); err != nil || gone.Attrs != nil {
		t.Errorf("a device that is removed: %v, %v", gone.Attrs, err)
	}
	for _, path := range []string{"/../outside", "", "/devices/../../outside"} {
		d := event.DevInfo{Path: path, Name: "sda"}
		if err := s.Fill(&d); err == nil || d.Attrs != nil {
			t.Errorf("%q: %v, %v", path, d.Attrs, err)
		}
	}
}

// An array whose lock is held, as while it is assembled on Linux 3.10, keeps
// nobody waiting: neither the next array nor a disk.
func TestFillHangs(t *testing.T) {
	s := sysfs(t, map[string]string{virtual + "md1/size": "8\n", virtual + "sda/size": "8\n"})
	fill := func(name string) (event.DevInfo, error) {
		d := event.DevInfo{Path: "/" + virtual + name, Name: name}
		return d, s.Fill(&d)
	}
	s.slow <- struct{}{} // a read that does not return
	if d, err := fill("md1"); !errors.Is(err, ErrBusy) || d.Attrs != nil {
		t.Errorf("another array meanwhile: %v, %v", d.Attrs, err)
	}
	if d, err := fill("sda"); err != nil || d.Attrs["size"] != "4096" {
		t.Errorf("a disk meanwhile: %v, %v", d.Attrs, err)
	}
	<-s.slow // now it does
	if d, err := fill("md1"); err != nil || d.Attrs["size"] != "4096" {
		t.Errorf("the array afterwards: %v, %v", d.Attrs, err)
	}
}

// A read that hangs is given up, and what it finds later changes nothing.
func TestFillGivesUp(t *testing.T) {
	s := sysfs(t, map[string]string{virtual + "md0/size": "8\n"})
	hang := make(chan struct{})
	got, err := s.slowly(func() (found, error) {
		<-hang
		return found{attrs: map[string]string{"size": "1"}}, nil
	})
	if !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	close(hang)
	s.slow <- struct{}{} // once it has ended
	if got.attrs != nil {
		t.Error("what is in the record by now was changed")
	}
}

func TestFillBounds(t *testing.T) {
	s := sysfs(t, map[string]string{virtual + "loop0/loop/backing_file": strings.Repeat("x", 3*maxAttribute), virtual + "loop0/size": "8"})
	d := event.DevInfo{Path: "/" + virtual + "loop0", Name: "loop0"}
	if err := s.Fill(&d); err != nil || len(d.Attrs[AttrBacking]) != maxAttribute {
		t.Errorf("%d bytes, %v", len(d.Attrs[AttrBacking]), err)
	}
}

// The devices of this host have a size.
func TestFillLive(t *testing.T) {
	entries, err := os.ReadDir("/sys/class/block")
	if err != nil || len(entries) == 0 {
		t.Skip("no block devices here")
	}
	s := openedSysfs(t, "/")
	for _, entry := range entries {
		target, err := os.Readlink("/sys/class/block/" + entry.Name())
		if err != nil {
			continue // gone
		}
		d := event.DevInfo{Path: filepath.Join("/class/block", target), Name: entry.Name()}
		if err := s.Fill(&d); err != nil {
			t.Errorf("%s: %v", d.Path, err)
		}
		if DeviceKind(&d) != Mapping && Size(&d) < 0 {
			t.Errorf("%s has no size: %v", d.Path, d.Attrs)
		}
	}
}

func BenchmarkFill(b *testing.B) {
	b.Run("md", func(b *testing.B) {
		s := sysfs(b, map[string]string{virtual + "md0/size": "8", virtual + "md0/ro": "0", virtual + "md0/md/array_state": "clean", virtual + "md0/md/degraded": "0"})
		benchmarkFill(b, s, "md0")
	})
	b.Run("live", func(b *testing.B) { benchmarkFill(b, openedSysfs(b, "/"), "loop0") })
}

func benchmarkFill(b *testing.B, s *Sysfs, name string) {
	d := event.DevInfo{Path: "/" + virtual + name, Name: name}
	if err := s.Fill(&d); err != nil || d.Attrs == nil {
		b.Skipf("no %s here: %v", name, err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Fill(&d); err != nil {
			b.Fatal(err)
		}
	}
}
