package devmap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
)

// block adds a block device to a sysfs. A partition's dir is below its disk's.
type block struct {
	dir, dev   string
	name, uuid string
	partition  bool
	slaves     []string // folders
}

func sysfs(t *testing.T, blocks []block) string {
	t.Helper()
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, path string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range blocks {
		dir := filepath.Join(root, "sys/devices", b.dir)
		write(filepath.Join(dir, "dev"), b.dev)
		write(filepath.Join(dir, "size"), "2048")
		if b.name != "" {
			write(filepath.Join(dir, "dm/name"), b.name)
			write(filepath.Join(dir, "dm/uuid"), b.uuid)
		}
		if b.partition {
			write(filepath.Join(dir, "partition"), "1")
		}
		for _, slave := range b.slaves {
			link(filepath.Join(root, "sys/devices", slave), filepath.Join(dir, "slaves", filepath.Base(slave)))
		}
		link(dir, filepath.Join(root, "sys/dev/block", b.dev))
	}
	return root
}

func drawn(d *Device, indent string) string {
	line := fmt.Sprintf("%s%s %s", indent, d.Node, d.Kind)
	if d.Name != "" {
		line += " " + d.Name
	}
	lines := []string{line}
	for i := range d.Below {
		lines = append(lines, drawn(&d.Below[i], indent+"  "))
	}
	return strings.Join(lines, "\n")
}

func TestTree(t *testing.T) {
	lv := "LVM-" + strings.Repeat("v", 32)
	root := sysfs(t, []block{
		{dir: "pci/sda", dev: "8:0"}, {dir: "pci/sda/sda3", dev: "8:3", partition: true},
		{dir: "pci/sdb", dev: "8:16"}, {dir: "pci/sdc", dev: "8:32"}, {dir: "virtual/md0", dev: "9:0", slaves: []string{"pci/sda/sda3", "pci/sdb"}},
		{dir: "virtual/dm-0", dev: "253:0", name: "mpatha", uuid: "mpath-3600a", slaves: []string{"pci/sdb", "pci/sdc"}},
		{dir: "virtual/dm-1", dev: "253:1", name: "mpatha-part1", uuid: "part1-mpath-3600a", slaves: []string{"virtual/dm-0"}},
		{dir: "virtual/dm-2", dev: "253:2", name: "luks", uuid: "CRYPT-LUKS2-0a-luks", slaves: []string{"virtual/dm-1"}},
		{dir: "virtual/dm-3", dev: "253:3", name: "vg-pool_tdata", uuid: lv + strings.Repeat("p", 32) + "-tdata", slaves: []string{"virtual/dm-2"}},
		{dir: "virtual/dm-4", dev: "253:4", name: "vg-pool_tmeta", uuid: lv + strings.Repeat("p", 32) + "-tmeta", slaves: []string{"virtual/md0"}},
		{dir: "virtual/dm-5", dev: "253:5", name: "vg-pool-tpool", uuid: lv + strings.Repeat("p", 32) + "-tpool", slaves: []string{"virtual/dm-3", "virtual/dm-4"}},
		{dir: "virtual/dm-6", dev: "253:6", name: "vg-thin--1", uuid: lv + strings.Repeat("t", 32), slaves: []string{"virtual/dm-5"}},
		{dir: "virtual/dm-7", dev: "253:7", name: "bare", slaves: []string{"virtual/loop0", "virtual/gone"}},
		{dir: "virtual/loop0", dev: "7:0"},
		{dir: "virtual/dm-8", dev: "253:8", name: "circle", slaves: []string{"virtual/dm-8"}},
	})
	for dev, want := range map[uint32]string{
		6: `
dm-6 logical volume vg-thin--1
  dm-5 layer of a logical volume vg-pool-tpool
    dm-3 layer of a logical volume vg-pool_tdata
      dm-2 crypt luks
        dm-1 partition mpatha-part1
          dm-0 multipath mpatha
            sdb disk
            sdc disk
    dm-4 layer of a logical volume vg-pool_tmeta
      md0 md
        sda3 partition
          sda disk
        sdb disk`,
		7: `
dm-7 mapping bare
  loop0 loop`,
	} {
		d, err := Tree(root, event.Dev{Major: 253, Minor: dev})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimSpace(want), drawn(&d, "")); diff != "" {
			t.Error(diff)
		}
		if d.Size != 1<<20 {
			t.Errorf("size %d", d.Size)
		}
	}
	d, err := Tree(root, event.Dev{Major: 253, Minor: 6})
	if err != nil {
		t.Fatal(err)
	}
	var disks []string
	for _, b := range d.Disks() {
		disks = append(disks, b.Node)
	}
	if diff := cmp.Diff([]string{"sdb", "sdc", "sda"}, disks); diff != "" {
		t.Errorf("disks: %s", diff)
	}
	if d, err := Tree(root, event.Dev{Major: 253, Minor: 8}); err != nil || strings.Count(drawn(&d, ""), "\n") != maxBelowDepth {
		t.Errorf("a circle: %v, %v", d, err)
	}
	if _, err := Tree(root, event.Dev{Major: 253, Minor: 99}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestKindOf(t *testing.T) {
	for uuid, want := range map[string]Kind{
		"": KindMapping, "mpath-x": KindMultipath, "CRYPT-PLAIN-x": KindCrypt, "part12-mpath-x": KindPartition,
		"party-x": KindMapping, "LVM-short": KindMapping, "DMRAID-x": KindMapping,
	} {
		if got := KindOf(uuid); got != want {
			t.Errorf("%q: %s, want %s", uuid, got, want)
		}
	}
}
