package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/dustin/go-humanize"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/hold"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/memory"
	"github.com/bootrace/bootrace/tracer/readiness"
)

// errNoMemory says that nothing is known of earlier boots yet.
var errNoMemory = errors.New("what it last ran on is not known before /var is there")

// compare tells where the disks of a guest that is about to start, all ready,
// are not what it last ran on. The same comparison makes the findings.
func (s *Service) compare(g *guest.Guest, members []readiness.Member) ([]hold.Doubt, error) {
	if !s.memory.Opened() {
		return nil, errNoMemory
	}
	last := s.memory.Last(g.Identity.String())
	if last == nil {
		return nil, nil
	}
	control, err := devmap.Open()
	if err != nil {
		return nil, fmt.Errorf("compare its disks with what it last ran on: %w", err)
	}
	defer control.Close()
	now := memory.Survey(looked{Control: control, members: members}, g, chainsOf(members), nil)
	changes := memory.Compare(last, now, existing(control))
	if len(changes) > 0 {
		s.memory.Saw(g.Identity.String(), g.Name, now)
	}
	var doubts []hold.Doubt
	for _, c := range changes {
		doubts = append(doubts, hold.Doubt{Kind: string(c.Kind), Disk: now[c.Now].Path, Text: doubt(&now[c.Now], &c)})
	}
	return doubts, nil
}

// looked leads paths to where readiness saw them lead, in the guest's own mount
// namespace.
type looked struct {
	*devmap.Control
	memory.Local
	members []readiness.Member
}

func (l looked) Resolve(path string) (devmap.Resolution, error) {
	for i := range l.members {
		m := &l.members[i]
		switch {
		case m.Path != path || m.Node == "" || m.Broken:
			continue
		case m.Dev == nil && m.Ready: // a file
			return devmap.Resolution{Path: path, Node: m.Node}, nil
		case m.Dev == nil:
			continue
		}
		r := devmap.Resolution{Path: path, Node: m.Node, Mode: fs.ModeDevice, Dev: *m.Dev}
		mapping, err := l.Status(*m.Dev)
		if errors.Is(err, devmap.ErrNotMapping) {
			return r, nil
		}
		r.Mapping = &mapping
		return r, err
	}
	return devmap.Resolution{Path: path}, fs.ErrNotExist
}

// chainsOf makes chains of what readiness found in the headers.
func chainsOf(members []readiness.Member) []*image.Chain {
	var chains []*image.Chain
	for i := range members {
		if m := &members[i]; m.Disk != "" {
			chains = append(chains, &image.Chain{Members: []image.Member{
				{Path: m.Disk, Storage: guest.StorageFile, Over: -1},
				{Path: m.Path, Storage: guest.StorageFile, FromHeader: true},
			}})
		}
	}
	return chains
}

// existing reports whether a disk is there at all. What can't be found out
// is taken to be there: nobody is to be kept from starting by a guess.
func existing(control *devmap.Control) func(*event.MemoryDisk) bool {
	return func(d *event.MemoryDisk) bool {
		if d.DeviceKind != "" {
			return memory.Local{}.Exists(d)
		}
		list, err := control.List(context.Background())
		if err != nil {
			return true
		}
		for _, m := range list {
			full, err := control.Status(m.Dev)
			if err != nil {
				if !errors.Is(err, unix.ENXIO) && !errors.Is(err, devmap.ErrNotMapping) {
					return true
				}
				continue
			}
			if memory.SameDisk(d, &event.MemoryDisk{Name: full.Name, UUID: full.UUID}) {
				return true
			}
		}
		return false
	}
}

// doubt tells a change.
func doubt(now *event.MemoryDisk, c *memory.Change) string {
	size := func(d *event.MemoryDisk) string { return humanize.IBytes(uint64(max(d.Size, 0))) }
	var text string
	switch c.Kind {
	case memory.Shrunk:
		text = fmt.Sprintf("%s has %s, and had %s when the guest last ran", now.Path, size(now), size(&c.Last))
	case memory.Vanished:
		text = fmt.Sprintf("%s, which the guest last ran on by %s, does not exist", memory.Describe(&c.Last), c.Last.Path)
	default:
		text = fmt.Sprintf("%s leads to %s of %s, and the guest last ran on %s of %s by %s",
			now.Path, memory.Describe(now), size(now), memory.Describe(&c.Last), size(&c.Last), c.Last.Path)
	}
	if c.Why != "" {
		text += "; " + c.Why
	}
	return text
}
