// Package memory remembers over boots what each guest should run on, and says what
// has changed: another disk behind a path, a smaller one, one that is gone.
//
// What a guest should run on is what it ran on before, until that changes on
// purpose. A boot on a wrong disk does not make it the right one: the alarm stays
// until the right disk is back, or until an operator accepts the new one
// (bootrace accept).
//
// Disks are told apart by what stays over reboots: a mapping by its UUID, else by
// its name and table; other devices by blockdev.Identity; a file by its file
// system and its path there. What has nothing of the kind (nbd, zram, a virtio
// disk without a serial number) can't be compared: that is not known, never the
// same and never an alarm.
//
// Whether a change is an alarm is decided here and nowhere else, in Compare,
// by the timeline's findings and by the hold alike. What operators do all the
// time is none:
//
//   - a disk that grew;
//   - a mapping that was renamed, moved to other physical volumes (pvmove), has
//     another minor number, or whose LV was converted: it keeps its UUID;
//   - a volume group that got another UUID or name (vgchange -u, vgsplit,
//     vgimportclone): the LV's own half of the UUID stays;
//   - a disk that has another name, place or bus, or that multipathd took over;
//   - a file that was replaced under its name, on the same file system, and a
//     file that was renamed there;
//   - a snapshot: the disk of before is now a backing file, below a new one;
//   - a commit: the disk is now what was a backing file, which either was
//     written to, or has taken over the disk's path;
//   - a disk that was mirrored to another volume while the guest ran: the guest
//     itself had opened that one;
//   - a disk that was unplugged, plugged in elsewhere, or swapped: where the
//     launcher gives serial numbers, other numbers are other disks;
//   - back to what it ran on before the last change that was none;
//   - removable media.
//
// A disk that was moved by hand to another volume, device or file system while
// the guest was down can't be told from a wrong one. It is an alarm until it is
// accepted.
package memory

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
)

// Kind says what has changed.
type Kind string

// The kinds of changes.
const (
	Substituted Kind = "substituted" // another disk is behind the path
	Shrunk      Kind = "shrunk"      // what is behind it is smaller
	Vanished    Kind = "vanished"    // the disk of before is not there at all
)

// Change is one thing that is not as it was.
type Change struct {
	Kind Kind
	Now  int              // index of the disk in what Compare was given
	Last event.MemoryDisk // what the guest should run on there
	// Why is what decided, beyond the kind; for people, empty where nothing is
	// to be added.
	Why string
}

// Fallback is Change.Why where the disk is now one of its own backing files.
const Fallback = "it is a backing file of what the guest last ran on: what was written since is not in it"

// BelowMount is Change.Why where a file was opened in the folder that its file
// system is to be mounted on, and was not.
const BelowMount = "its file system was not mounted then, and the folder below had a file of the same name"

// OtherTable is Change.Why where a mapping without a UUID has the same name
// and other contents.
const OtherTable = "it has the same name, and was made of something else"

// OtherFileSystem is Change.Why where a file has the same path and lies
// elsewhere.
const OtherFileSystem = "it has the same path on another file system"

// Compare says what has changed between what a guest should run on and what its
// disks lead to now. now lists what each disk leads to, and each backing file
// behind its disk; one without DeviceKind, Name and UUID is a device of which
// nothing is known but that it is no mapping. exists reports whether what was
// remembered is there at all. Without a memory there is no change.
func Compare(last *event.MemoryInfo, now []event.MemoryDisk, exists func(*event.MemoryDisk) bool) []Change {
	if last == nil {
		return nil
	}
	c := comparison{last: last.Disks, before: last.Before, now: now}
	var changes []Change
	for _, p := range c.pairs() {
		old, cur := &c.last[p.last], &now[p.now]
		switch relate(old, cur) {
		case unknown:
			continue
		case other:
			if c.legitimate(old, cur) {
				continue // sizes of two disks of one chain tell nothing
			}
			changes = append(changes, Change{Substituted, p.now, *old, c.why(old, cur)})
			if !exists(old) {
				changes = append(changes, Change{Vanished, p.now, *old, ""})
			}
		}
		if cur.Size > 0 && cur.Size < old.Size {
			changes = append(changes, Change{Shrunk, p.now, *old, ""})
		}
	}
	return changes
}

// Unclear is a disk of which nothing tells whether it is the one of before.
type Unclear struct {
	Now  int // index of the disk in what Uncompared was given
	Last event.MemoryDisk
	// Why says what is missing; for people.
	Why string
}

// Uncompared lists the disks that Compare can say nothing of: what takes their
// place is remembered, and nothing tells whether it is the same. A file on the
// root file system is none: that is always there. Parameters are as in Compare.
func Uncompared(last *event.MemoryInfo, now []event.MemoryDisk) []Unclear {
	if last == nil {
		return nil
	}
	c := comparison{last: last.Disks, before: last.Before, now: now}
	var list []Unclear
	for _, p := range c.pairs() {
		old, cur := &c.last[p.last], &now[p.now]
		if relate(old, cur) != unknown {
			continue
		}
		if old.DeviceKind == KindFile && (old.Mount == "" || old.Mount == "/") {
			continue
		}
		why := unlike(old, cur)
		if cur.Size > 0 && cur.Size < old.Size {
			why += ", and it is smaller than that was"
		}
		list = append(list, Unclear{p.now, *old, why})
	}
	return list
}

// unlike says why two disks can't be compared.
func unlike(old, cur *event.MemoryDisk) string {
	what := "the device"
	if cur.DeviceKind == KindFile {
		what = "its file system"
	}
	switch {
	case old.UUID == "" && cur.UUID == "":
		return "nothing identifies " + what + " over reboots"
	case cur.UUID == "":
		return "nothing identifies " + what + " in this boot, where it was " + old.UUID + " before"
	case old.UUID == "":
		return "what it was before had nothing to identify it, and it is " + cur.UUID + " now"
	}
	return "it was " + old.UUID + " before, and is " + cur.UUID + " now, which can be two names of one"
}

// comparison is one Compare.
type comparison struct {
	last, before, now []event.MemoryDisk
}

// pair is a disk of then and the disk of now that takes its place.
type pair struct{ last, now int }

// pairs finds for each disk of now the one that it was, the surest sign first.
// A disk that has none is new, and one of then that nobody is left for was
// unplugged.
func (c *comparison) pairs() []pair {
	var found []pair
	then, now := make([]bool, len(c.last)), make([]bool, len(c.now))
	for _, match := range []func(old, cur *event.MemoryDisk) bool{
		SameDisk,
		func(a, b *event.MemoryDisk) bool { return a.Serial != "" && a.Serial == b.Serial },
		func(a, b *event.MemoryDisk) bool { return clean(a.Path) == clean(b.Path) },
		func(a, b *event.MemoryDisk) bool { return a.DeviceID != "" && a.DeviceID == b.DeviceID },
		func(a, b *event.MemoryDisk) bool { return a.ID != "" && a.ID == b.ID },
	} {
		for i := range c.now {
			for j := range c.last {
				if !now[i] && !then[j] && comparable(&c.last[j], &c.now[i]) && match(&c.last[j], &c.now[i]) {
					now[i], then[j] = true, true
					found = append(found, pair{j, i})
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b pair) int { return a.now - b.now })
	return found
}

// comparable reports whether two disks can be the same one at all: a disk and a
// backing file are not, nor are two with different serial numbers.
func comparable(a, b *event.MemoryDisk) bool {
	return (a.BackingOf == "") == (b.BackingOf == "") &&
		(a.Serial == "" || b.Serial == "" || a.Serial == b.Serial)
}

func clean(p string) string { return path.Clean(p) }

// number is a device's number in a table. Mappings have names there, so what is
// left are other devices, whose numbers change from boot to boot.
var number = regexp.MustCompile(`\b[0-9]+:[0-9]+\b`)

// sameTable compares the tables of two mappings that have only a name. What
// was added at the end made it grow, and what is missing there made it shrink:
// that is for the sizes to tell. A table that is not known is no other one.
func sameTable(a, b []string) bool {
	for i := range min(len(a), len(b)) {
		x, y := tableFields(a[i]), tableFields(b[i])
		if len(x) != len(y) {
			return false
		}
		for n := range x {
			if n != 1 && x[n] != y[n] { // 1: the length
				return false
			}
		}
	}
	return true
}

// tableFields splits a line of a table, without numbers of devices and without
// keys, for which an older program had another word.
func tableFields(line string) []string {
	return strings.Fields(number.ReplaceAllString(devmap.RedactLine(line), "?"))
}

// NamedTable returns a table with the names of mappings in the place of their
// numbers, as dmsetup takes it: what a number stands for changes from boot to
// boot. name returns an empty string for other devices.
func NamedTable(table []string, name func(event.Dev) string) []string {
	if table == nil {
		return nil
	}
	out := make([]string, len(table))
	for i, line := range table {
		out[i] = number.ReplaceAllStringFunc(line, func(text string) string {
			var dev event.Dev
			if n, err := fmt.Sscanf(text, "%d:%d", &dev.Major, &dev.Minor); n != 2 || err != nil {
				return text
			}
			if known := name(dev); known != "" {
				return "/dev/mapper/" + known
			}
			return text
		})
	}
	return out
}

// legitimate reports whether another disk may be where old was.
func (c *comparison) legitimate(old, cur *event.MemoryDisk) bool {
	return c.below(c.now, cur.Path, old) || c.committed(old, cur) || c.repaired(cur)
}

// below reports whether m is a backing file of the disk with that path.
func (c *comparison) below(list []event.MemoryDisk, disk string, m *event.MemoryDisk) bool {
	return slices.ContainsFunc(list, func(d event.MemoryDisk) bool {
		return d.BackingOf != "" && clean(d.BackingOf) == clean(disk) && SameDisk(&d, m)
	})
}

// committed reports whether the disk is now what was its own backing file, and
// on purpose.
func (c *comparison) committed(old, cur *event.MemoryDisk) bool {
	for i := range c.last {
		if d := &c.last[i]; clean(d.BackingOf) == clean(old.Path) && d.BackingOf != "" && SameDisk(d, cur) {
			return d.Written || clean(cur.Path) == clean(old.Path)
		}
	}
	return false
}

// repaired reports whether the guest runs again on what it ran on before the
// last change.
func (c *comparison) repaired(cur *event.MemoryDisk) bool {
	return slices.ContainsFunc(c.before, func(d event.MemoryDisk) bool {
		return comparable(&d, cur) && SameDisk(&d, cur) && (cur.Size == 0 || cur.Size >= d.Size)
	})
}

func (c *comparison) why(old, cur *event.MemoryDisk) string {
	switch {
	case c.below(c.last, old.Path, cur):
		return Fallback
	case isMapping(cur) && isMapping(old) && old.Name == cur.Name && old.UUID == "" && cur.UUID == "":
		return OtherTable
	case old.DeviceKind == KindFile && cur.DeviceKind == KindFile && clean(old.Path) == clean(cur.Path):
		return OtherFileSystem
	}
	return ""
}
