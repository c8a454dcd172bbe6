package inspect

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/image"
)

// What is kept of a look: these bounds, and the fields of event.InsideInfo. Notes,
// times and paths inside a guest are not kept.
const (
	maxLayers = 64
	maxText   = 256 // bytes of each text
	maxDamage = 8   // of each layer
	maxDigest = 16  // layers that are remembered of a disk
)

// KindImage is the kind of an image in what is recorded of a disk: the file or
// device that the bytes come from.
const KindImage Kind = "image"

// imageHeader is what can be damaged of an image.
const imageHeader = "header"

// Recorded is the form of a look in a boot's record, within the bounds above. What
// Report says of it is the same after Replay.
func (d *InspectedDisk) Recorded() *event.InsideInfo {
	info := &event.InsideInfo{Disk: d.Path, Live: len(d.Writers) > 0 || d.WritersUnknown, Why: bound(d.Why)}
	info.Dev, info.Name, info.UUID, info.Size = d.dev, bound(d.name), bound(d.uuid), d.size
	add := func(l *event.InsideLayer) int {
		if len(info.Layers) == maxLayers {
			info.More++
			return -1
		}
		info.Layers = append(info.Layers, *l)
		return len(info.Layers) - 1
	}
	for i := range d.Images {
		e := &d.Images[i]
		l := event.InsideLayer{
			Kind: string(KindImage), Over: -1, Name: bound(e.Path), Detail: bound(e.Format), Needs: e.Needs, Has: e.Has, Why: bound(e.Why), Unknown: bounded(e.Unknown),
		}
		if e.Damage != "" {
			l.Damage = []event.InsideDamage{{What: imageHeader, Check: bound(e.Damage)}}
		}
		add(&l)
	}
	if d.Report == nil {
		return info
	}
	info.Cut, info.Reads, info.Bytes = bound(d.Report.Cut), d.Report.Reads, d.Report.Bytes
	var walk func(l *Layer, over int)
	walk = func(l *Layer, over int) {
		at := add(l.recorded(over))
		for _, in := range l.Inside {
			if at < 0 {
				info.More++
				continue
			}
			walk(in, at)
		}
	}
	walk(d.Report.Disk, -1)
	return info
}

func (l *Layer) recorded(over int) *event.InsideLayer {
	out := &event.InsideLayer{
		Kind: string(l.Kind), Over: over, Name: bound(l.Name), Label: bound(l.Label), UUID: bound(l.UUID), Detail: bound(l.Detail),
		Offset: l.Offset, Needs: l.Needs, Has: l.Has, State: string(l.State), Why: bound(l.Why), Generation: l.Generation,
	}
	for _, h := range l.Damage[:min(len(l.Damage), maxDamage)] {
		out.Damage = append(out.Damage, event.InsideDamage{What: bound(h.What), At: h.At, Check: bound(h.Check), Copy: h.Copy})
	}
	if a := l.Absent; a != nil {
		out.Absent, out.Looked, out.Zeros = a.From, a.Looked, a.Zeros
	}
	out.Unknown, out.Checked = bounded(l.Unknown), bounded(l.Checked)
	return out
}

// bounded is bound for the first of a list of texts.
func bounded(texts []string) (list []string) {
	for _, text := range texts[:min(len(texts), maxDamage)] {
		list = append(list, bound(text))
	}
	return list
}

// bound cuts a text that a guest chose.
func bound(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText-len("…")], "") + "…"
}

// Replay makes of a record what Inspect said of a disk: its layers, its troubles,
// and what is not known. Whoever wrote the record, no layer is in itself.
func Replay(info *event.InsideInfo) *InspectedDisk {
	d := &InspectedDisk{Path: info.Disk, Why: info.Why, dev: info.Dev, name: info.Name, uuid: info.UUID, size: info.Size}
	if info.Live {
		d.Writers = []image.Use{{Path: info.Disk}}
	}
	layers := make([]*Layer, len(info.Layers))
	for i := range info.Layers {
		r := &info.Layers[i]
		if Kind(r.Kind) == KindImage {
			e := image.Extent{Path: r.Name, Format: r.Detail, Needs: r.Needs, Has: r.Has, Why: r.Why, Unknown: slices.Clone(r.Unknown)}
			if len(r.Damage) > 0 {
				e.Damage = r.Damage[0].Check
			}
			d.Images = append(d.Images, e)
			continue
		}
		l := &Layer{
			Kind: Kind(r.Kind), Name: r.Name, Label: r.Label, UUID: r.UUID, Detail: r.Detail, Offset: r.Offset,
			Needs: r.Needs, Has: r.Has, State: State(r.State), Why: r.Why, Generation: r.Generation, Unknown: slices.Clone(r.Unknown), Checked: slices.Clone(r.Checked),
		}
		for _, h := range r.Damage {
			l.Damage = append(l.Damage, Damage{What: h.What, At: h.At, Check: h.Check, Copy: h.Copy})
		}
		if r.Absent > 0 {
			l.Absent = &Absent{From: r.Absent, Looked: r.Looked, Zeros: r.Zeros}
		}
		layers[i] = l
		switch {
		case r.Over >= 0 && r.Over < i && layers[r.Over] != nil:
			layers[r.Over].Inside = append(layers[r.Over].Inside, l)
		case d.Report == nil:
			d.Report = &Report{Name: info.Disk, Disk: l, Cut: info.Cut, Reads: info.Reads, Bytes: info.Bytes}
		}
	}
	d.judge()
	if info.More > 0 {
		d.Unknown = append(d.Unknown, "not all layers of it are recorded")
	}
	return d
}

// Walk calls f for each layer of the disk, from the outside in.
func (d *InspectedDisk) Walk(f func(*Layer)) {
	var walk func(*Layer)
	walk = func(l *Layer) {
		f(l)
		for _, in := range l.Inside {
			walk(in)
		}
	}
	if d.Report != nil {
		walk(d.Report.Disk)
	}
}

// Digest is what is remembered of a disk's inside: the layers that have a size of
// their own or a generation, the first of them. Nil where nothing was seen, or where
// it was in use.
func (d *InspectedDisk) Digest() []event.MemoryLayer {
	if len(d.Writers) > 0 || d.WritersUnknown {
		return nil
	}
	var list []event.MemoryLayer
	d.Walk(func(l *Layer) {
		if len(list) < maxDigest && l.Kind != KindDisk && (l.Needs > 0 || l.Generation > 0) {
			list = append(list, event.MemoryLayer{
				Kind: string(l.Kind), Name: bound(l.Name), UUID: bound(l.UUID), Needs: l.Needs, Has: l.Has, State: string(l.State), Generation: l.Generation,
			})
		}
	})
	return list
}

// Short reports whether something in the disk needs more bytes than there are. That
// holds while the guest runs, too.
func (d *InspectedDisk) Short() bool {
	return slices.ContainsFunc(d.Troubles, func(t Trouble) bool { return t.Kind == Truncated })
}

// CutOff returns the troubles for which enforce.filesystem holds or denies a start:
// something needs more bytes than there are, or a part is missing, and a guest that
// starts on it writes to it and makes that worse.
func (d *InspectedDisk) CutOff() []Trouble {
	_, spare := d.ShortLayer()
	var list []Trouble
	for _, t := range d.Troubles {
		if t.Kind == Truncated && !spare || t.Kind == PartMissing {
			list = append(list, t)
		}
	}
	return list
}

// ShortLayer returns the first layer that falls short, nil where none does, and whether
// that costs nobody anything: a table that ends beyond the disk, where no partition and
// nothing in one does.
func (d *InspectedDisk) ShortLayer() (first *Layer, spare bool) {
	spare = true
	d.Walk(func(l *Layer) {
		if l.Short() == 0 {
			return
		}
		first = cmp.Or(first, l)
		spare = spare && (l.Kind == KindGPT || l.Kind == KindMBR)
	})
	return first, spare && first != nil
}

// generationBits is how many bits the counter has that a kind's generation is.
func generationBits(k Kind) int {
	if k == KindExt {
		return 32 // the journal's sequence number, which wraps
	}
	return 64
}

// Older reports whether a generation of one file system is from before another one
// of it.
func Older(k Kind, now, last uint64) bool {
	if now == 0 || last == 0 || now == last {
		return false
	}
	if generationBits(k) == 32 {
		return int32(uint32(now)-uint32(last)) < 0
	}
	return now < last
}
