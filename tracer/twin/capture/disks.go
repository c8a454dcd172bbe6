package capture

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/inspect"
	"github.com/bootrace/bootrace/tracer/twin"
)

// buses says how a disk is attached by the name that the kernel gives it.
var buses = []struct {
	name *regexp.Regexp
	bus  twin.Bus
}{
	{regexp.MustCompile(`^vd[a-z]+$`), twin.Virtio},
	{regexp.MustCompile(`^sd[a-z]+$`), twin.SCSI},
	{regexp.MustCompile(`^nvme\d+n\d+$`), twin.NVMe},
}

// mostArea is as much of one metadata area of LVM as is taken, in bytes; LVM makes
// areas of 1 MiB.
const mostArea = 64 << 20

// disks describes the block devices of the host.
func (c *Capture) disks(context.Context) error {
	entries, err := os.ReadDir(c.path("sys/block"))
	if err != nil {
		return fmt.Errorf("list the disks: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		size := 512 * number(c.attr(name, "size"))
		if size == 0 || ignored(name) {
			continue
		}
		i := slices.IndexFunc(buses, func(b struct {
			name *regexp.Regexp
			bus  twin.Bus
		}) bool {
			return b.name.MatchString(name)
		})
		if i < 0 {
			if what := c.other(name); what != "" {
				c.manifest.Others = append(c.manifest.Others, twin.Other{Name: name, What: what})
			}
			continue
		}
		props, links := c.udev(name)
		d := twin.Disk{
			Name: name, Bus: buses[i].bus, Size: size, Sector: int(number(c.attr(name, "queue/logical_block_size"))),
			Serial: cmp.Or(c.attr(name, "serial"), c.attr(name, "device/serial"), props["ID_SCSI_SERIAL"], props["ID_SERIAL_SHORT"]), Links: links, Pieces: []twin.Piece{},
		}
		if wwn := props["ID_WWN"]; d.Bus == twin.SCSI && wwnPattern.MatchString(wwn) {
			d.WWN = wwn
		}
		if err := c.pieces(&d); err != nil {
			c.missing("%s could not be read: %v", name, err)
		}
		c.manifest.Disks = append(c.manifest.Disks, d)
	}
	if len(c.manifest.Disks) == 0 {
		return errors.New("this host has no disk of a kind that a twin can have (vdX, sdX, nvmeXnY)")
	}
	slices.SortFunc(c.manifest.Disks, func(a, b twin.Disk) int {
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), strings.Compare(a.Name, b.Name))
	})
	return nil
}

var wwnPattern = regexp.MustCompile(`^0x[0-9a-f]{16}$`)

// ignored reports whether a block device is none of storage.
func ignored(name string) bool {
	for _, prefix := range []string{"ram", "sr", "fd", "zram"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// other says what a device is that no twin has, empty for a mapping of LVM, which a
// twin's own LVM makes.
func (c *Capture) other(name string) string {
	if !strings.HasPrefix(name, "dm-") {
		return strings.TrimRight(name, "0123456789") + " device"
	}
	uuid := c.attr(name, "dm/uuid")
	if kind := devmap.KindOf(uuid); kind != devmap.KindLV {
		return fmt.Sprintf("mapping %s (%s)", c.attr(name, "dm/name"), kind)
	}
	return ""
}

// attr is an attribute of a block device in sysfs, empty where it is not there.
func (c *Capture) attr(name, attr string) string {
	data, err := os.ReadFile(c.path(filepath.Join("sys/class/block", name, attr)))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// udev is what udev's database has of a device: its properties, and the links to it and
// its partitions.
func (c *Capture) udev(name string) (props map[string]string, links []string) {
	props, links = map[string]string{}, []string{}
	for _, n := range append([]string{name}, c.partitions(name)...) {
		data, err := os.ReadFile(c.path("run/udev/data/b" + c.attr(n, "dev")))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSuffix(line, "\n")
			if link, ok := strings.CutPrefix(line, "S:"); ok {
				links = append(links, link)
			}
			if key, value, ok := strings.Cut(strings.TrimPrefix(line, "E:"), "="); ok && n == name {
				props[key] = value
			}
		}
	}
	slices.Sort(links)
	return props, links
}

// partitions are the names of a disk's partitions.
func (c *Capture) partitions(disk string) []string {
	files, _ := filepath.Glob(c.path(filepath.Join("sys/class/block", disk, "*", "partition")))
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	return names
}

// pieces finds the stretches of a disk that say what is on it.
func (c *Capture) pieces(d *twin.Disk) error {
	c.sources[d.Name] = c.path("dev/" + d.Name)
	f, err := os.Open(c.sources[d.Name])
	if err != nil {
		return err
	}
	defer f.Close()
	parts := c.partitions(d.Name)
	if len(parts) > 0 {
		d.Pieces = append(d.Pieces, tables(f, d.Size, int64(max(d.Sector, 512)))...)
	}
	areas := map[int64]int64{0: d.Size} // offset and size
	for _, p := range parts {
		areas[512*number(c.attr(p, "start"))] = 512 * number(c.attr(p, "size"))
	}
	for offset, size := range areas {
		if offset == 0 && len(parts) > 0 {
			continue
		}
		d.Pieces = append(d.Pieces, physicalVolume(f, offset, size)...)
	}
	slices.SortFunc(d.Pieces, func(a, b twin.Piece) int { return cmp.Compare(a.Offset, b.Offset) })
	for _, p := range d.Pieces {
		c.bytes += p.Length
	}
	return nil
}

// Parts of a disk with an MBR: its code, which is left out, is before them.
const (
	mbrCode  = 440
	mbrTotal = 512
)

// tables are the partition tables: of an MBR what follows the code, of a GPT also its
// header and its entries, at the beginning and at the end.
func tables(r io.ReaderAt, size, sector int64) []twin.Piece {
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, 0); err != nil || b[510] != 0x55 || b[511] != 0xaa {
		return nil
	}
	list := []twin.Piece{{Offset: mbrCode, Length: mbrTotal - mbrCode, What: "partition table"}}
	if _, err := r.ReadAt(b, sector); err != nil || string(b[:8]) != "EFI PART" {
		return list
	}
	entries := int64(binary.LittleEndian.Uint32(b[80:])) * int64(binary.LittleEndian.Uint32(b[84:]))
	const most = 1 << 20
	if entries <= 0 || entries > most {
		return list
	}
	entries = (entries + sector - 1) / sector * sector
	return append(list,
		twin.Piece{Offset: sector, Length: sector + entries, What: "partition table"},
		twin.Piece{Offset: size - sector - entries, Length: sector + entries, What: "copy of the partition table"})
}

// physicalVolume are the label and the metadata areas of one of LVM.
func physicalVolume(r io.ReaderAt, offset, size int64) []twin.Piece {
	label, areas, ok := inspect.MetadataAreas(io.NewSectionReader(r, offset, size))
	if !ok {
		return nil
	}
	list := []twin.Piece{{Offset: offset + label, Length: 512, What: "label of a physical volume"}}
	for _, a := range areas {
		if a[0] > 0 && a[1] > 0 && a[1] <= mostArea && a[0] <= size-a[1] {
			list = append(list, twin.Piece{Offset: offset + a[0], Length: a[1], What: "metadata of LVM"})
		}
	}
	return list
}

// writePieces copies the stretches.
func (c *Capture) writePieces(a *archive) error {
	for i := range c.manifest.Disks {
		d := &c.manifest.Disks[i]
		for _, p := range d.Pieces {
			data, err := readPiece(c.sources[d.Name], p)
			if err != nil {
				return fmt.Errorf("read %s of %s: %w", p.What, d.Name, err)
			}
			if err := a.put(twin.PieceName(d.Name, p.Offset), data); err != nil {
				return err
			}
		}
	}
	return nil
}

func readPiece(path string, p twin.Piece) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, p.Length)
	_, err = f.ReadAt(data, p.Offset)
	return data, err
}

// place is where on a disk a block device's first byte is; why says why it is nowhere.
func (c *Capture) place(dev event.Dev) (disk string, offset int64, why string) {
	link, err := filepath.EvalSymlinks(c.path(fmt.Sprintf("sys/dev/block/%d:%d", dev.Major, dev.Minor)))
	if err != nil {
		return "", 0, "it is not there"
	}
	name := filepath.Base(link)
	if c.attr(name, "partition") != "" {
		offset, name = 512*number(c.attr(name, "start")), filepath.Base(filepath.Dir(link))
	}
	if c.disk(name) != nil {
		return name, offset, ""
	}
	if what := c.other(name); what != "" {
		return "", 0, "it lies on a " + what
	}
	return "", 0, "it lies on " + name
}

func (c *Capture) disk(name string) *twin.Disk {
	for i := range c.manifest.Disks {
		if c.manifest.Disks[i].Name == name {
			return &c.manifest.Disks[i]
		}
	}
	return nil
}

// qcow2Header is how long the part of a qcow2 image is that names other files: header,
// extensions and the name of the backing file (docs/interop/qcow2.txt). 0 where it is no
// qcow2 image.
func qcow2Header(r io.ReaderAt) int64 {
	b := make([]byte, 104)
	if _, err := r.ReadAt(b, 0); err != nil || !bytes.HasPrefix(b, []byte("QFI\xfb")) {
		return 0
	}
	length := int64(72)
	if binary.BigEndian.Uint32(b[4:]) >= 3 {
		length = int64(binary.BigEndian.Uint32(b[100:]))
	}
	at, size := int64(binary.BigEndian.Uint64(b[8:])), int64(binary.BigEndian.Uint32(b[16:]))
	if at > 0 {
		length = at + size
	}
	const most = 64 << 10
	if length < 72 || length > most {
		return 0
	}
	return length
}
