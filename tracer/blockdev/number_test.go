package blockdev

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
)

func TestDevice(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"sys/devices/virtual/block/loop0/size": "8\n", "sys/devices/virtual/block/loop0/loop/backing_file": "/srv/a\n",
		"sys/devices/pci/block/sda/size": "16\n", "sys/devices/pci/block/sda/dev": "8:0\n",
		"sys/devices/pci/block/sda/sda1/size": "8\n", "sys/devices/pci/block/sda/sda1/partition": "1\n",
		"sys/devices/virtual/block/dm-0/size": "8\n", "sys/devices/pci/block/cciss!c0d0/size": "8\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "sys/dev/block"), 0o755); err != nil {
		t.Fatal(err)
	}
	for number, target := range map[string]string{
		"7:0": "virtual/block/loop0", "8:0": "pci/block/sda", "8:1": "pci/block/sda/sda1", "253:0": "virtual/block/dm-0", "104:0": "pci/block/cciss!c0d0",
	} {
		if err := os.Symlink("../../devices/"+target, filepath.Join(root, "sys/dev/block", number)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := OpenSysfs(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct {
		dev   event.Dev
		name  string
		size  int64
		under int
	}{
		{event.Dev{Major: 7}, "loop0", 4096, 0},
		{event.Dev{Major: 8}, "sda", 8192, 0},
		{event.Dev{Major: 8, Minor: 1}, "sda1", 4096, 1},
		{event.Dev{Major: 253}, "dm-0", 4096, 0},
		{event.Dev{Major: 104}, "cciss/c0d0", 4096, 0},
	} {
		d, err := s.Device(c.dev)
		if err != nil || d.Name != c.name || Size(&d) != c.size || len(d.Under) != c.under || *d.Dev != c.dev {
			t.Errorf("Device(%v) = %+v, %v", c.dev, d, err)
		}
	}
	if _, err := s.Device(event.Dev{Major: 9}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a device that is not there: %v", err)
	}
}

func TestSecondary(t *testing.T) {
	for _, c := range []struct {
		name, ro, version string
		want              bool
	}{
		{"drbd0", "1", "8.4.11", true}, {"drbd0", "", "8.4.11", false}, {"drbd0", "1", "9.0.1", false}, {"sda", "1", "8.4.11", false},
	} {
		d := event.DevInfo{Name: c.name, Attrs: map[string]string{AttrReadOnly: c.ro, AttrDRBDVersion: c.version}}
		if got := Secondary(&d); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
