package devmap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
)

// Kind is what kind of a block device one is, for people.
type Kind string

// The kinds of block devices.
const (
	KindLV        Kind = "logical volume"
	KindLayer     Kind = "layer of a logical volume" // thin pool, snapshot's origin, cache, RAID image, ...
	KindMultipath Kind = "multipath"
	KindCrypt     Kind = "crypt"
	KindPartition Kind = "partition" // of a disk, or kpartx's mapping for one
	KindMapping   Kind = "mapping"   // any other
	KindMD        Kind = "md"
	KindLoop      Kind = "loop"
	KindDisk      Kind = "disk"
)

// KindOf tells a mapping's kind by its UUID, which whoever makes mappings begins
// with a word for it (lvm2 lib/activate/dev_manager.c, multipath-tools
// libmultipath/devmapper.h, kpartx, cryptsetup).
func KindOf(uuid string) Kind {
	if id, ok := ParseLVMUUID(uuid); ok {
		if id.Layer != "" {
			return KindLayer
		}
		return KindLV
	}
	prefix, _, _ := strings.Cut(uuid, "-")
	switch {
	case prefix == "mpath":
		return KindMultipath
	case prefix == "CRYPT":
		return KindCrypt
	case strings.HasPrefix(prefix, "part") && isNumber(prefix[len("part"):]):
		return KindPartition
	}
	return KindMapping
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// Device is a block device and what it stands on.
type Device struct {
	Dev  event.Dev `json:"dev"`
	Node string    `json:"node"` // the kernel's name: dm-3, sda1
	Kind Kind      `json:"kind"`
	// Name and UUID are the mapping's, empty where it is none.
	Name  string   `json:"name,omitempty"`
	UUID  string   `json:"uuid,omitempty"`
	Size  int64    `json:"size"` // bytes
	Below []Device `json:"below,omitempty"`
}

// Bounds of what lies below one device. A volume of a large group stands on
// some hundred paths of its disks.
const (
	maxBelow      = 4096
	maxBelowDepth = 32
)

// Tree returns the device with all that it stands on, down to the disks, as
// sysfs below root has it. That needs no rights and no ioctl. What cannot be
// read, or is gone by then, is left out below a device that is there.
func Tree(root string, dev event.Dev) (Device, error) {
	t := walk{root: root}
	d, err := t.device(dev, 0)
	if err != nil {
		return Device{}, fmt.Errorf("what %s stands on: %w", devString(dev), err)
	}
	return d, nil
}

// Disks returns the devices at the bottom, each once.
func (d *Device) Disks() []Device {
	var list []Device
	d.collect(&list)
	return list
}

func (d *Device) collect(list *[]Device) {
	for i := range d.Below {
		d.Below[i].collect(list)
	}
	if len(d.Below) == 0 && !slices.ContainsFunc(*list, func(o Device) bool { return o.Dev == d.Dev }) {
		*list = append(*list, *d)
	}
}

// walk is one Tree.
type walk struct {
	root  string
	count int
}

var errTooManyBelow = errors.New("too many devices, or a circle")

func (t *walk) device(dev event.Dev, depth int) (Device, error) {
	if t.count++; t.count > maxBelow || depth > maxBelowDepth {
		return Device{}, errTooManyBelow
	}
	link := filepath.Join(t.root, "sys/dev/block", devString(dev))
	dir, err := filepath.EvalSymlinks(link)
	if err != nil {
		return Device{}, err
	}
	d := Device{Dev: dev, Node: filepath.Base(dir)}
	d.Name, d.UUID = attribute(dir, "dm/name"), attribute(dir, "dm/uuid")
	if sectors, err := strconv.ParseInt(attribute(dir, "size"), 10, 54); err == nil {
		d.Size = sectors * SectorSize
	}
	d.Kind = kindOf(dir, &d)
	for _, under := range t.under(dir, d.Kind) {
		if b, err := t.device(under, depth+1); err == nil {
			d.Below = append(d.Below, b)
		}
	}
	return d, nil
}

func kindOf(dir string, d *Device) Kind {
	switch {
	case d.Name != "":
		return KindOf(d.UUID)
	case attribute(dir, "partition") != "":
		return KindPartition
	case strings.HasPrefix(d.Node, "md"):
		return KindMD
	case strings.HasPrefix(d.Node, "loop"):
		return KindLoop
	}
	return KindDisk
}

// under returns what a device stands on directly: its slaves, and of a disk's
// partition the disk, which the kernel has as the folder above.
func (t *walk) under(dir string, kind Kind) []event.Dev {
	if entries, err := os.ReadDir(filepath.Join(dir, "slaves")); err == nil && len(entries) > 0 {
		var list []event.Dev
		for _, e := range entries {
			if dev, ok := parseDevString(attribute(filepath.Join(dir, "slaves", e.Name()), "dev")); ok {
				list = append(list, dev)
			}
		}
		return list
	}
	if kind == KindPartition {
		if dev, ok := parseDevString(attribute(filepath.Dir(dir), "dev")); ok {
			return []event.Dev{dev}
		}
	}
	return nil
}

// attribute reads a file of sysfs, empty where there is none.
func attribute(dir, name string) string {
	text, err := fs.ReadFile(os.DirFS(dir), name)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}

func parseDevString(s string) (event.Dev, bool) {
	major, minor, ok := strings.Cut(s, ":")
	ma, err1 := strconv.ParseUint(major, 10, 32)
	mi, err2 := strconv.ParseUint(minor, 10, 32)
	return event.Dev{Major: uint32(ma), Minor: uint32(mi)}, ok && err1 == nil && err2 == nil
}
