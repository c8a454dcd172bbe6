package event

import "slices"

// Payloads is memory for what events point to, for a Decoder and one who is done
// with many events at a time. The zero value is ready.
type Payloads struct {
	keep  bool // for other events
	proc  slab[Proc]
	open  slab[OpenInfo]
	dev   slab[Dev]
	dm    slab[DMInfo]
	info  slab[DevInfo]
	texts slab[string]
	maps  []map[string]string
	used  int // of maps
}

// Reset takes the memory back from all events that have it: nobody may look any
// more at what they point to. Strings are not concerned.
func (p *Payloads) Reset() {
	p.proc.reset()
	p.open.reset()
	p.dev.reset()
	p.dm.reset()
	p.info.reset()
	p.texts.reset()
	p.used = 0
}

// slabLength is how many payloads are allocated at a time: one that is kept keeps
// its neighbours, so that more would save less than may be kept in vain.
const slabLength = 32

// slab is where payloads of one type come from.
type slab[T any] struct {
	free   []T
	blocks [][]T // of the memory that is used again
	next   int   // of blocks
}

func (s *slab[T]) one(p *Payloads) *T {
	if len(s.free) == 0 {
		s.block(p)
	}
	v := &s.free[0]
	s.free = s.free[1:]
	return v
}

func (s *slab[T]) block(p *Payloads) {
	if s.next < len(s.blocks) {
		s.free = s.blocks[s.next]
		clear(s.free)
		s.next++
		return
	}
	s.free = make([]T, slabLength)
	if p.keep {
		s.blocks = append(s.blocks, s.free)
		s.next++
	}
}

func (s *slab[T]) reset() { s.free, s.next = nil, 0 }

// textsOf copies a list.
func (p *Payloads) textsOf(list []string) []string {
	if !p.keep || len(list) > slabLength {
		return slices.Clone(list)
	}
	if len(p.texts.free) < len(list) {
		p.texts.block(p)
	}
	out := p.texts.free[:len(list):len(list)]
	p.texts.free = p.texts.free[len(list):]
	copy(out, list)
	return out
}

func (p *Payloads) textMap() map[string]string {
	if p.used == len(p.maps) {
		m := make(map[string]string)
		if p.keep {
			p.maps = append(p.maps, m)
			p.used++
		}
		return m
	}
	m := p.maps[p.used]
	clear(m)
	p.used++
	return m
}
