// Package devmap asks the kernel about device-mapper devices and knows how
// they are named: the ioctls of /dev/mapper/control without libdevmapper, the
// flags that say whether a mapping is live, LVM's UUIDs and names, and the way
// from a path to the mapping behind it.
//
// It only ever reads: no request here creates, changes, suspends or waits for
// a mapping, and none waits for its I/O.
package devmap

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
)

// SectorSize is device-mapper's unit of length in bytes, whatever the logical
// block size of a device is (SECTOR_SHIFT, include/linux/blk_types.h).
const SectorSize = 512

// Mapping is a device-mapper device as the kernel reported it.
type Mapping struct {
	Name string
	UUID string // empty where its creator gave none
	Dev  event.Dev
	// Size is the size in bytes of the live table, 0 without one.
	Size  int64
	Flags Flags
	// OpenCount is how many times the device is held open, other mappings
	// that use it included.
	OpenCount int
	// EventNr counts the events that targets raised; it is not the number of
	// uevents.
	EventNr uint32
	// Targets is the live table, nil where it was not asked for.
	Targets []Target
}

// State is the state of the mapping.
func (m *Mapping) State() State { return m.Flags.State() }

// Table returns the live table, a line a target: "start length type
// parameters", with keys replaced.
func (m *Mapping) Table() []string {
	if len(m.Targets) == 0 {
		return nil
	}
	lines := make([]string, len(m.Targets))
	for i, t := range m.Targets {
		lines[i] = t.String()
	}
	return lines
}

// Target is one line of a table.
type Target struct {
	Start  uint64 // sectors from the start of the mapping
	Length uint64 // sectors
	Type   string // linear, thin, crypt, ...
	Params string // with keys replaced
}

func (t Target) String() string {
	line := strconv.FormatUint(t.Start, 10) + " " + strconv.FormatUint(t.Length, 10) + " " + t.Type
	if t.Params != "" {
		line += " " + t.Params
	}
	return line
}

// State is a state of a mapping in its life.
type State string

// The states that a mapping that exists can be in.
const (
	Created   State = "created"   // it exists and has no table
	Loaded    State = "loaded"    // its only table is inactive
	Live      State = "live"      // it has an active table and is not suspended
	Suspended State = "suspended" // it has an active table; I/O waits
)

// Flags are the DM_*_FLAG bits that the kernel returns in struct dm_ioctl
// (include/uapi/linux/dm-ioctl.h). DM_EXISTS (bit 2) is libdevmapper's own and
// is never set here.
type Flags uint32

// The flags that this project reads or sends.
const (
	FlagReadOnly        Flags = 1 << 0
	FlagSuspend         Flags = 1 << 1
	FlagStatusTable     Flags = 1 << 4
	FlagActive          Flags = 1 << 5
	FlagInactive        Flags = 1 << 6
	FlagBufferFull      Flags = 1 << 8
	FlagSkipBdget       Flags = 1 << 9
	FlagNoFlush         Flags = 1 << 11
	FlagUeventGenerated Flags = 1 << 13
	FlagSecureData      Flags = 1 << 15
	FlagDeferredRemove  Flags = 1 << 17
	FlagInternalSuspend Flags = 1 << 18
)

// State derives the mapping's state.
func (f Flags) State() State {
	switch {
	case f&FlagActive == 0 && f&FlagInactive == 0:
		return Created
	case f&FlagActive == 0:
		return Loaded
	case f&(FlagSuspend|FlagInternalSuspend) != 0:
		return Suspended
	}
	return Live
}

// Usable reports whether a guest's I/O reaches the mapping's table now and the
// mapping is meant to stay: live, not suspended by anybody, and not waiting
// for its last user to be removed.
func (f Flags) Usable() bool {
	return f.State() == Live && f&FlagDeferredRemove == 0
}

// Ready is the exact test before an open: a status request for mapping
// succeeded with these flags, and node, the st_rdev of the path that will be
// opened, is that mapping. A node can be stale and lead to another device.
func Ready(flags Flags, mapping, node event.Dev) bool {
	return flags.Usable() && !mapping.IsZero() && mapping == node
}

// uuidLen is the length of one LVM id without its dashes (ID_LEN, lvm2
// lib/uuid/uuid.h).
const uuidLen = 32

const lvmPrefix = "LVM-"

// LVMUUID is the device-mapper UUID that LVM gives to a logical volume or to a
// layer of one.
type LVMUUID struct {
	VG string // 32 characters
	LV string // 32 characters
	// Layer is real, cow, tpool, tdata, ... and empty for what a guest opens.
	Layer string
}

// ParseLVMUUID splits an LVM mapping's UUID; ok is false for any other.
func ParseLVMUUID(uuid string) (id LVMUUID, ok bool) {
	rest, found := strings.CutPrefix(uuid, lvmPrefix)
	if !found || len(rest) < 2*uuidLen {
		return LVMUUID{}, false
	}
	ids, layer := rest[:2*uuidLen], rest[2*uuidLen:]
	if !isAlnum(ids) {
		return LVMUUID{}, false
	}
	if layer != "" {
		if layer, found = strings.CutPrefix(layer, "-"); !found || layer == "" {
			return LVMUUID{}, false
		}
	}
	return LVMUUID{VG: ids[:uuidLen], LV: ids[uuidLen:], Layer: layer}, true
}

func (u LVMUUID) String() string {
	s := lvmPrefix + u.VG + u.LV
	if u.Layer != "" {
		s += "-" + u.Layer
	}
	return s
}

func isAlnum(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			return false
		}
	}
	return true
}

func devString(d event.Dev) string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }
