package inspect

import (
	"errors"
	"fmt"
	"slices"
)

// format is a kind of thing that can be on a disk.
type format struct {
	name string // for people
	// find returns the layer that begins at the area's first byte: nil where it is
	// no such thing. It fills in all but Offset and Has. What it can't read or
	// what is damaged is in the layer; the error is of a read without which
	// nothing is known. It may be nil.
	find func(*area) (*Layer, error)
	// remains is find for what has lost its signature, and is known by other headers.
	// These stay behind where something else was made in its place, so it is asked only
	// where nothing has its signature. It may be nil.
	remains func(*area) (*Layer, error)
}

// formats are all that are known, in the order in which they count where more than
// one is found. The makers of file systems, of swap, of LVM and of LUKS overwrite the
// bytes in front of their own; so whatever lies further on is older: btrfs is behind
// the others. A pool of ZFS has no signature, and what it leaves counts before what others do.
var formats = []format{zfs, gpt, raid, luks, lvm, xfs, ext, ntfs, fat, swap, btrfs, mbr, mirror, foreign}

// maxDepth bounds layers within layers: disk, table, partition, physical volume,
// volume, and a file system come to six.
const maxDepth = 8

// candidate is a layer that was found, with the physical volumes in it.
type candidate struct {
	layer *Layer
	name  string
	pvs   []*physical
}

// identify finds out what is in the area and adds it to the layer around.
func (a *area) identify(around *Layer) {
	if a.depth > maxDepth {
		around.unsure("what is inside is too deep to be looked at")
		return
	}
	head, err := a.read(0, int(min(headSize, a.size)))
	if err != nil {
		around.unknown(a, err)
		return
	}
	a.head = head
	found, err := a.candidates()
	if err != nil {
		around.unknown(a, err)
		return
	}
	if len(found) == 0 {
		found = []candidate{{layer: a.nothing()}}
	}
	used := a.used(found)
	for i := range found {
		if i != used {
			a.beside(&found[used], &found[i])
		}
	}
	a.looking.pvs = append(a.looking.pvs, found[used].pvs...)
	l := found[used].layer
	l.Has = a.size
	around.Inside = append(around.Inside, l)
}

// candidates returns all that has its signature here, else what remains of something.
// The error is of a read without which the first of them is not known.
func (a *area) candidates() ([]candidate, error) {
	var found []candidate
	add := func(name string, find func(*area) (*Layer, error)) error {
		if find == nil {
			return nil
		}
		before := len(a.looking.pvs)
		l, err := find(a)
		pvs := slices.Clone(a.looking.pvs[before:])
		a.looking.pvs = a.looking.pvs[:before]
		if l != nil {
			found = append(found, candidate{l, name, pvs})
		}
		if len(found) > 0 || errors.Is(err, errBeyond) {
			return nil
		}
		return err
	}
	for _, f := range a.looking.formats {
		if err := add(f.name, f.find); err != nil {
			return nil, err
		}
	}
	for _, f := range a.looking.formats {
		if len(found) > 0 {
			break
		}
		if err := add(f.name, f.remains); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// used returns which of the candidates counts: the first, or the partition table at the
// beginning of a disk. A table would not have outlived what was made in its place: only
// a boot sector leaves room for one. Inside partitions and volumes the guest's kernel
// looks for none.
func (a *area) used(found []candidate) int {
	if a.depth > 0 {
		return 0
	}
	switch found[0].layer.Kind {
	case KindGPT, KindNTFS, KindFAT:
		return 0
	}
	return max(0, slices.IndexFunc(found, func(c candidate) bool { return c.layer.Kind == KindMBR }))
}

// beside tells of something else that has its signature in the same place.
func (a *area) beside(used, other *candidate) {
	switch l := used.layer; {
	case l.Kind == KindGPT && other.layer.Kind == KindMBR: // each GPT has one beside it
	case a.depth == 0 && (l.Kind == KindGPT || l.Kind == KindMBR):
		l.note("the signature of %s is there, too: the guest goes by the table", other.name)
	default:
		l.unsure("the signature of %s is there, too: left over from before, or what is really used", other.name)
	}
}

// unknown adds a layer of which nothing is known.
func (l *Layer) unknown(a *area, err error) {
	l.Inside = append(l.Inside, &Layer{Kind: KindUnknown, Has: a.size, State: StateUnknown, Why: err.Error()})
}

// nothing is the layer where no format was found.
func (a *area) nothing() *Layer {
	l := &Layer{Kind: KindBlank, State: StateUnknown}
	place := fmt.Sprintf("the first %d bytes", len(a.head))
	switch {
	case len(a.head) == 0:
		l.Why = "it has no bytes"
		return l
	case zeros(a.head):
		l.Why = place + " are zeros: nothing was ever written, or it is gone"
	default:
		l.Kind = KindUnknown
		l.Why = "no format that is known has its signature there"
		if len(a.head) >= 4 && string(a.head[:4]) == "QFI\xfb" {
			l.Why = "the bytes look like a qcow2 image, but nobody said that they are one"
		}
	}
	l.Checked = []string{place}
	return l
}

func zeros(data []byte) bool {
	for _, b := range data {
		if b != 0 {
			return false
		}
	}
	return true
}

// damage notes a failed check.
func (l *Layer) damage(what string, at int64, format string, args ...any) {
	const most = 64 // headers are sampled, so there are fewer
	if len(l.Damage) < most {
		l.Damage = append(l.Damage, Damage{What: what, At: at, Check: fmt.Sprintf(format, args...)})
	}
}

// damageCopy is damage of a header of which there is a sound one that serves as well.
func (l *Layer) damageCopy(what string, at int64, format string, args ...any) {
	n := len(l.Damage)
	if l.damage(what, at, format, args...); len(l.Damage) > n {
		l.Damage[n].Copy = true
	}
}

func (l *Layer) note(format string, args ...any) {
	l.Notes = append(l.Notes, fmt.Sprintf(format, args...))
}

// unsure notes something that is not known.
func (l *Layer) unsure(format string, args ...any) {
	l.Unknown = append(l.Unknown, fmt.Sprintf(format, args...))
}

func (l *Layer) looked(format string, args ...any) {
	l.Checked = append(l.Checked, fmt.Sprintf(format, args...))
}
