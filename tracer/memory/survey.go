package memory

import (
	"cmp"

	"golang.org/x/sys/unix"

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

// maxDisks bounds what is remembered of one guest, backing files included.
const maxDisks = 256

// Survey says what a guest's disks lead to now, as Compare takes it: each disk
// that is a mapping, and each backing file that is. chains are what the headers
// name, as far as it is known.
//
// held are the devices that the guest has open, with the path and flags of
// each: only these count then, and those that no disk leads to are listed, too.
// For a guest that has not started yet it is nil.
func Survey(m Mappings, g *guest.Guest, chains []*image.Chain, held []event.OpenInfo) []event.MemoryDisk {
	s := survey{mappings: m, held: held, all: held == nil, listed: map[event.Dev]bool{}}
	for i := range g.Disks {
		s.disk(&g.Disks[i])
	}
	for _, c := range chains {
		s.chain(c)
	}
	for i := range held {
		if f := &held[i]; f.Dev != nil {
			s.add(*f.Dev, event.MemoryDisk{})
		}
	}
	return s.disks
}

// survey is one Survey.
type survey struct {
	mappings Mappings
	held     []event.OpenInfo
	all      bool
	listed   map[event.Dev]bool
	disks    []event.MemoryDisk
}

func (s *survey) disk(d *guest.Disk) {
	if d.Kind == guest.KindCDROM || d.Kind == guest.KindFloppy {
		return // removable media come and go
	}
	over := ""
	for i := range d.Images() {
		if i.Storage == guest.StorageFile {
			s.path(event.MemoryDisk{Path: i.Path, ID: d.ID, DeviceID: d.DeviceID, Serial: d.Serial, BackingOf: over})
		}
		over = cmp.Or(over, d.Path)
	}
}

func (s *survey) chain(c *image.Chain) {
	for i := range c.Members {
		if m := &c.Members[i]; m.FromHeader && m.Storage == guest.StorageFile {
			s.path(event.MemoryDisk{Path: m.Path, BackingOf: c.Members[0].Path})
		}
	}
}

// path adds what a path leads to.
func (s *survey) path(as event.MemoryDisk) {
	if at, err := s.mappings.Resolve(as.Path); err == nil && at.Mapping != nil {
		s.add(at.Dev, as)
	}
}

// add adds a mapping, once.
func (s *survey) add(dev event.Dev, as event.MemoryDisk) {
	writes, open := s.access(dev)
	if s.listed[dev] || !open || len(s.disks) == maxDisks {
		return
	}
	m, err := s.mappings.Get(dev)
	if err != nil || m.Flags&devmap.FlagActive == 0 {
		return
	}
	s.listed[dev] = true
	as.Path = cmp.Or(as.Path, "/dev/mapper/"+m.Name)
	as.Name, as.UUID, as.Size = m.Name, m.UUID, m.Size
	as.Table = NamedTable(m.Table(), s.name)
	as.Written = as.BackingOf != "" && writes
	s.disks = append(s.disks, as)
}

// access reports whether the guest has dev open, and whether for writing.
func (s *survey) access(dev event.Dev) (writes, open bool) {
	for i := range s.held {
		if f := &s.held[i]; f.Dev != nil && *f.Dev == dev {
			open = true
			writes = writes || f.Flags&unix.O_ACCMODE != unix.O_RDONLY
		}
	}
	return writes, open || s.all
}

func (s *survey) name(dev event.Dev) string {
	m, err := s.mappings.Status(dev)
	if err != nil {
		return ""
	}
	return m.Name
}
