// Package repair mends damaged file systems of guests that do not run, the careful
// way.
//
// A file system is untrusted bytes: the host's kernel never mounts it. The repair is
// made in a throwaway virtual machine with the host's kernel and the host's xfs_repair
// or e2fsck, on a qcow2 overlay over the disk, so that nothing of it reaches the disk
// (Rehearse). The machine gets the file system's bytes alone, no network, and nothing
// of the host.
//
// What the repair changed is then compared out of the overlay into a file of changes:
// each changed block with its old and its new bytes, checksummed. Only once that file
// is on stable storage are the new bytes written to the disk (Apply). As all writes
// come from that file, each interruption leaves a disk from which Resume makes the
// repaired one and Undo the one before, byte for byte. Both refuse where anybody else
// wrote to those bytes meanwhile.
//
// What no repair can help is refused before anything is touched: a device that is too
// short or has lost a part (xfs_repair writes to it and fails), a disk in use, a
// hibernated guest, encryption, and formats that are not XFS or ext. A log that is
// only dirty needs no repair: the guest's own kernel replays it, and knows its
// features best.
package repair

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bootrace/bootrace/tracer/inspect"
)

// Target is one file system to repair.
type Target struct {
	Kind  inspect.Kind // KindXFS or KindExt
	Title string
	// Offset is where it begins on the disk that the guest sees, Size how many bytes
	// there are for it.
	Offset, Size int64
	// Why is what is wrong with it.
	Why []string
}

// Refusal says why a disk is not repaired, and what to do instead.
type Refusal struct{ Why string }

func (r *Refusal) Error() string { return r.Why }

func refuse(format string, args ...any) error { return &Refusal{fmt.Sprintf(format, args...)} }

// Targets returns the file systems of a disk that a repair can help. It refuses
// (*Refusal) where there is none, and where a repair could do harm.
func Targets(d *inspect.InspectedDisk) ([]Target, error) {
	if d.Report == nil {
		return nil, refuse("it can't be looked into: %s", d.Why)
	}
	if len(d.Writers) > 0 {
		w := d.Writers[0]
		if w.PID != 0 {
			return nil, refuse("it is in use by process %d (%s): stop the guest first", w.PID, w.Program)
		}
		return nil, refuse("it is in use by this host: it is mounted, or another device is made of it")
	}
	if d.WritersUnknown {
		return nil, refuse("whether somebody uses it is not known: not every process could be looked at; run this as root")
	}
	if _, spare := d.ShortLayer(); !spare {
		for i := range d.Troubles {
			if t := &d.Troubles[i]; t.Kind == inspect.Truncated {
				return nil, refuse("its %s needs %d bytes and has %d: give the device back what is missing first; a repair would write to it, fail, and make it worse", t.Layer, t.Needs, t.Has)
			}
		}
	}
	for i := range d.Troubles {
		if t := &d.Troubles[i]; t.Kind == inspect.PartMissing {
			return nil, refuse("its %s: %s: another device, or none, is in the place of that part; put the right one back first", t.Layer, t.What)
		}
	}
	if d.Report.Cut != "" {
		return nil, refuse("not all of it could be looked at: %s", d.Report.Cut)
	}
	for i := range d.Images {
		if e := &d.Images[i]; e.Why != "" {
			return nil, refuse("%s: %s", e.Path, e.Why)
		}
	}
	f := finder{size: d.Report.Disk.Has}
	f.walk(d.Report.Disk, 0, "", true)
	if f.err != nil {
		return nil, f.err
	}
	if len(f.targets) == 0 {
		return nil, f.nothing(d)
	}
	return f.targets, nil
}

// finder looks for targets.
type finder struct {
	size      int64
	targets   []Target
	dirty     []string
	encrypted []string
	err       error
}

// walk looks at a layer that begins at a byte of the disk; placed is unset where its
// bytes are not in one piece there.
func (f *finder) walk(l *inspect.Layer, at int64, around string, placed bool) {
	if f.err != nil {
		return
	}
	title := l.Title()
	if around != "" {
		title = around + ", " + title
	}
	why := reasons(l)
	sick := len(why) > 0
	switch {
	case l.State == inspect.StateHibernated:
		f.err = refuse("its %s: %s: a hibernated guest goes on from what its memory holds of its disks, and each change would be wrong for it", title, l.Why)
	case l.State == inspect.StateEncrypted:
		f.encrypted = append(f.encrypted, title)
	case sick && l.Kind != inspect.KindXFS && l.Kind != inspect.KindExt:
		f.err = refuse("its %s is damaged (%s): that is no file system that bootrace repairs; restore it by the tools of its own, and a backup", title, strings.Join(why, "; "))
	case sick && !placed:
		f.err = refuse("its %s lies in a volume of the guest's own LVM: repair it from a rescue system in the guest", title)
	case sick && (l.Has <= 0 || at < 0 || at > f.size-l.Has):
		f.err = refuse("where its %s ends is not known", title)
	case sick:
		f.targets = append(f.targets, Target{Kind: l.Kind, Title: title, Offset: at, Size: l.Has &^ (sectorSize - 1), Why: why})
	case l.State == inspect.StateDirty:
		f.dirty = append(f.dirty, title)
	}
	if l.Kind == inspect.KindDisk {
		title = ""
	}
	for _, in := range l.Inside {
		f.walk(in, at+in.Offset, title, placed && l.Kind != inspect.KindPV && in.Kind != inspect.KindLV)
	}
}

// reasons says what is wrong with a layer. Damage of copies is no reason as long as
// the first ones are sound.
func reasons(l *inspect.Layer) (why []string) {
	for _, h := range l.Damage {
		if !h.Copy {
			why = append(why, fmt.Sprintf("%s at byte %d: %s", h.What, h.At, h.Check))
		}
	}
	if l.State == inspect.StateErrors {
		why = append(why, l.Why)
	}
	return why
}

// nothing says why there is no target.
func (f *finder) nothing(d *inspect.InspectedDisk) error {
	switch {
	case len(f.dirty) > 0:
		return refuse("nothing is known to be damaged; the log of its %s is dirty, and the guest replays it when it starts (normal after a power cut): a repair before that would only do harm", strings.Join(f.dirty, ", "))
	case len(f.encrypted) > 0:
		return refuse("its %s is encrypted: nobody can look inside without the key", strings.Join(f.encrypted, ", "))
	case len(d.Unknown) > 0:
		return refuse("no damage is known, and not everything is: %s", d.Unknown[0])
	}
	return refuse("nothing that was looked at is damaged: headers and the ends of logs were, not directories and not data")
}

// IsRefusal reports whether an error is a Refusal, and no failure.
func IsRefusal(err error) bool {
	var r *Refusal
	return errors.As(err, &r)
}
