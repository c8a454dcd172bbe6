package timeline

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
)

// imageFact is what the headers of a guest's disk name.
type imageFact struct {
	stamp
	pid  int
	info event.ImageInfo
}

// memoryFact is what a guest last ran on.
type memoryFact struct {
	stamp
	pid  int
	info event.MemoryInfo
}

func (b *Builder) addImage(e *event.Event) {
	if e.Image == nil || e.Proc == nil {
		return
	}
	f := imageFact{stampOf(e), e.Proc.PID, *e.Image}
	f.info.Disk = strings.Clone(f.info.Disk)
	f.info.Members = slices.Clone(f.info.Members)
	for i := range f.info.Members {
		m := &f.info.Members[i]
		m.Path, m.Why, m.Format = strings.Clone(m.Path), strings.Clone(m.Why), strings.Clone(m.Format)
		m.Role, m.State, m.Name, m.UUID, m.Dev = strings.Clone(m.Role), strings.Clone(m.State), "", "", nil
	}
	b.images = append(b.images, f)
}

func (b *Builder) addMemory(e *event.Event) {
	if e.Memory == nil || e.Proc == nil && !e.Memory.Accepted {
		return
	}
	f := memoryFact{stampOf(e), 0, *e.Memory}
	if e.Proc != nil {
		f.pid = e.Proc.PID
	}
	f.info.Guest, f.info.Boot = strings.Clone(f.info.Guest), strings.Clone(f.info.Boot)
	f.info.Disks, f.info.Before, f.info.Since = clonedDisks(f.info.Disks), clonedDisks(f.info.Before), clonedDisks(f.info.Since)
	if f.info.Accepted {
		b.accepted = append(b.accepted, f)
		return
	}
	b.memories = append(b.memories, f)
}

func clonedDisks(disks []event.MemoryDisk) []event.MemoryDisk {
	out := slices.Clone(disks)
	for i := range out {
		d := &out[i]
		for _, text := range []*string{&d.Path, &d.ID, &d.DeviceID, &d.Serial, &d.BackingOf, &d.DeviceKind, &d.Name, &d.UUID, &d.Mount, &d.Format, &d.InsideBoot, &d.ShortSince} {
			*text = strings.Clone(*text)
		}
		d.Table = cloned(d.Table)
		d.Inside = slices.Clone(d.Inside)
		for j := range d.Inside {
			for _, text := range []*string{&d.Inside[j].Kind, &d.Inside[j].Name, &d.Inside[j].UUID, &d.Inside[j].State} {
				*text = strings.Clone(*text)
			}
		}
	}
	return out
}

// recall gives the guests what the service read and remembered about them.
func (p *processes) recall(images []imageFact, memories []memoryFact) {
	images = slices.SortedStableFunc(slices.Values(images), func(a, b imageFact) int { return a.compare(&b.stamp) })
	for i := range images {
		if g := p.begun(images[i].pid, images[i].at); g != nil {
			g.announceChain(&images[i].info)
		}
	}
	for i := range memories {
		f := &memories[i]
		g := p.begun(f.pid, f.at)
		if g == nil || f.info.Guest != identityOf(g.fact.guest) {
			continue
		}
		if g.memory == nil || f.compare(&g.memory.stamp) < 0 {
			g.memory = f
		}
	}
}

func identityOf(g guest.Guest) string { return g.Identity.String() }

// begun returns the guest that the process ran last at that time, whether it
// has ended since or not: what is read about a guest can be late.
func (p *processes) begun(pid int, at event.Time) *guestLife {
	t := p.tenures[pid]
	for i := len(t) - 1; i >= 0; i-- {
		if t[i].start.from <= at {
			return t[i].guest
		}
	}
	return nil
}

// announceChain lists what the headers of a disk's images name.
func (g *guestLife) announceChain(info *event.ImageInfo) {
	for i := range info.Members {
		m := &info.Members[i]
		n, known := g.byPath[g.names.add(clean(m.Path))]
		if !known && m.FromHeader && m.Path != "" {
			needs := m.State != string(image.StateElsewhere)
			storage := guest.StorageFile
			if !needs {
				storage = guest.StorageNetwork
			}
			n = g.addDisk(Disk{
				Path: m.Path, Format: m.Format, ReadOnly: m.Role == string(image.RoleBacking),
				Storage: string(storage), Needs: needs, FromHeader: true, BackingOf: info.Disk,
			})
			known = true
		}
		if known {
			g.out.Disks[n].Problem = problemOf(m)
		}
	}
	if n, known := g.byPath[g.names.add(clean(info.Disk))]; known && info.Cut != "" {
		g.out.Disks[n].Problem = info.Cut
	}
}

// problemOf says why a header was not followed.
func problemOf(m *event.ImageMember) string {
	switch image.State(m.State) {
	case image.StateUnreadable, image.StateRefused, image.StateLoop:
		return cmp.Or(m.Why, m.State)
	}
	return ""
}
