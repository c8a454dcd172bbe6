package inspect

import (
	"cmp"
	"fmt"
	"strings"
)

// TroubleKind is a kind of trouble.
type TroubleKind string

// The kinds of trouble. A dirty log is none.
const (
	// Truncated: a layer needs more bytes than its device has.
	Truncated TroubleKind = "truncated"
	// PartMissing: from some byte on a file system's headers are not there.
	PartMissing TroubleKind = "part-missing"
	// Damaged: a header failed a check.
	Damaged TroubleKind = "damaged"
	// FSErrors: the file system says of itself that it has errors.
	FSErrors TroubleKind = "fs-errors"
)

// Trouble is something that can keep a guest from coming up.
type Trouble struct {
	Kind TroubleKind `json:"kind"`
	// Layer names the layer with those around it, from the outside; In is its kind.
	Layer string `json:"layer"`
	In    Kind   `json:"layer_kind"`
	// Needs and Has are set for Truncated, At for PartMissing and Damaged.
	Needs int64 `json:"needs_bytes,omitempty"`
	Has   int64 `json:"has_bytes,omitempty"`
	At    int64 `json:"at,omitempty"`
	// Copy is set where another header, which is sound, serves as well.
	Copy bool `json:"copy,omitempty"`
	// What is what was seen, for people.
	What string `json:"what"`
}

// Title is what to call a layer: its kind and name.
func (l *Layer) Title() string {
	title := string(l.Kind)
	if l.Kind == KindExt || l.Kind == KindFAT {
		title = cmp.Or(l.Detail, title)
	}
	return strings.TrimSpace(title + " " + l.Name)
}

// judge sets the troubles, and what is not known.
func (d *InspectedDisk) judge() {
	d.Troubles = []Trouble{}
	for i := range d.Images {
		e := &d.Images[i]
		layer := e.Format + " image " + e.Path
		if e.Needs > e.Has {
			d.Troubles = append(d.Troubles, Trouble{
				Kind: Truncated, Layer: layer, In: KindImage, Needs: e.Needs, Has: e.Has,
				What: "the image has clusters in use beyond the end of its device",
			})
		}
		if e.Damage != "" {
			d.Troubles = append(d.Troubles, Trouble{Kind: Damaged, Layer: layer, In: KindImage, What: e.Damage})
		}
		if e.Why != "" {
			d.Unknown = append(d.Unknown, fmt.Sprintf("%s: %s", e.Path, e.Why))
		}
		for _, text := range e.Unknown {
			d.Unknown = append(d.Unknown, fmt.Sprintf("%s: %s", e.Path, text))
		}
	}
	if d.Report == nil {
		d.Unknown = append(d.Unknown, d.Why)
		return
	}
	d.walk(d.Report.Disk, "", false)
	if d.Report.Cut != "" {
		d.Unknown = append(d.Unknown, d.Report.Cut)
	}
	if d.WritersUnknown {
		d.Unknown = append(d.Unknown, "whether somebody writes to it meanwhile: not every process could be looked at")
	}
}

// walk judges a layer and those inside. cut is set where one around it is short
// already: what is inside is then, too.
func (d *InspectedDisk) walk(l *Layer, around string, cut bool) {
	where := l.Title()
	if around != "" {
		where = around + ", " + where
	}
	trouble := func(t Trouble) {
		t.Layer, t.In = where, l.Kind
		d.Troubles = append(d.Troubles, t)
	}
	if l.Short() > 0 && !cut {
		cut = true
		trouble(Trouble{Kind: Truncated, Needs: l.Needs, Has: l.Has, What: "it needs more bytes than there are"})
	}
	if l.Absent != nil {
		what := fmt.Sprintf("from byte %d on its headers are absent: %d were looked for", l.Absent.From, l.Absent.Looked)
		if l.Absent.Zeros {
			what += ", and zeros are in their place"
		}
		trouble(Trouble{Kind: PartMissing, At: l.Absent.From, What: what})
	}
	for _, h := range l.Damage {
		trouble(Trouble{Kind: Damaged, At: h.At, Copy: h.Copy, What: h.What + ": " + h.Check})
	}
	switch l.State {
	case StateErrors:
		trouble(Trouble{Kind: FSErrors, What: l.Why})
	case StateUnknown, StateEncrypted:
		d.Unknown = append(d.Unknown, where+": "+l.Why)
	}
	for _, text := range l.Unknown {
		d.Unknown = append(d.Unknown, where+": "+text)
	}
	if l.Kind == KindDisk {
		where = ""
	}
	for _, in := range l.Inside {
		d.walk(in, where, cut)
	}
}
