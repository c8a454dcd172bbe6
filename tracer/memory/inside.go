package memory

import (
	"slices"

	"github.com/bootrace/bootrace/tracer/event"
)

// Sight is what was seen in a disk in this boot. Layers are nil where it was only seen
// while its guest ran.
type Sight struct {
	Layers []event.MemoryLayer
	Short  bool // something in it needs more bytes than there are
}

// maxInside bounds the layers that are remembered of one disk, and maxLayerText
// their texts, which a guest chose.
const (
	maxInside    = 16
	maxLayerText = 256
)

// Inspected notes what was seen in the disk of a guest at that path. It goes into the
// memory with the disk, once the guest has run on it.
func (s *Store) Inspected(guest, path string, saw Sight) {
	if guest == "" || len(guest) > maxName || len(path) > maxPath {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.sights[guest]
	switch {
	case of == nil && len(s.sights) >= maxGuests, len(of) >= maxDisks:
		return
	case of == nil:
		of = map[string]Sight{}
		s.sights[guest] = of
	}
	if known := of[clean(path)]; saw.Layers == nil { // the guest runs by now
		saw = Sight{known.Layers, saw.Short || known.Short}
	}
	of[clean(path)] = Sight{boundedInside(saw.Layers), saw.Short}
}

// attach adds what was seen in disks in this boot.
func (s *Store) attach(guest string, disks []event.MemoryDisk) {
	of := s.sights[guest]
	if of == nil {
		return
	}
	for i := range disks {
		d := &disks[i]
		saw, ok := of[clean(d.Path)]
		if !ok || d.BackingOf != "" {
			continue
		}
		if saw.Layers != nil {
			d.Inside, d.InsideBoot = saw.Layers, s.boot
		}
		if saw.Short {
			d.ShortSince = s.boot
			if l := s.guests[guest]; l != nil {
				d.ShortSince = shortSince(l, d, s.boot)
			}
		}
	}
}

// shortSince is the first boot in which a disk was short that is short in this one.
func shortSince(l *life, d *event.MemoryDisk, boot string) string {
	for _, list := range [][]event.MemoryDisk{l.Since, l.Disks} {
		for i := range list {
			if old := &list[i]; old.ShortSince != "" && SameDisk(old, d) {
				return old.ShortSince
			}
		}
	}
	return boot
}

// Seen returns what is remembered of the inside of a disk that a guest has now: of
// what it ran on since, or else of what it should run on; nil where nothing is.
func Seen(last *event.MemoryInfo, now *event.MemoryDisk) *event.MemoryDisk {
	if last == nil {
		return nil
	}
	for _, list := range [][]event.MemoryDisk{last.Since, last.Disks} {
		for i := range list {
			if d := &list[i]; d.InsideBoot != "" && SameDisk(d, now) {
				return d
			}
		}
	}
	return nil
}

func boundedInside(layers []event.MemoryLayer) []event.MemoryLayer {
	layers = slices.Clone(layers[:min(len(layers), maxInside)])
	return slices.DeleteFunc(layers, func(l event.MemoryLayer) bool {
		return slices.ContainsFunc([]string{l.Kind, l.Name, l.UUID, l.State}, func(text string) bool { return len(text) > maxLayerText })
	})
}
