// Package readiness says whether the disks of a guest are ready now, what they
// wait for, and when that changes. It works on its own: it needs neither the
// service nor a kernel probe, only uevents, udev's database, sysfs and
// device-mapper's status. What the kernel's and udev's words mean it asks package
// blockdev, as the timeline does: what is let go here is no race there.
//
// # When a disk is ready
//
// A path that leads to a block device is ready when all of this holds:
//
//   - the device number of the node that the path leads to, in the mount
//     namespace of the guest, is one that can be used: a mapping that has an
//     active table, is not suspended by anybody, and does not wait to be removed;
//     an md array that runs; any other device with a size;
//   - udev has finished with that device since it came into being, or since
//     something is behind it: a loop device without a file is handled, too;
//   - the image that lies on it, where qemu will read its header, has a backing
//     file that is ready, and so on down to the last. A header can only be read
//     once its device is ready, so the chain becomes known member by member.
//
// A path that leads to a file is ready, unless the guest last ran on that path on
// another file system that is not mounted now.
//
// # What is not waited for
//
// Nothing may stop a guest that would have started without bootrace. A path that
// does not exist is waited for only where it can only mean a device that is
// still to come (blockdev.MeaningOf; what counts is where the way ends, and then
// the path itself), where a mount that the host is set up to make is missing
// above it, or where the guest last ran on it. So these are taken as they are:
//
//   - a path whose name says nothing and that nobody remembers: waiting would only
//     delay the guest's own error message;
//   - media that somebody puts in: optical drives, floppies;
//   - a file below an automount, which the guest's own open mounts;
//   - a way that nothing will mend: a loop of links, a file in the place of a
//     folder, no right to look;
//   - udev, where none runs, where device-mapper's rules are not installed, or
//     where the mapping's creator told udev to leave its nodes alone
//     (DM_UDEV_DISABLE_DM_RULES_FLAG: dmsetup --noudevrules).
//
// A private device (DM_UDEV_DISABLE_OTHER_RULES_FLAG: a layer of a volume, or a
// volume that is being made and still holds what was there before) is never
// ready: LVM asks everybody to stay away from it.
//
// Once udev has finished with a device it stays so until that is removed, or
// nothing is behind it any more: that somebody has udev look at it again takes
// nothing back.
package readiness

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// Disks returns the disks of g that have a local path to wait for.
func Disks(g *guest.Guest) []guest.Image {
	var list []guest.Image
	for n := range g.Disks {
		if needs(&g.Disks[n]) {
			list = append(list, g.Disks[n].Image)
		}
	}
	return list
}

func needs(d *guest.Disk) bool {
	for image := range d.Images() {
		if image.Needs {
			return true
		}
	}
	return false
}

// Path is the disk that a path alone makes: qemu would guess its format.
func Path(path string) guest.Image {
	return guest.Image{Path: path, Storage: guest.StorageFile, Needs: true}
}

// Request says what somebody waits for.
type Request struct {
	// Disks are the disks with the part of their backing chains that the command
	// line spells out; what an image's header names is found.
	Disks []guest.Image
	// Dir is the working directory for relative paths, empty where it is not
	// known.
	Dir string
	// Memory is what the guest last ran on, nil if that is not known: it says
	// what is worth waiting for where a path alone does not.
	Memory []event.MemoryDisk
	// PID is a process through whose root and mount namespace the paths are
	// looked at; 0 for our own. It must live until Watch returns.
	PID int
	// Owner is the user whose guest it is: looks are shared out between users.
	Owner uint32
}

// Kind is what a disk waits for.
type Kind string

// The kinds of blockers.
const (
	Missing   Kind = "missing"   // neither the path nor the device that it means exists
	Mount     Kind = "mount"     // the file system that the file is on is not mounted
	Empty     Kind = "empty"     // the device exists, and nothing is behind it
	Secondary Kind = "secondary" // a DRBD device that can't be opened here
	NoTable   Kind = "no-table"  // the mapping exists and has no active table
	Suspended Kind = "suspended" // its I/O is being kept back
	Removing  Kind = "removing"  // it will be removed as soon as nobody has it open
	Udev      Kind = "udev"      // live, and udev has not finished with it
	Link      Kind = "link"      // live, and the path does not lead to it yet
	Elsewhere Kind = "elsewhere" // the path leads to another device than the one that it names
	Private   Kind = "private"   // LVM's own, or in the making
)

// Blocker is one thing that a disk waits for.
type Blocker struct {
	Kind Kind `json:"kind"`
	// Path is what qemu will open.
	Path string `json:"path"`
	// Disk is the path of the disk whose backing chain Path is in, empty where
	// Path is the disk's own.
	Disk string `json:"disk,omitempty"`
	// Mapping is the name of the mapping that is waited for, as far as it can
	// be told.
	Mapping string     `json:"mapping,omitempty"`
	Dev     *event.Dev `json:"dev,omitempty"` // of the device that was found
	// Detail says in words what is the matter.
	Detail string `json:"detail"`
}

// String returns one line without control characters.
func (b Blocker) String() string {
	text := printable(b.Path) + ": " + printable(b.Detail)
	if b.Disk != "" {
		text += " (backing file of " + printable(b.Disk) + ")"
	}
	return text
}

// printable quotes text that a terminal would not print as it is.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0 {
		return s
	}
	return strconv.Quote(s)
}

// Member is one path that was looked at: a disk's own, or one of its backing
// chain.
type Member struct {
	Path string `json:"path"`
	Disk string `json:"disk,omitempty"` // as in a Blocker
	// Node is where the path led, Dev the number of the device that is there.
	Node string     `json:"node,omitempty"`
	Dev  *event.Dev `json:"dev,omitempty"`
	// Mapping and UUID are device-mapper's, empty where it is no mapping.
	Mapping string `json:"mapping,omitempty"`
	UUID    string `json:"uuid,omitempty"`
	// DeviceKind and Identity are package blockdev's words for a device that is no
	// mapping.
	DeviceKind string `json:"device_kind,omitempty"`
	Identity   string `json:"device_id,omitempty"`
	Size       int64  `json:"size,omitempty"` // bytes, of a block device
	Ready      bool   `json:"ready"`
	// Broken is set where the path leads to nothing and waiting is of no use.
	Broken bool `json:"broken,omitempty"`
	// Note says in words what could not be looked at.
	Note string `json:"note,omitempty"`
	// Unread is set where the image's header could not be read, and so a
	// backing file may be missing here.
	Unread bool `json:"unread,omitempty"`
}

// Verdict is the state of a request's disks at one moment.
type Verdict struct {
	// Ready is set where nothing is in the way.
	Ready bool `json:"ready"`
	// At is when the disks were looked at; 0: not yet.
	At event.Time `json:"t_ns"`
	// Blockers are what is waited for, in the order of the disks.
	Blockers []Blocker `json:"blockers,omitempty"`
	Members  []Member  `json:"members,omitempty"`
}

// Words returns the blockers as lines of text.
func (v *Verdict) Words() []string {
	words := make([]string, len(v.Blockers))
	for i := range v.Blockers {
		words[i] = v.Blockers[i].String()
	}
	return words
}

// same reports whether two verdicts say the same, whenever they were given.
func (v *Verdict) same(o *Verdict) bool {
	if v.Ready != o.Ready || len(v.Blockers) != len(o.Blockers) || len(v.Members) != len(o.Members) {
		return false
	}
	for i := range v.Blockers {
		if v.Blockers[i].key() != o.Blockers[i].key() {
			return false
		}
	}
	return true
}

func (b Blocker) key() string {
	return fmt.Sprintf("%q", []string{string(b.Kind), b.Path, b.Disk, b.Mapping, b.Detail})
}
