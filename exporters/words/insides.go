package words

import (
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/inspect"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Insides tells what was seen inside the disks of guests that is no finding: logs that
// will be replayed, and what is not known. Nothing where the record is of a version that
// never looked.
func (t *Teller) Insides(tl *timeline.Timeline) Paragraph {
	var p Paragraph
	switch tl.Inspect {
	case "":
		return p
	case "off":
		p.Say("What is inside the disks was not looked at (inspect: off).", Dim)
		return p
	}
	var dirty, unclean, bare, unknown []string
	why, fine := "", 0
	for _, g := range tl.Guests {
		known := true
		for i := range g.Disks {
			d := &g.Disks[i]
			if d.BackingOf != "" || !d.Announced || d.Kind != "" && d.Kind != string(guest.KindDisk) || d.Path == "" {
				continue
			}
			log, other := dirtyLayers(d)
			if log && !slices.Contains(dirty, d.Path) {
				dirty = append(dirty, d.Path)
			}
			if other && !slices.Contains(unclean, d.Path) {
				unclean = append(unclean, d.Path)
			}
			reason := unseen(d)
			switch {
			case reason == "":
				continue
			case nothingKnown(d):
				if !slices.Contains(bare, d.Path) {
					bare = append(bare, d.Path)
				}
			case !slices.Contains(unknown, d.Path):
				unknown = append(unknown, d.Path)
				if why == "" {
					why = reason
				}
			}
			known = false
		}
		if known {
			fine++
		}
	}
	if len(dirty) > 0 {
		p.Say("Inside", Dim)
		p.Say(t.disks(dirty), Strong)
		p.Say(plural(len(dirty), "is a log that is dirty: the guest replays it", "are logs that are dirty: the guests replay them")+" (normal after a power cut).", Dim)
	}
	if len(unclean) > 0 {
		p.Say(t.disks(unclean), Strong)
		p.Say(plural(len(unclean), "was", "were")+" in use when last written: the guest checks that at its start (normal after a power cut).", Dim)
	}
	if len(bare) > 0 {
		p.Say("On", Warn)
		p.Say(t.disks(bare), Strong)
		p.Say("there is no file system that bootrace knows.", Warn)
	}
	if len(unknown) > 0 {
		p.Say("Not everything inside", Warn)
		p.Say(t.disks(unknown), Strong)
		if len(unknown) == 1 {
			why = strings.TrimPrefix(why, unknown[0]+": ") // which it is was just said
		}
		p.Say("could be looked at:", Warn)
		p.Say(t.Name(why, PathCols)+plural(len(unknown), ".", ", for example."), Warn)
	}
	if fine > 0 {
		p.Say("Of the others headers and the ends of logs were looked at, not directories or data.", Dim)
	}
	return p
}

// unseen says why not all of a disk's inside is known, empty where that was looked at.
func unseen(d *timeline.Disk) string {
	switch {
	case d.Inside == nil:
		return "it was not looked into"
	case len(d.Inside.Unknown) > 0:
		return d.Inside.Unknown[0]
	}
	return ""
}

// nothingKnown reports whether a disk could be looked at and all that is on it is of
// no known format, or blank.
func nothingKnown(d *timeline.Disk) bool {
	if d.Inside == nil {
		return false
	}
	found := 0
	for i := range d.Inside.Layers {
		l := &d.Inside.Layers[i]
		switch inspect.Kind(l.Kind) {
		case inspect.KindDisk, inspect.KindImage:
		case inspect.KindUnknown, inspect.KindBlank:
			if len(l.Checked) == 0 { // it could not be read
				return false
			}
			found++
		default:
			return false
		}
	}
	return found > 0 && found == len(d.Inside.Unknown)
}

// Dirty reports whether something in a disk has a log that the guest will replay.
func Dirty(d *timeline.Disk) bool {
	log, _ := dirtyLayers(d)
	return log
}

// dirtyLayers says of what was in use when it was last written whether it has a log that
// is replayed, and whether something there has none.
func dirtyLayers(d *timeline.Disk) (log, other bool) {
	if d.Inside == nil {
		return false, false
	}
	for i := range d.Inside.Layers {
		// What is not known of one is told instead.
		if l := &d.Inside.Layers[i]; l.State == string(inspect.StateDirty) && len(l.Unknown) == 0 {
			replayed := asLayer(l).Replayed()
			log, other = log || replayed, other || !replayed
		}
	}
	return log, other
}

// asLayer is as much of a recorded layer as says what its state means.
func asLayer(l *event.InsideLayer) *inspect.Layer {
	return &inspect.Layer{Kind: inspect.Kind(l.Kind), State: inspect.State(l.State), Why: l.Why}
}

// InsideOf tells what was seen in a disk in a few words, a line a layer, empty where
// nothing was.
func (t *Teller) InsideOf(d *timeline.Disk) string {
	if d.Inside == nil {
		return ""
	}
	var lines []string
	for i := range d.Inside.Layers {
		l := &d.Inside.Layers[i]
		if l.Kind == string(inspect.KindDisk) || l.Kind == string(inspect.KindImage) {
			continue
		}
		line := strings.TrimSpace(t.Name(l.Kind, NameCols) + " " + t.Name(l.Name, NameCols))
		if l.Needs > 0 {
			line += ": needs " + Bytes(l.Needs)
			if l.Short() > 0 {
				line += ", has " + Bytes(l.Has)
			}
		}
		switch inspect.State(l.State) {
		case "":
		case inspect.StateDirty:
			switch {
			case len(l.Unknown) > 0:
				line += "; dirty"
			case asLayer(l).Replayed():
				line += "; dirty: the guest replays its log (normal after a power cut)"
			default:
				line += "; dirty: the guest checks it at its start (normal after a power cut)"
			}
		default:
			line += "; " + t.Name(l.State, NameCols)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
