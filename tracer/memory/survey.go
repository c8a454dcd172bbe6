package memory

import (
	"cmp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
)

// Mappings answers questions about mappings; devmap.Control does.
type Mappings interface {
	Resolve(path string) (devmap.Resolution, error)
	// Get returns a mapping with its live table.
	Get(dev event.Dev) (devmap.Mapping, error)
	Status(dev event.Dev) (devmap.Mapping, error)
}

// Host answers what a survey asks.
type Host interface {
	Mappings
	// Device describes a block device that is no mapping: what udev's database
	// and sysfs have of it.
	Device(dev event.Dev) (event.DevInfo, error)
	// File describes the regular file that a path leads to.
	File(path string) (File, error)
}

// File is a regular file, and where it lies.
type File struct {
	// FS identifies its file system over reboots, empty where nothing does: its
	// UUID, or nfs:HOST:/PATH and the like.
	FS    string
	Mount string    // where that is mounted
	Dev   event.Dev // st_dev
	Inode uint64
	Size  int64 // bytes
}

// Held is what a guest has open.
type Held struct {
	Devices []event.OpenInfo // block devices, with the path and flags of each
	Files   []HeldFile       // regular files
}

// HeldFile is a regular file that a guest has open.
type HeldFile struct {
	Path  string
	Dev   event.Dev // st_dev
	Inode uint64
	Flags uint32 // O_*
}

// maxDisks bounds what is remembered of one guest, backing files included.
const maxDisks = 256

// Survey says what a guest's disks lead to now, as Compare takes it: each disk,
// and each backing file. chains are what the headers name, as far as it is
// known. What is not to be found out is left out.
//
// held is what the guest has open: only that counts then, and what it reads and
// writes that no disk leads to is listed, too: a disk that was mirrored there. For
// a guest that has not started yet held is nil.
func Survey(h Host, g *guest.Guest, chains []*image.Chain, held *Held) []event.MemoryDisk {
	s := survey{host: h, held: held, listed: map[event.Dev]bool{}, files: map[fileID]bool{}}
	for i := range g.Disks {
		s.disk(&g.Disks[i])
	}
	for _, c := range chains {
		s.chain(c)
	}
	if held == nil {
		return s.disks
	}
	for i := range held.Devices {
		if f := &held.Devices[i]; f.Dev != nil {
			s.device(*f.Dev, event.MemoryDisk{})
		}
	}
	for i := range held.Files {
		// Logs are only written, and a pid file is no disk.
		if f := &held.Files[i]; f.Flags&unix.O_ACCMODE == unix.O_RDWR && f.Path != g.PIDFile && !strings.HasPrefix(f.Path, "/run/") {
			s.file(event.MemoryDisk{Path: f.Path}, "")
		}
	}
	return s.disks
}

// survey is one Survey.
type survey struct {
	host   Host
	held   *Held
	listed map[event.Dev]bool
	files  map[fileID]bool
	disks  []event.MemoryDisk
}

type fileID struct {
	dev   event.Dev
	inode uint64
}

func (s *survey) disk(d *guest.Disk) {
	if d.Kind == guest.KindCDROM || d.Kind == guest.KindFloppy {
		return // removable media come and go
	}
	over := ""
	for i := range d.Images() {
		if i.Storage == guest.StorageFile {
			s.path(event.MemoryDisk{Path: i.Path, ID: d.ID, DeviceID: d.DeviceID, Serial: d.Serial, BackingOf: over}, i.Format)
		}
		over = cmp.Or(over, d.Path)
	}
}

func (s *survey) chain(c *image.Chain) {
	for i := range c.Members {
		if m := &c.Members[i]; m.FromHeader && m.Storage == guest.StorageFile {
			s.path(event.MemoryDisk{Path: m.Path, BackingOf: c.Members[0].Path}, m.Format)
		}
	}
}

// path adds what a path leads to.
func (s *survey) path(as event.MemoryDisk, format string) {
	as.Format = format
	switch at, err := s.host.Resolve(as.Path); {
	case err != nil:
	case at.IsBlock():
		s.device(at.Dev, as)
	case at.Mode.IsRegular():
		s.file(as, format)
	}
}

// device adds a block device, once.
func (s *survey) device(dev event.Dev, as event.MemoryDisk) {
	writes, open := s.access(dev)
	if s.listed[dev] || !open || len(s.disks) == maxDisks {
		return
	}
	if !s.mapping(dev, &as) && !s.other(dev, &as) {
		return
	}
	s.listed[dev] = true
	as.Written = as.BackingOf != "" && writes
	s.disks = append(s.disks, as)
}

// mapping describes a mapping, if dev is a live one.
func (s *survey) mapping(dev event.Dev, as *event.MemoryDisk) bool {
	m, err := s.host.Get(dev)
	if err != nil || m.Flags&devmap.FlagActive == 0 {
		return false
	}
	as.Path = cmp.Or(as.Path, "/dev/mapper/"+m.Name)
	as.Name, as.UUID, as.Size = m.Name, m.UUID, m.Size
	as.Table = NamedTable(m.Table(), s.name)
	return true
}

// other describes a device that is no mapping.
func (s *survey) other(dev event.Dev, as *event.MemoryDisk) bool {
	d, err := s.host.Device(dev)
	if err != nil {
		return false
	}
	kind := blockdev.DeviceKind(&d)
	if kind == blockdev.Mapping || kind.Removable() {
		return false // one without a table, or a medium
	}
	as.Path = cmp.Or(as.Path, "/dev/"+d.Name)
	as.DeviceKind, as.Name, as.UUID, as.Size = string(kind), d.Name, blockdev.Identity(&d), max(blockdev.Size(&d), 0)
	return true
}

// file adds a regular file, once. The size of an image with a format of its own
// says nothing of the disk in it: it grows as the guest writes, and shrinks when
// somebody converts it.
func (s *survey) file(as event.MemoryDisk, format string) {
	f, err := s.host.File(as.Path)
	id := fileID{f.Dev, f.Inode}
	if err != nil || s.files[id] || len(s.disks) == maxDisks {
		return
	}
	writes, open := s.fileAccess(id)
	if !open {
		return
	}
	s.files[id] = true
	as.DeviceKind, as.UUID, as.Mount, as.Inode = KindFile, f.FS, f.Mount, f.Inode
	if format == FormatRaw {
		as.Size = f.Size
	}
	as.Written = as.BackingOf != "" && writes
	s.disks = append(s.disks, as)
}

// FormatRaw is the format of an image whose size is the disk's.
const FormatRaw = "raw"

// access reports whether the guest has dev open, and whether for writing.
func (s *survey) access(dev event.Dev) (writes, open bool) {
	if s.held == nil {
		return false, true
	}
	for i := range s.held.Devices {
		if f := &s.held.Devices[i]; f.Dev != nil && *f.Dev == dev {
			open = true
			writes = writes || writing(f.Flags)
		}
	}
	return writes, open
}

// fileAccess is access for a file.
func (s *survey) fileAccess(id fileID) (writes, open bool) {
	if s.held == nil {
		return false, true
	}
	for i := range s.held.Files {
		if f := &s.held.Files[i]; f.Inode == id.inode && f.Dev == id.dev {
			open = true
			writes = writes || writing(f.Flags)
		}
	}
	return writes, open
}

func writing(flags uint32) bool { return flags&unix.O_ACCMODE != unix.O_RDONLY }

func (s *survey) name(dev event.Dev) string {
	m, err := s.host.Status(dev)
	if err != nil {
		return ""
	}
	return m.Name
}
