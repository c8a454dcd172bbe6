// Package timeline turns the events of one boot into a Timeline: each
// mapping's life, each guest's start and opens, the margin between "ready" and
// "opened", and the findings that follow.
//
// It is a pure function. It reads no clock, no file and no kernel, and its
// result does not depend on the order in which the events arrive: netlink and
// the ring buffer are different queues, so a log is only nearly sorted. The
// running service, the commands that read a copied log and the tests all run
// the same code.
package timeline

import (
	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
)

// Timeline is what happened in one boot. Its JSON form is part of the program's
// interface: exporters/json/schema.json describes it. Every name that ends in
// _ns is nanoseconds; an instant counts from the boot (CLOCK_BOOTTIME),
// everything else is a duration.
type Timeline struct {
	BootID string `json:"boot_id"`
	// Host is the host's name and system, as far as it became known.
	Host   event.HostInfo `json:"host"`
	Kernel string         `json:"kernel,omitempty"` // release, as uname -r
	// Clock is the best offset to wall time, nil if none was recorded: a
	// trusted one before an untrusted one, else the latest.
	Clock *event.ClockInfo `json:"clock,omitempty"`

	// First and Last span the instants of all events.
	First  event.Time `json:"first_ns"`
	Last   event.Time `json:"last_ns"`
	Events int        `json:"events"`

	// Complete is set if nothing that a verdict could depend on is missing:
	// tracing began before any mapping or guest existed, every source that is
	// needed was attached all the time, and nothing was lost.
	Complete bool `json:"complete"`
	// CompleteFrom is the instant from which on that is true, nil if it never
	// is.
	CompleteFrom *event.Time `json:"complete_from_ns,omitempty"`
	// Incomplete says what is missing, ordered by time.
	Incomplete []Gap `json:"incomplete"`

	Sources  []Source   `json:"sources"`
	Losses   []Loss     `json:"losses"`
	Marks    []Mark     `json:"marks"`
	Mappings []*Mapping `json:"mappings"` // by first appearance
	Guests   []*Guest   `json:"guests"`   // by exec
	Findings []*Finding `json:"findings"` // by time
	// Verdicts say what the findings come to: one for each start of each guest,
	// and one for each volume on which no guest ever ran, by time. Summary is
	// what all of them come to. LVM is what LVM said when it was asked.
	Verdicts []*Verdict `json:"verdicts"`
	Summary  Summary    `json:"summary"`
	LVM      []LVM      `json:"lvm"`
	// Inspect is whether the disks of guests were looked into when the record ended:
	// on, off; empty where the record is of a version that never looked.
	Inspect string `json:"inspect,omitempty"`
}

// Instant is when something happened, and the event that says so.
type Instant struct {
	// At is when; where only a window is known, its end.
	At event.Time `json:"at_ns"`
	// From is the start of the window, equal to At where the instant is exact.
	From event.Time `json:"from_ns"`
	// OrBefore is set where tracing began too late to see it: it was so at At
	// already. From is then the earliest instant at which it can have happened.
	OrBefore bool `json:"or_before,omitempty"`
	// Event is the id of the event, 0 if there is none of its own.
	Event uint64 `json:"event,omitempty"`
}

// Gap is a part of the boot about which the record cannot be trusted.
type Gap struct {
	From event.Time `json:"from_ns"`
	To   event.Time `json:"to_ns"`
	// What is missing, separated by commas: dm, open, exec, exit, uevent, udev,
	// link; all where the gap concerns everything.
	What string `json:"what"`
	// Why is a sentence for people, lower case.
	Why   string `json:"why"`
	Event uint64 `json:"event,omitempty"`
	// UID is the user whose guests alone it concerns, as in event.LossInfo; 0:
	// anybody's. PID is the process of the one guest that it concerns, 0: not one
	// alone.
	UID uint32 `json:"uid,omitempty"`
	PID int    `json:"pid,omitempty"`
}

// Source is one source of events and how long it was attached.
type Source struct {
	Name      string          `json:"name"`
	Attached  event.Time      `json:"attached_ns"`
	Ended     *event.Time     `json:"ended_ns,omitempty"`
	Abilities []event.Ability `json:"abilities,omitempty"`
}

// Loss is something that was or may have been missed between From and At.
type Loss struct {
	Instant
	event.LossInfo
}

// Mark is a named point in the boot or in the service's life.
type Mark struct {
	Instant
	event.MarkInfo
}

// Mapping is one device over the whole boot: a device-mapper device, another
// block device that a guest uses, or a mounted file system that a guest's image
// lies on. One with a UUID, or what else identifies its kind, keeps its identity
// when it goes and comes again; one without is new each time.
type Mapping struct {
	// ID is unique in this timeline: the UUID, else NAME@CREATED_NS.
	ID string `json:"id"`
	// Kind is mapping, md, scsi, ... as package blockdev has it, or mount.
	Kind blockdev.Kind `json:"kind"`
	// Name is the last one it had: device-mapper's, the kernel's (sdb), or where
	// a file system is mounted.
	Name string `json:"name"`
	// UUID is device-mapper's, or what else identifies the device over reboots
	// (blockdev.Identity).
	UUID string `json:"uuid,omitempty"`
	// VG, LV and Layer are set for LVM's mappings: names, not uuids. Layer is
	// not empty for the private ones, which no guest opens.
	VG    string `json:"vg,omitempty"`
	LV    string `json:"lv,omitempty"`
	Layer string `json:"layer,omitempty"`
	// Renamed lists the former names, oldest first.
	Renamed []string `json:"renamed,omitempty"`
	Lives   []*Life  `json:"lives"` // oldest first, at least one
}

// Life is the time from one creation of a mapping to its removal.
type Life struct {
	// Dev is the device number, zero if no event told it. The kernel gives the
	// number of a removed device to the next one.
	Dev event.Dev `json:"dev"`
	// Size is that of the last live table, in bytes; 0 if not known.
	Size int64 `json:"size"`
	// Table is the last live table, a line a target; nil if not known.
	Table []string `json:"table,omitempty"`
	// Backfilled is set where the mapping existed when tracing began: it has a
	// state at a time, and no creation.
	Backfilled bool `json:"backfilled,omitempty"`
	// Created, Live and Removed are nil where they did not happen or were not
	// seen. Live is the first time.
	Created *Instant `json:"created,omitempty"`
	Live    *Instant `json:"live,omitempty"`
	Removed *Instant `json:"removed,omitempty"`
	// Udev is when udev first had finished with the live device, nil if never.
	Udev *Instant `json:"udev,omitempty"`
	// Private is set where udev was told to keep the device to itself
	// (DM_UDEV_DISABLE_OTHER_RULES_FLAG): it never becomes ready for a guest.
	Private bool `json:"private,omitempty"`
	// Steps is everything that happened to it, ordered by time.
	Steps []Step `json:"steps"`
	// Paths are the ways in, each with the time from which on it was ready.
	Paths []Path `json:"paths"`
}

// Step kinds.
const (
	StepFound   = "found"   // backfill: existed in State
	StepCreated = "created" // the device exists, without a table
	StepLoaded  = "loaded"  // a table is in the inactive slot
	StepLive    = "live"    // the inactive table became active
	StepResumed = "resumed" // goes on after a suspend, with the table it had
	StepSuspend = "suspended"
	StepRenamed = "renamed"
	StepRemoved = "removed"
	StepUevent  = "uevent"  // the kernel announced it; Detail is the action
	StepUdev    = "udev"    // udev has finished with that; Detail is the action
	StepLink    = "link"    // a link to it was made; Detail is the path
	StepMounted = "mounted" // a file system was mounted; Detail is its source
	StepReady   = "ready"   // ready by its own node; Detail is the path
	StepFailed  = "failed"  // a request failed; Detail is which, Errno why
)

// Step is one thing that happened to a mapping.
type Step struct {
	Kind string `json:"kind"`
	Instant
	Detail string `json:"detail,omitempty"`
	State  string `json:"state,omitempty"` // of found: created, loaded, live, suspended
	Errno  int    `json:"errno,omitempty"`
	// By is the process that did it.
	By *event.Proc `json:"by,omitempty"`
}

// Path is one path under /dev that leads to a mapping.
type Path struct {
	Path string `json:"path"`
	// Link is set where it is a symbolic link that udev makes, not a node.
	Link bool `json:"link,omitempty"`
	// Made is when it first led there.
	Made Instant `json:"made"`
	// Gone is when it no longer did, nil if it still does.
	Gone *Instant `json:"gone,omitempty"`
	// Ready is when the mapping was first ready by this path, nil if never.
	Ready *Instant `json:"ready,omitempty"`
}

// Guest is one qemu process that opens disks.
type Guest struct {
	// ID is unique in this timeline: PID@EXEC_NS.
	ID string `json:"id"`
	// Identity survives reboots; IdentityFrom says what it is: uuid, name,
	// pidfile, or empty where there is none.
	Identity     string `json:"identity,omitempty"`
	IdentityFrom string `json:"identity_from,omitempty"`
	Name         string `json:"name,omitempty"`
	UUID         string `json:"uuid,omitempty"`
	Binary       string `json:"binary,omitempty"`
	PID          int    `json:"pid"`
	PPID         int    `json:"ppid,omitempty"`
	UID          uint32 `json:"uid,omitempty"` // of the process as it was executed
	// Forks are the further processes of this guest (-daemonize).
	Forks []int   `json:"forks,omitempty"`
	Exec  Instant `json:"exec"`
	// Unstarted is set where its program never began to run: its start was
	// denied, or killed while it was held, is still held, or libvirt gave up
	// before. Exec is then when the start was asked for.
	Unstarted bool `json:"unstarted,omitempty"`
	// Domain is when libvirt's hook was called for this start, nil where it was
	// not.
	Domain *Instant `json:"domain,omitempty"`
	// Backfilled is set where the guest ran when tracing began: its opens are
	// unknown, so it has no margins.
	Backfilled bool `json:"backfilled,omitempty"`
	// Hypervisor is which program it is, as in package guest; empty where that
	// knows none of this name.
	Hypervisor string `json:"hypervisor,omitempty"`
	// Unknown says why it may have disks that are not in Disks and that it was
	// not seen to open; empty where its command line has them all.
	Unknown string `json:"unknown,omitempty"`
	// Truncated is set where the command line was longer than what was
	// recorded: there may be further disks.
	Truncated bool   `json:"truncated,omitempty"`
	Exit      *Exit  `json:"exit,omitempty"`
	Disks     []Disk `json:"disks"`
	Holds     []Hold `json:"holds,omitempty"`
}

// Exit is how and when a guest ended.
type Exit struct {
	Instant
	event.ExitInfo
}

// Hold is a time in which a guest's start was kept back.
type Hold struct {
	Instant                   // when it began
	Released *Instant         `json:"released,omitempty"`
	Reason   event.HoldReason `json:"reason,omitempty"` // of the release, else of the hold
	// For is what the start was held for: disks, identity, filesystem.
	For      event.HoldReason `json:"for,omitempty"`
	Blockers []string         `json:"blockers,omitempty"`
	More     int              `json:"more,omitempty"` // further blockers
	// Disk is the path that was waited for first, Deadline when the hold would
	// have ended at the latest, and Outcome how it did, empty where it has not.
	Disk     string            `json:"disk,omitempty"`
	Deadline event.Time        `json:"deadline_ns,omitempty"`
	Outcome  event.HoldOutcome `json:"outcome,omitempty"`
	// Hook is set where libvirt's hook held the start, before qemu was executed.
	Hook bool `json:"hook,omitempty"`
}

// Disk is one storage path of a guest.
type Disk struct {
	Path     string `json:"path"` // as on the command line
	ID       string `json:"id,omitempty"`
	Format   string `json:"format,omitempty"`
	Kind     string `json:"kind,omitempty"` // disk, cdrom, firmware, ...
	ReadOnly bool   `json:"read_only,omitempty"`
	// Unlocked and ShareRW are set where the command line says that several
	// guests may have the disk: locking=off, share-rw=on.
	Unlocked bool `json:"unlocked,omitempty"`
	ShareRW  bool `json:"share_rw,omitempty"`
	// Storage is file, fd, network, other or none, as in package guest; empty
	// where the command line does not name it. Needs is set for a local path
	// that must be there before the guest starts.
	Storage string `json:"storage,omitempty"`
	Needs   bool   `json:"needs,omitempty"`
	// Announced is set where the command line names it, FromHeader where the
	// header of an image does; otherwise the guest was only seen to open it.
	Announced  bool `json:"announced"`
	FromHeader bool `json:"from_header,omitempty"`
	// DeviceID and Serial are those of the device that shows it to the guest.
	DeviceID string `json:"device_id,omitempty"`
	Serial   string `json:"serial,omitempty"`
	// Problem says why its header could not be read or followed, empty where
	// that was not so.
	Problem string `json:"problem,omitempty"`
	// BackingOf is the path of the disk that this one is opened for: a backing
	// file, a data file, a member. Empty if it is a disk itself, or not clear.
	BackingOf string `json:"backing_of,omitempty"`
	// Mapping is the id of the mapping that it led to at the first use, or
	// would have led to; empty if none.
	Mapping string `json:"mapping,omitempty"`
	// Uses are ordered by time; empty if the guest never opened it.
	Uses []Use `json:"uses"`
	// Inside is what was seen in it around the guest's start, nil where the record
	// has nothing of that.
	Inside *Inside `json:"inside,omitempty"`
}

// Inside is what was seen in a disk from outside: headers and the ends of logs. It
// says nothing of what was not looked at.
type Inside struct {
	Instant // of the look
	// Live is set where somebody had the disk open for writing: then it tells kinds
	// and sizes only.
	Live bool `json:"live,omitempty"`
	// Layers are as in the event: images, the disk, and what is in it.
	Layers []event.InsideLayer `json:"layers"`
	// Unknown says what is not known of it, or why it was not looked into.
	Unknown []string `json:"unknown,omitempty"`
}

// Trouble is what is wrong inside a disk.
type Trouble struct {
	// Layer names what is in trouble, with what is around it; What is what was seen,
	// for people.
	Layer string `json:"layer"`
	What  string `json:"what,omitempty"`
	// Needs and Has are the bytes that it needs and has: of truncated. AtByte is
	// where it begins, in the layer: of part-missing and damaged. More is how many
	// others of its kind are in the disk.
	Needs  int64 `json:"needs_bytes,omitempty"`
	Has    int64 `json:"has_bytes,omitempty"`
	AtByte int64 `json:"at_byte,omitempty"`
	More   int   `json:"more,omitempty"`
	// Spare is set where the guest can come up all the same: a copy of a header is
	// damaged, a partition table ends beyond the disk and no partition does, or a file
	// system has errors with which kernels mount it.
	Spare bool `json:"spare,omitempty"`
	// Since is the first boot in which it was seen short, Whole the last one in which
	// this guest's was seen with all its bytes, WholeOn on what, where that was
	// another device; empty where that is not remembered.
	Since   string `json:"since_boot_id,omitempty"`
	Whole   string `json:"whole_boot_id,omitempty"`
	WholeOn string `json:"whole_on,omitempty"`
	// Generation is that of now, Before that of the boot Whole: of rolled-back.
	Generation uint64 `json:"generation,omitempty"`
	Before     uint64 `json:"generation_before,omitempty"`
}

// Use is a guest's open of one path: a run of opens with the same outcome.
// qemu opens a disk two or three times over, and tries a missing path twice.
type Use struct {
	Instant // of the first open of the run
	// Errno is 0 if it succeeded; Error is its name (ENOENT).
	Errno int    `json:"errno,omitempty"`
	Error string `json:"error,omitempty"`
	// Count is how many opens the run had; Opens lists the first of them.
	Count int    `json:"count"`
	Opens []Open `json:"opens"`
	// Dev, Type and Size are those of the file that was opened.
	Dev  *event.Dev `json:"dev,omitempty"`
	Type string     `json:"type,omitempty"`
	Size int64      `json:"size"` // bytes, -1 if not known
	// Mapping is the id of the mapping that the path led to, or would have.
	Mapping string `json:"mapping,omitempty"`
	// Ready is when that mapping was ready by this path: the last time before
	// the open, else the first time after it; nil if never.
	Ready *Instant `json:"ready,omitempty"`
	// Margin is nil, and its fields are not there in JSON, where there is
	// nothing to measure: no mapping, or never ready.
	*Margin
}

// Open is one open of a run.
type Open struct {
	Instant
	PID   int    `json:"pid"`
	Flags uint32 `json:"flags"` // O_*
}

// Margin is the time from ready to the open; negative means that the guest
// came first. The true value lies between NS and NS+Width.
type Margin struct {
	NS    event.Duration `json:"margin_ns"`
	Width event.Duration `json:"margin_error_ns"`
	// AtLeast is set where the mapping was ready when tracing began: the
	// margin is NS or more, and Width says nothing.
	AtLeast bool `json:"margin_at_least,omitempty"`
}

// Negative reports whether the guest certainly came first.
func (m *Margin) Negative() bool { return m != nil && !m.AtLeast && m.NS+m.Width < 0 }

// Positive reports whether the mapping was certainly ready first.
func (m *Margin) Positive() bool { return m != nil && m.NS >= 0 }

// Finding is a classified statement about the boot.
type Finding struct {
	Kind string `json:"kind"`
	// Race is set where the kind is a race: the guest came first.
	Race bool `json:"race"`
	// Withheld is the reason why the record does not support a verdict: then
	// the finding is a possibility and no more. Empty: it is certain.
	Withheld string `json:"withheld,omitempty"`

	// Guest is its name, else its identity, else its id: for people.
	Guest     string `json:"guest"`
	GuestID   string `json:"guest_id"`             // Guest.ID
	Disk      string `json:"disk"`                 // Disk.Path
	BackingOf string `json:"backing_of,omitempty"` // Disk.BackingOf
	Mapping   string `json:"mapping,omitempty"`    // Mapping.ID
	// MappingName is the mapping's dm name when this happened.
	MappingName string `json:"mapping_name,omitempty"`
	// DeviceKind is the kind of what the disk led to or, where that is not known,
	// of what its path can mean: file for a path outside /dev. KindMount: what the
	// guest missed is the file system of a file, mounted at MappingName.
	DeviceKind blockdev.Kind `json:"device_kind,omitempty"`
	At         event.Time    `json:"at_ns"` // of the open; of pulled, of the removal
	// Margin is nil, and its fields are not there in JSON, where the mapping
	// never became ready.
	*Margin
	Ready *Instant `json:"ready,omitempty"`
	Errno int      `json:"errno,omitempty"`
	Error string   `json:"error,omitempty"` // the name of Errno: ENOENT
	// State is the mapping's at the open: absent, created, loaded, live,
	// suspended, removed.
	State string `json:"state,omitempty"`
	// Size is that of the device at the open, in bytes, and Last is what the
	// guest last ran on: for substituted, shrunk and vanished.
	Size int64 `json:"size,omitempty"`
	Last *Last `json:"last,omitempty"`
	// Device is what it led to, for people, where that is no mapping: of
	// substituted, shrunk, vanished and renamed.
	Device string `json:"device,omitempty"`
	// NowPath is what leads to the device as it is called now: of renamed. Beneath
	// is the device under the disk that went: of pulled, empty where the disk
	// itself did.
	NowPath string `json:"now_path,omitempty"`
	Beneath string `json:"beneath,omitempty"`
	// Inside is what is wrong inside the disk: of truncated, part-missing, damaged,
	// fs-errors, hibernated and rolled-back.
	Inside *Trouble `json:"inside,omitempty"`
	// Reason is what decided, beyond the kind: a sentence for people, empty as
	// a rule.
	Reason string `json:"reason,omitempty"`
	// Accepted is when an operator made what the guest ran on what it should run
	// on (bootrace accept): then it is no alarm any more. Nil as a rule.
	Accepted *Instant `json:"accepted,omitempty"`
	// Exit is how the guest ended, nil if it still ran.
	Exit *Exit `json:"exit,omitempty"`
	// By is the process that looked for the disk where no guest did, Looks how
	// often it and others looked.
	By    *event.Proc `json:"by,omitempty"`
	Looks int         `json:"looks,omitempty"`
	// Count is how often it happened: the starts of not-executed, and of not-held,
	// there 0 where that is not known; the events of over-share.
	Count int `json:"count,omitempty"`
	// Held is how long the start was held, or would have been; Outcome is how the
	// hold ended, or would have, empty where it has not. Reason is then the
	// event.HoldReason of that end, and Deadline how long a hold may last. Only of
	// held and would-hold.
	Held     event.Duration    `json:"held_ns,omitempty"`
	Outcome  event.HoldOutcome `json:"outcome,omitempty"`
	Deadline event.Duration    `json:"deadline_ns,omitempty"`
	// For is what the start was held for in the end, where that is not its disks.
	For event.HoldReason `json:"for,omitempty"`
	// InVain is set where the hold ended without what it waited for (see
	// Hold.InVain). Of would-hold it is set where it would have.
	InVain bool `json:"in_vain,omitempty"`
	// Waits are all disks that would have been waited for, in the order of the
	// command line. Only of would-hold.
	Waits []string `json:"waits,omitempty"`
	// Evidence are the ids of the events that it follows from, in order.
	Evidence []uint64 `json:"evidence"`
	// Late accounts for the time until the mapping was ready, nil if it was
	// not late or never came. Where the same mapping had been ready before, it
	// counts from the end of that.
	Late *Account `json:"late,omitempty"`
	// Earlier is when the disk had last been ready before At and was no longer,
	// nil if it never had. Of vanished it is that of what the guest last ran on.
	Earlier *Earlier `json:"earlier,omitempty"`
}

// Earlier is a time in which a path had led to a ready disk, and that was over
// when somebody needed it.
type Earlier struct {
	From Instant `json:"from"`
	To   Instant `json:"to"`
	// Removed is set where the device itself was removed at To; otherwise it was
	// suspended, or the path to it went. By is the process that removed it, nil
	// where that is not known.
	Removed bool        `json:"removed,omitempty"`
	By      *event.Proc `json:"by,omitempty"`
	// Mapping is the Mapping.ID of that device.
	Mapping string `json:"mapping"`
}

// Last is what a guest should run on: what it ran on in the last boot before this
// one in which that was not another disk.
type Last struct {
	BootID string `json:"boot_id"`
	Path   string `json:"path"` // of the disk, then
	Name   string `json:"name,omitempty"`
	// Kind is the kind of device (package blockdev has the words), or file; empty
	// for a mapping. UUID is device-mapper's, or what else identifies the device,
	// or the file system that is mounted at Mount.
	Kind string `json:"device_kind,omitempty"`
	// Device names it for people, where it is no mapping.
	Device string `json:"device,omitempty"`
	UUID   string `json:"uuid,omitempty"`
	Mount  string `json:"mount,omitempty"`
	Size   int64  `json:"size,omitempty"` // bytes, 0 if not known
	// Table has the names of mappings in the place of their numbers.
	Table []string `json:"table,omitempty"`
	// Came is when that mapping came after all in this boot, later than the
	// guest; nil if it never did, or was there. Only of vanished.
	Came *Instant `json:"came,omitempty"`
}

// Account says where the time until a mapping was ready went.
type Account struct {
	Steps []AccountStep `json:"steps"` // in order, without gaps
	// Longest is the index of the step that took longest.
	Longest int `json:"longest"`
}

// AccountStep is one part of that time: from the step before to this one.
type AccountStep struct {
	// Kind is a Step kind, or one of disk, pv, layer: something beneath it.
	Kind string `json:"kind"`
	// Detail is the device, action or path.
	Detail string     `json:"detail,omitempty"`
	From   event.Time `json:"from_ns"`
	To     event.Time `json:"to_ns"`
	Event  uint64     `json:"event,omitempty"` // that ended it
	// By is the process that did it, nil where it was the kernel or udev.
	By *event.Proc `json:"by,omitempty"`
	// Queued is how much of the time udev's queue can have held the event back
	// at most, and Behind is behind how many events of other devices. The rest
	// is how long udev took to handle it at least.
	Queued event.Duration `json:"queued_ns,omitempty"`
	Behind int            `json:"behind,omitempty"`
	// Again is set where From is when the same device had been removed, or had
	// ceased to be ready, and not the step before.
	Again bool `json:"again,omitempty"`
}

// Races returns the findings that are races and certain.
func (t *Timeline) Races() []*Finding {
	var races []*Finding
	for _, f := range t.Findings {
		if f.Race && f.Withheld == "" {
			races = append(races, f)
		}
	}
	return races
}

// Gaps splits what is missing into gaps within the record, and reasons why it
// has no proper end: what came after its last event is not known.
func (t *Timeline) Gaps() (within, end []Gap) {
	for _, g := range t.Incomplete {
		if g.From == t.Last && g.To == t.Last {
			end = append(end, g)
		} else {
			within = append(within, g)
		}
	}
	return within, end
}
