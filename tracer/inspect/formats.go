package inspect

import (
	"errors"
	"fmt"
)

// format is a kind of thing that can be on a disk.
type format struct {
	name string // for people
	// find returns the layer that begins at the area's first byte: nil where it is
	// no such thing. It fills in all but Offset and Has. What it can't read or
	// what is damaged is in the layer; the error is of a read without which
	// nothing is known.
	find func(*area) (*Layer, error)
}

// formats are all that are known. The first that is found counts; what else has
// its signature there is noted. Tables that leave room for a boot sector come
// after the file systems that have one.
var formats = []format{gpt, luks, lvm, xfs, ext, btrfs, ntfs, fat, swap, mbr}

// maxDepth bounds layers within layers: disk, table, partition, physical volume,
// volume, and a file system come to six.
const maxDepth = 8

// identify finds out what is in the area and adds it to the layer around.
func (a *area) identify(around *Layer) {
	if a.depth > maxDepth {
		around.Notes = append(around.Notes, "what is inside is too deep to be looked at")
		return
	}
	head, err := a.read(0, int(min(headSize, a.size)))
	if err != nil {
		around.unknown(a, err)
		return
	}
	a.head = head
	var found *Layer
	var others []string
	for _, f := range a.looking.formats {
		l, err := f.find(a)
		switch {
		case err != nil && !errors.Is(err, errBeyond):
			if found == nil {
				around.unknown(a, err)
				return
			}
		case l == nil:
		case found == nil:
			found = l
		case l.Kind == KindMBR && found.Kind == KindGPT: // each GPT has one beside it
		default:
			others = append(others, f.name)
		}
	}
	if found == nil {
		found = a.nothing()
	}
	for _, name := range others {
		found.Notes = append(found.Notes, "the signature of "+name+" is there, too: left over from before, or what is really used")
	}
	found.Has = a.size
	around.Inside = append(around.Inside, found)
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

// damageCopy is damage of a header that is a copy.
func (l *Layer) damageCopy(what string, at int64, format string, args ...any) {
	n := len(l.Damage)
	if l.damage(what, at, format, args...); len(l.Damage) > n {
		l.Damage[n].Copy = true
	}
}

func (l *Layer) note(format string, args ...any) {
	l.Notes = append(l.Notes, fmt.Sprintf(format, args...))
}

func (l *Layer) looked(format string, args ...any) {
	l.Checked = append(l.Checked, fmt.Sprintf(format, args...))
}
