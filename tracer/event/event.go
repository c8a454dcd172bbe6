// Package event defines the one record that every source produces and
// everything else consumes: a timestamped fact about a boot.
//
// The JSON form of Event is the line format of the boot log and part of the
// program's interface: field names are stable, fields are only ever added, and
// the log's header line carries Version.
package event

import "time"

// Version is the version of the JSON form. It changes only when an older
// reader would misunderstand a newer log, not when a field is added.
const Version = 1

// Time is nanoseconds since boot on CLOCK_BOOTTIME. Wall time appears in one
// place only, the Clock event.
type Time int64

// Duration is the distance between two times in nanoseconds.
type Duration = time.Duration

// Sub returns t-u.
func (t Time) Sub(u Time) Duration { return Duration(t - u) }

// Add returns t+d.
func (t Time) Add(d Duration) Time { return t + Time(d) }

// Seconds returns t in seconds since boot.
func (t Time) Seconds() float64 { return float64(t) / 1e9 }

// Kind says what happened, and with it which payload an Event carries.
type Kind string

// The kinds. The comment names the payload.
const (
	Exec      Kind = "exec"       // Proc, Exec: a guest began to run its program
	Fork      Kind = "fork"       // Proc: a guest's process made another (Proc.PPID is the guest)
	Exit      Kind = "exit"       // Proc, Exit: a guest's process ended
	Open      Kind = "open"       // Proc, Open: an open, or a failed open, of one path
	Link      Kind = "link"       // Proc, Open: a symbolic link under /dev was made (Open.Path), pointing to Open.Target
	DMCreate  Kind = "dm_create"  // Proc, DM
	DMLoad    Kind = "dm_load"    // Proc, DM: a table entered the inactive slot
	DMResume  Kind = "dm_resume"  // Proc, DM: the inactive table, if any, went live
	DMSuspend Kind = "dm_suspend" // Proc, DM
	DMRename  Kind = "dm_rename"  // Proc, DM: DM.NewName or DM.NewUUID
	DMRemove  Kind = "dm_remove"  // Proc, DM
	Uevent    Kind = "uevent"     // Dev: the kernel announced a device
	Udev      Kind = "udev"       // Dev: udev has finished with that announcement
	Net       Kind = "net"        // Net: a network link changed
	Backfill  Kind = "backfill"   // DM, Dev or Exec: existed already when tracing began
	Source    Kind = "source"     // Source: a source was attached, or ended
	Clock     Kind = "clock"      // Clock: the offset to wall time
	Host      Kind = "host"       // Host: the host's name, known later than the log's first line
	Mark      Kind = "mark"       // Mark: a point in the boot or in the service's life
	Loss      Kind = "loss"       // Loss: something was or may have been missed
	Hold      Kind = "hold"       // Proc, Hold: a guest's start is being kept back
	Release   Kind = "release"    // Proc, Hold: and goes on
	Image     Kind = "image"      // Proc, Image: what the headers of a guest's disk name
	Memory    Kind = "memory"     // Proc, Memory: what the guest that Proc is last ran on
	LVM       Kind = "lvm"        // LVM: what LVM says of a volume that a guest wanted and did not get
	Mount     Kind = "mount"      // Mount: a file system was found mounted, mounted, or unmounted
	Way       Kind = "way"        // Proc, Way: where a path of the guest Proc led when bootrace looked
	Policy    Kind = "policy"     // Policy: what enforce mode does, or would do, with starts from now on
	Domain    Kind = "domain"     // Domain: libvirt's hook was called at the start of a domain
	Inside    Kind = "inside"     // Proc (none before a start), Inside: what was seen in a guest's disk
)

// Event is one fact. Exactly the payloads that its kind names are set.
type Event struct {
	// ID is the event's place in its boot's log: from 1, increasing. Findings
	// name their evidence by it. Sources leave it 0; the log assigns it.
	ID uint64 `json:"id"`
	// At is when it happened. Where only a window is known, At is its end.
	At Time `json:"t_ns"`
	// From is the start of that window, 0 where At is exact.
	From Time `json:"from_ns,omitempty"`
	Kind Kind `json:"kind"`
	// Src names the source, as in a SourceInfo.
	Src string `json:"src,omitempty"`

	Proc   *Proc       `json:"proc,omitempty"`
	Exec   *ExecInfo   `json:"exec,omitempty"`
	Exit   *ExitInfo   `json:"exit,omitempty"`
	Open   *OpenInfo   `json:"open,omitempty"`
	DM     *DMInfo     `json:"dm,omitempty"`
	Dev    *DevInfo    `json:"dev,omitempty"`
	Net    *NetInfo    `json:"net,omitempty"`
	Source *SourceInfo `json:"source,omitempty"`
	Clock  *ClockInfo  `json:"clock,omitempty"`
	Host   *HostInfo   `json:"host,omitempty"`
	Mark   *MarkInfo   `json:"mark,omitempty"`
	Loss   *LossInfo   `json:"loss,omitempty"`
	Hold   *HoldInfo   `json:"hold,omitempty"`
	Image  *ImageInfo  `json:"image,omitempty"`
	Memory *MemoryInfo `json:"memory,omitempty"`
	LVM    *LVMInfo    `json:"lvm,omitempty"`
	Mount  *MountInfo  `json:"mount,omitempty"`
	Way    *WayInfo    `json:"way,omitempty"`
	Policy *PolicyInfo `json:"policy,omitempty"`
	Domain *DomainInfo `json:"domain,omitempty"`
	Inside *InsideInfo `json:"inside,omitempty"`
}

// Earliest returns the earliest instant at which e can have happened.
func (e *Event) Earliest() Time {
	if e.From != 0 {
		return e.From
	}
	return e.At
}

// Proc is the process that did something.
type Proc struct {
	PID  int    `json:"pid"`            // thread group id in the initial pid namespace
	TID  int    `json:"tid,omitempty"`  // 0 where it equals PID
	PPID int    `json:"ppid,omitempty"` // thread group id of the parent
	UID  uint32 `json:"uid,omitempty"`
	Comm string `json:"comm,omitempty"` // at most 15 bytes
	// Args is the command line of a process that changed a mapping, or looked
	// for a device in vain, cut to 512 bytes: argv[0] alone unless it is a tool of
	// storage or a guest (guest.RedactCommand). Guests' own arguments are in
	// ExecInfo.
	Args []string `json:"args,omitempty"`
	// Unit is the systemd unit that it ran in, Parent the comm of its parent:
	// of the same processes, where they were still to be asked.
	Unit   string `json:"unit,omitempty"`
	Parent string `json:"parent,omitempty"`
}

// ExecInfo is a guest's exec. Its arguments lose their secrets in the recorder,
// before they are stored.
type ExecInfo struct {
	Filename string   `json:"filename,omitempty"` // as given to execve
	Args     []string `json:"args"`
	// ArgsBytes is the length of the argument area; where it is larger than
	// what Args holds, Truncated is set.
	ArgsBytes int    `json:"args_bytes,omitempty"`
	Truncated bool   `json:"truncated,omitempty"`
	Cwd       string `json:"cwd,omitempty"` // backfill only
	// Files are the block devices and files under /dev that a backfilled guest
	// holds open.
	Files []OpenInfo `json:"files,omitempty"`
}

// ExitInfo is how a process ended.
type ExitInfo struct {
	Status int `json:"status"`           // exit status, 0 to 255
	Signal int `json:"signal,omitempty"` // signal that ended it, 0 if none
}

// Dev is a device number.
type Dev struct {
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
}

// IsZero reports whether d is not known.
func (d Dev) IsZero() bool { return d == Dev{} }

// OpenInfo is one open of one path.
type OpenInfo struct {
	Path string `json:"path"` // as given by the process; may be relative
	// Target is where the link leads, for events of kind Link.
	Target string `json:"target,omitempty"`
	Flags  uint32 `json:"flags,omitempty"` // O_* of the open
	Errno  int    `json:"errno,omitempty"` // 0: it succeeded
	Dev    *Dev   `json:"dev,omitempty"`   // of the block device that was opened
	// Type is block, char, file, dir or other, of a successful open.
	Type string `json:"type,omitempty"`
	// Size is the size in bytes of the block device or file at the open, -1
	// where not known. A device without a live table opens with size 0.
	Size int64 `json:"size"`
	// Repeats is how many equal failed opens by the same process were left out
	// just before this one.
	Repeats int `json:"repeats,omitempty"`
}

// DMInfo is a device-mapper device, as far as the event tells.
type DMInfo struct {
	Name    string `json:"name,omitempty"`
	UUID    string `json:"uuid,omitempty"`
	NewName string `json:"new_name,omitempty"`
	NewUUID string `json:"new_uuid,omitempty"`
	Dev     *Dev   `json:"dev,omitempty"`
	Size    int64  `json:"size,omitempty"` // bytes, of the table that was loaded or is live
	// Table is the table that was loaded (or is live, in a backfill), a line a
	// target: "start length type parameters". Keys of crypt targets are
	// replaced.
	Table []string `json:"table,omitempty"`
	// TableCut is set where the table has more targets than Table, too many to
	// capture. Then Size is not known.
	TableCut bool `json:"table_cut,omitempty"`
	Errno    int  `json:"errno,omitempty"` // 0: the request succeeded
	// Flags are the DM_* flags that the kernel returned.
	Flags uint32 `json:"flags,omitempty"`
	// LiveAt is the exact instant at which a resume took effect, 0 where the
	// kernel has no way to tell; then Event.From to Event.At is the window.
	LiveAt Time `json:"live_ns,omitempty"`
	// State is the state found, in a backfill: created, loaded, live, suspended.
	State  string `json:"state,omitempty"`
	Cookie uint32 `json:"cookie,omitempty"`
}

// DevInfo is a kernel uevent, or udev's event after it has handled one, or a
// record of udev's database.
type DevInfo struct {
	Action    string   `json:"action,omitempty"` // add, change, remove, bind, ...
	Path      string   `json:"devpath,omitempty"`
	Subsystem string   `json:"subsystem,omitempty"`
	Name      string   `json:"devname,omitempty"` // node without /dev/: dm-3, vdb, vdb1
	Type      string   `json:"devtype,omitempty"` // disk, partition
	Dev       *Dev     `json:"dev,omitempty"`
	Seq       uint64   `json:"seq,omitempty"`   // SEQNUM: the same in a uevent and its udev event
	Links     []string `json:"links,omitempty"` // DEVLINKS of a udev event, absolute paths
	// Since is when the queue was last seen empty before the uevent came: the
	// earliest instant at which the kernel can have announced it. Event.From is
	// when its reader woke up for it, which is sooner after the fact than this
	// is before it, but on a busy host after it all the same.
	Since Time `json:"since_ns,omitempty"`
	// Initialized is udev's USEC_INITIALIZED as a boottime instant: when udev
	// first knew the device. Known to the microsecond.
	Initialized Time `json:"initialized_ns,omitempty"`
	// Props are the further properties that explain readiness: DM_NAME,
	// DM_UUID, DM_COOKIE, DM_ACTIVATION, DM_UDEV_*_FLAG, SYSTEMD_READY,
	// ID_FS_TYPE, LVM_*, ...
	Props map[string]string `json:"props,omitempty"`
	// Attrs are attributes of the device in sysfs, as the reader found them
	// right after this event: at Event.At or a moment later. Keys are paths
	// below the device's folder, such as md/array_state; package blockdev lists
	// them. "size" is in bytes. Nil where they were not read: of
	// device-mapper's own devices, and of devices that are gone.
	Attrs map[string]string `json:"attrs,omitempty"`
	// Under are the devices directly beneath it: those in its slaves folder,
	// and a partition's disk. Read with Attrs.
	Under []Dev `json:"under,omitempty"`
}

// NetInfo is a network link: a guest's tap device and where it is attached.
type NetInfo struct {
	Action  string `json:"action"` // new, del
	Index   int    `json:"index"`
	Name    string `json:"name"`
	Type    string `json:"type,omitempty"`   // tun, bridge, veth, ...
	Master  int    `json:"master,omitempty"` // index of the bridge, 0 if none
	Up      bool   `json:"up,omitempty"`
	Carrier bool   `json:"carrier,omitempty"`
}

// SourceInfo is a source and what it can tell.
type SourceInfo struct {
	Name string `json:"name"` // ebpf, uevent, udev, net, mounts, snapshot, hold
	// State is attached (everything from Event.At on is seen), upgraded (an
	// ability was added), or ended.
	State     string    `json:"state"`
	Abilities []Ability `json:"abilities,omitempty"`
}

// Ability is one thing that a source can or cannot do on this host.
type Ability struct {
	Name string `json:"name"` // dm, dm-live-instant, open, exec, exit, link, mount, ...
	OK   bool   `json:"ok"`
	// Why says why not, or what the consequence is.
	Why string `json:"why,omitempty"`
}

// ClockInfo ties boottime to wall time.
type ClockInfo struct {
	// WallOffset is CLOCK_REALTIME minus CLOCK_BOOTTIME, in nanoseconds.
	WallOffset int64 `json:"wall_offset_ns"`
	// Uncertainty bounds the reading's own error, in nanoseconds. It says
	// nothing about how right the host's wall clock is; Trusted does.
	Uncertainty int64 `json:"uncertainty_ns"`
	// Trusted is set once the kernel reports the clock as synchronized.
	Trusted bool `json:"trusted"`
}

// Replaces reports whether a reading that came after old is the better one to
// tell wall time by: the last trusted one counts, else the last of all. A clock
// that was set by an hour was wrong before.
func (c *ClockInfo) Replaces(old *ClockInfo) bool {
	return old == nil || c.Trusted || !old.Trusted
}

// HostInfo names the host.
type HostInfo struct {
	Name      string `json:"name,omitempty"`
	MachineID string `json:"machine_id,omitempty"`
	OS        string `json:"os,omitempty"` // PRETTY_NAME of os-release
}

// MarkInfo is a named point in time: start, adopted, settled, stop, ...
type MarkInfo struct {
	Name string `json:"name"`
	Text string `json:"text,omitempty"`
}

// MarkSettled is the name of the mark that the boot has settled: nothing has
// started for a while. There are more where something starts later.
const MarkSettled = "settled"

// MarkPrevious is the name of the mark whose text is the id of the boot before
// this one.
const MarkPrevious = "previous-boot"

// LossInfo says what may be missing between Event.From and Event.At.
type LossInfo struct {
	Source string `json:"source"`
	What   string `json:"what"`            // which events: open, exec, uevent, ...
	Count  uint64 `json:"count,omitempty"` // 0: not known
	Why    string `json:"why,omitempty"`
	// Recovered is set where a snapshot has since replaced what was missed:
	// states are right again, instants in between are not known.
	Recovered bool `json:"recovered,omitempty"`
	// UID is the user whose events alone were lost, for having used up the share of
	// one user; from 100000 on the first of a block of 65536 (subuid(5)). 0:
	// anybody's, or root's.
	UID uint32 `json:"uid,omitempty"`
	// PID is the first process of the guest whose events alone were lost, for having
	// used up the share of one guest; 0: not of one guest alone.
	PID int `json:"pid,omitempty"`
}

// UserOf returns the user who answers for what uid does: from 100000 on that is the
// first of a block of 65536 that one user is given for containers of his (subuid(5)).
func UserOf(uid uint32) uint32 {
	if uid < 100000 {
		return uid
	}
	return uid - (uid-100000)%65536
}

// HoldReason says what a start is held for, and in a release why its hold ended.
type HoldReason string

// The reasons of a hold.
const (
	HoldDisks    HoldReason = "disks"    // not all of its disks are ready
	HoldIdentity HoldReason = "identity" // a disk is not what the guest last ran on, or that is not known yet
	// HoldFilesystem: what is inside a disk is not whole.
	HoldFilesystem HoldReason = "filesystem"
)

// The reasons of a release, beside HoldIdentity and HoldFilesystem for a start that was denied. A
// service that fails records its error in their place.
const (
	ReleaseReady     HoldReason = "ready"      // the disks are ready
	ReleaseDeadline  HoldReason = "deadline"   // and they were not ready by then
	ReleaseKilled    HoldReason = "killed"     // the process that was held is gone
	ReleaseByHand    HoldReason = "by hand"    // bootrace release
	ReleaseTraceMode HoldReason = "trace mode" // the mode was changed
	ReleaseEnd       HoldReason = "the service ends"
)

// HoldOutcome says what became of a start that was held.
type HoldOutcome string

// The outcomes.
const (
	HoldAllowed HoldOutcome = "allowed"
	HoldDenied  HoldOutcome = "denied"
	HoldGone    HoldOutcome = "gone" // it was killed while it was held
)

// HoldInfo is why a guest's start is kept back, or goes on.
type HoldInfo struct {
	Reason HoldReason `json:"reason"`
	// Blockers are what the guest waits for, or still waited for, in words: the
	// first of them. More is how many there are beside these.
	Blockers []string `json:"blockers,omitempty"`
	More     int      `json:"more,omitempty"`
	// Guest is its name, else its identity; Identity is that alone, such as
	// uuid:3aad3b6b-... A guest whose start is denied has no exec that tells.
	Guest    string `json:"guest,omitempty"`
	Identity string `json:"identity,omitempty"`
	// Disk is the path that was waited for first.
	Disk string `json:"disk,omitempty"`
	// Deadline is when the hold ends at the latest.
	Deadline Time `json:"deadline_ns,omitempty"`
	// Outcome is that of a release.
	Outcome HoldOutcome `json:"outcome,omitempty"`
	// Hook is set where libvirt's hook holds the start of a domain: Proc is the
	// hook's process then, and qemu has not been executed yet.
	Hook bool `json:"hook,omitempty"`
}

// PolicyInfo is what enforce mode does with the start of a guest whose disks are
// not ready, or would do in trace mode: the configuration, and what of it this
// host can do. It holds until the next event of its kind.
type PolicyInfo struct {
	// Mode is the mode in force: trace or enforce. Why is set where the
	// configuration asks for enforce and starts can't be held.
	Mode string `json:"mode"`
	Why  string `json:"why,omitempty"`
	// Deadline ends a hold after this, in nanoseconds; 0: nothing is held.
	// OnTimeout is what happens then (allow, deny), Identity what happens where
	// a disk is not what the guest last ran on (warn, hold, deny).
	Deadline  Duration `json:"deadline_ns"`
	OnTimeout string   `json:"on_timeout"`
	Identity  string   `json:"identity"`
	// Filesystem is what happens where something inside a disk needs more bytes than
	// there are, or a part of it is missing: warn, hold, deny; empty as warn.
	Filesystem string `json:"filesystem,omitempty"`
	// Inspect is whether the disks of guests are looked into: on, off; empty in the
	// records of versions that never did.
	Inspect string `json:"inspect,omitempty"`
	// Programs are the patterns of the programs whose starts are held.
	Programs []string `json:"programs,omitempty"`
	// Rules are exceptions; the first that fits a guest holds for it.
	Rules []PolicyRule `json:"rules,omitempty"`
	// Way is how this kernel holds a start, empty where that is not known:
	// trace mode does not try. Longest bounds each hold in that way, in
	// nanoseconds, 0: it does not.
	Way     string   `json:"way,omitempty"`
	Longest Duration `json:"longest_ns,omitempty"`
}

// PolicyRule is the policy for the guests that its patterns fit: of the name, of
// the UUID, or of both where both are given.
type PolicyRule struct {
	Name      string   `json:"name,omitempty"`
	UUID      string   `json:"uuid,omitempty"`
	Deadline  Duration `json:"deadline_ns"`
	OnTimeout string   `json:"on_timeout"`
	Identity  string   `json:"identity"`
	// Filesystem is empty as warn.
	Filesystem string `json:"filesystem,omitempty"`
}

// DomainStarts is the phase in which libvirt's hook is called before anything is
// done for a domain's start: the hook's operation and suboperation.
const DomainStarts = "prepare/begin"

// DomainInfo is a domain of libvirt that is about to start. libvirt looks at the
// disks before it executes qemu, and gives up where one is missing: this is then
// all that tells of the guest. Event.At is when the hook was called.
type DomainInfo struct {
	Name string `json:"name,omitempty"`
	UUID string `json:"uuid,omitempty"`
	// Phase is the hook's operation and suboperation.
	Phase string `json:"phase"`
	// Disks are those with a path on this host that must be there; More is how
	// many there are beside these.
	Disks []DomainDisk `json:"disks,omitempty"`
	More  int          `json:"more,omitempty"`
	// Unknown are disks whose path only libvirt can tell, in words.
	Unknown []string `json:"unknown,omitempty"`
}

// DomainDisk is one disk of a domain, as its XML has it.
type DomainDisk struct {
	Path   string `json:"path"`
	Format string `json:"format,omitempty"`
	// Backing are the paths of its backing files that the XML names, the nearest
	// first.
	Backing []string `json:"backing,omitempty"`
}

// ImageInfo is a disk of a guest with all that is opened with it, as the
// command line and the headers of its images name it. A later event about the
// same disk replaces an earlier one.
type ImageInfo struct {
	Disk    string        `json:"disk"` // its path, as on the command line
	Members []ImageMember `json:"members,omitempty"`
	// Cut says why the chain was not followed to its end, empty where it was.
	Cut string `json:"cut,omitempty"`
}

// ImageMember is one image of a disk. Package image has the words for Role and
// State.
type ImageMember struct {
	Path string `json:"path"`
	Role string `json:"role"` // disk, backing, data, member
	// Over is the place in Members of the one that needs it, -1 for the disk.
	Over int `json:"over"`
	// FromHeader is set where a header names it, and not the command line.
	FromHeader bool   `json:"from_header,omitempty"`
	Format     string `json:"format,omitempty"`
	State      string `json:"state"`         // absent, not-live, read, plain, refused, unreadable, loop, ...
	Why        string `json:"why,omitempty"` // it is no better state
	Dev        *Dev   `json:"dev,omitempty"`
	Size       int64  `json:"size,omitempty"` // bytes
	Name       string `json:"name,omitempty"` // of the mapping
	UUID       string `json:"uuid,omitempty"`
}

// InsideInfo is what was seen in a guest's disk, from outside: headers and the ends
// of logs, nothing of its files. Package inspect has the words. The window of its
// event is that of the look. A later event about the same disk of the same process
// adds to an earlier one.
type InsideInfo struct {
	Guest string `json:"guest,omitempty"` // its identity, as in uuid:3aad3b6b-...
	Disk  string `json:"disk"`            // its path, as on the command line
	// Live is set where somebody had it open for writing, or that is not known:
	// then only kinds and sizes are told.
	Live bool `json:"live,omitempty"`
	// Why says why it was not looked into, Cut why not everything was looked at.
	Why string `json:"why,omitempty"`
	Cut string `json:"cut,omitempty"`
	// Dev, Name, UUID and Size are those of the block device that it led to, where
	// it led to one: Name and UUID of a mapping.
	Dev  *Dev   `json:"dev,omitempty"`
	Name string `json:"name,omitempty"`
	UUID string `json:"uuid,omitempty"`
	Size int64  `json:"size,omitempty"` // bytes
	// Layers are its images, then the disk that the guest sees, then what is in
	// it; More is how many there are beside these.
	Layers []InsideLayer `json:"layers,omitempty"`
	More   int           `json:"more,omitempty"`
	Reads  int           `json:"reads,omitempty"`
	Bytes  int64         `json:"bytes,omitempty"` // that were read
}

// InsideLayer is one thing on a disk. Its texts are the guest's own, cut to 256
// bytes.
type InsideLayer struct {
	// Kind is one of package inspect, or image: Name is then its path, Detail its
	// format.
	Kind string `json:"kind"`
	// Over is the place in Layers of what it is in, -1 where it is in nothing.
	Over   int    `json:"over"`
	Name   string `json:"name,omitempty"`
	Label  string `json:"label,omitempty"`
	UUID   string `json:"uuid,omitempty"`
	Detail string `json:"detail,omitempty"`
	Offset int64  `json:"offset,omitempty"` // bytes, in what it is in
	// Needs is how many bytes it takes by what it says of itself, 0 where that is
	// not known, and Has how many there are, -1 where not known.
	Needs int64  `json:"needs_bytes,omitempty"`
	Has   int64  `json:"has_bytes"`
	State string `json:"state,omitempty"` // clean, dirty, errors, hibernated, encrypted, unknown
	Why   string `json:"why,omitempty"`   // what the state was read from, or why it is unknown
	// Damage are headers that failed a check. Absent is from which byte on headers
	// are not there, 0 where that is not so.
	Damage []InsideDamage `json:"damage,omitempty"`
	Absent int64          `json:"absent_from,omitempty"`
	Looked int            `json:"looked,omitempty"` // headers that were looked for from there on
	Zeros  bool           `json:"zeros,omitempty"`  // all of them read as zeros
	// Generation only grows while the same file system is in use; 0: not known.
	Generation uint64   `json:"generation,omitempty"`
	Checked    []string `json:"checked,omitempty"` // what was looked at
	Unknown    []string `json:"unknown,omitempty"` // what is not known of it, beside the state
}

// Short is how many bytes are missing, 0 where none is known to be.
func (l *InsideLayer) Short() int64 {
	if l.Needs <= 0 || l.Has < 0 {
		return 0
	}
	return max(0, l.Needs-l.Has)
}

// InsideDamage is a header that failed a check.
type InsideDamage struct {
	What  string `json:"what"`
	At    int64  `json:"at_byte"` // from the layer's beginning
	Check string `json:"check"`
	Copy  bool   `json:"copy,omitempty"` // another one, which is sound, serves as well
}

// MemoryLayer is what is remembered of one thing on a disk that has a size of its
// own or a generation.
type MemoryLayer struct {
	Kind       string `json:"kind"`
	Name       string `json:"name,omitempty"`
	UUID       string `json:"uuid,omitempty"`
	Needs      int64  `json:"needs_bytes,omitempty"`
	Has        int64  `json:"has_bytes,omitempty"`
	State      string `json:"state,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
}

// MemoryInfo is what a guest should run on: what it ran on in the last boot before
// this one in which that was not another disk. In an event without Proc it is
// what an operator accepted as the guest's disks (Accepted is set).
type MemoryInfo struct {
	Guest string       `json:"guest"`          // its identity, as in uuid:3aad3b6b-...
	Name  string       `json:"name,omitempty"` // for people
	Boot  string       `json:"boot_id"`
	Disks []MemoryDisk `json:"disks,omitempty"`
	// Before is what it ran on before that, where that differs: only in what a
	// program remembered that had no Since.
	Before []MemoryDisk `json:"before,omitempty"`
	// Since is what it ran on since, or was about to, in the boot SinceBoot, where
	// that is not what it should run on. Nobody has accepted it.
	Since     []MemoryDisk `json:"since,omitempty"`
	SinceBoot string       `json:"since_boot_id,omitempty"`
	Accepted  bool         `json:"accepted,omitempty"`
}

// MemoryDisk is one disk that a guest ran on, and what it was for.
type MemoryDisk struct {
	Path     string `json:"path"`                // as on the command line, or as it was opened
	ID       string `json:"id,omitempty"`        // of the drive
	DeviceID string `json:"device_id,omitempty"` // of the device that shows it to the guest
	Serial   string `json:"serial,omitempty"`    // that the guest sees
	// BackingOf is the path of the disk that it is a backing file of, empty
	// for a disk.
	BackingOf string `json:"backing_of,omitempty"`
	// Written is set for a backing file that was opened for writing: something
	// was committed to it.
	Written bool `json:"written,omitempty"`
	// DeviceKind is the kind of device (package blockdev has the words), or
	// "file"; empty for a mapping.
	DeviceKind string `json:"device_kind,omitempty"`
	// Name is that of the mapping; of another device its kernel name then, which
	// may be another's in the next boot.
	Name string `json:"name,omitempty"`
	// UUID is that of the mapping, or what else identifies the device over
	// reboots (blockdev.Identity); of a file its file system's UUID. Empty where
	// there is none.
	UUID string `json:"uuid,omitempty"`
	Size int64  `json:"size,omitempty"` // bytes, 0 if not known
	// Table has the names of mappings in the place of their numbers, which
	// change from boot to boot.
	Table []string `json:"table,omitempty"`
	// Of a file: where its file system was mounted, and its inode number there.
	Mount string `json:"mount,omitempty"`
	Inode uint64 `json:"inode,omitempty"`
	// Format is that of the image, as the command line declares it.
	Format string `json:"format,omitempty"`
	// Inside is what was seen in the disk when it was last looked into before the
	// guest ran on it, in the boot InsideBoot; nil where it was not.
	Inside     []MemoryLayer `json:"inside,omitempty"`
	InsideBoot string        `json:"inside_boot_id,omitempty"`
	// ShortSince is the first boot in which something in it needed more bytes than
	// there are, empty where nothing does.
	ShortSince string `json:"short_since_boot_id,omitempty"`
}

// LVMInfo is what LVM reported when it was asked, after the boot had settled: of
// one volume (VG and LV are set), or its configuration (Config is set). Why is
// set, and nothing else, where it gave no answer.
type LVMInfo struct {
	VG string `json:"vg,omitempty"`
	LV string `json:"lv,omitempty"`
	// GroupFound and Found: LVM knows the group, and the volume in it. LVM does
	// not say whether there is a volume in a group that it does not open: one
	// that is exported, clustered, or another host's.
	GroupFound bool `json:"group_found"`
	Found      bool `json:"found"`
	// NoAutoActivation is set where the group or the volume has the property
	// off (lvchange or vgchange --setautoactivation n).
	NoAutoActivation bool `json:"no_autoactivation,omitempty"`
	// SkipActivation is the volume's flag (lvchange --setactivationskip y).
	SkipActivation bool `json:"skip_activation,omitempty"`
	// MissingPVs is how many physical volumes of the group are not there.
	MissingPVs int    `json:"missing_pvs,omitempty"`
	Exported   bool   `json:"exported,omitempty"`
	LockType   string `json:"lock_type,omitempty"` // of a shared group: sanlock, dlm
	Pool       string `json:"pool,omitempty"`      // the thin pool that the volume is in
	Health     string `json:"health,omitempty"`    // lv_health_status, empty if well
	// Tags are those of the volume and the group.
	Tags []string `json:"tags,omitempty"`
	// Owner is the system ID of the host that the group belongs to, where that is
	// not this one (lvmsystemid(7)).
	Owner string `json:"owner,omitempty"`
	// Clustered is set for a group that clvmd looked after before LVM 2.03, and
	// that LVM passes over without it.
	Clustered bool `json:"clustered,omitempty"`
	// SameName is how many groups have the name, 0 if only one has.
	SameName int `json:"same_name,omitempty"`
	// PVs are the group's physical volumes, the first 32.
	PVs []LVMPV `json:"pvs,omitempty"`
	// Damaged is what LVM said of metadata that it could not read, where it knows
	// no such group or volume: that may be where it is.
	Damaged string `json:"damaged,omitempty"`
	// NoProperty is set where LVM is older than the property of autoactivation
	// (2.03.12), so that NoAutoActivation says nothing.
	NoProperty bool `json:"no_property,omitempty"`
	// Config holds settings as lvmconfig prints their values; a list that is
	// not set is not in it.
	Config map[string]string `json:"config,omitempty"`
	Why    string            `json:"why,omitempty"`
}

// MountAction is what became of a mount.
type MountAction string

// The actions of mounts.
const (
	MountFound     MountAction = "found"     // it was there when the source began
	MountMade      MountAction = "mounted"   // also at its new place, when it was moved
	MountGone      MountAction = "unmounted" // also from its old place
	MountRemounted MountAction = "remounted" // ReadOnly is another now
)

// MountInfo is one mount in the host's mount namespace. Its event's window goes
// from the last look at which the change was not there yet to the one that
// found it.
//
// Mounts lie on each other: several can have the same Point, and the latest is
// seen. One that is gone is the one with the same Point, Dev and Root. After a
// switch of root the mounts of the initramfs are told as gone, and those of the
// host as mounted under their new names, in either order.
type MountInfo struct {
	Action MountAction `json:"action"`
	Point  string      `json:"point"` // absolute path
	// Root is the folder or file of the file system that is shown at Point: "/"
	// but for bind mounts, subvolumes and the like.
	Root   string `json:"root,omitempty"`
	Source string `json:"source,omitempty"` // as given to mount: a device's path, host:/path, a word
	FSType string `json:"fstype,omitempty"`
	// Dev is what stat gives as st_dev of files on it. It is the block device's
	// own number where the file system has one device; NFS, btrfs and others
	// have numbers of their own, with major 0.
	Dev Dev `json:"dev"`
	// UUID is the file system's, where udev's database knows the device.
	UUID string `json:"uuid,omitempty"`
	// Unit is the name that systemd gives to the mount unit of Point. That there
	// is such a unit is likely, not known.
	Unit     string `json:"unit,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
	// UID is the user who mounted it, of FUSE, which users other than root may
	// mount; 0: root, or not known.
	UID uint32 `json:"uid,omitempty"`
}

// WayInfo is where a path of a guest led, in the guest's own view of the file
// system, when bootrace looked: not what the guest itself met, which may have
// been a moment before. The window of its event is that of the look.
type WayInfo struct {
	Path string `json:"path"` // as the guest names it
	// Links are the symbolic links on the way, in order.
	Links []WayLink `json:"links,omitempty"`
	// Node is the path in which no link is left, whether it exists or not.
	Node string `json:"node,omitempty"`
	// Errno is why the way ended, 0 where it led to something.
	Errno int `json:"errno,omitempty"`
	// Type of what is there: block, file, dir or other.
	Type string `json:"type,omitempty"`
	Dev  *Dev   `json:"dev,omitempty"` // of a block device
	// Missing is the first element of Node that is not there, as an absolute
	// path.
	Missing string `json:"missing,omitempty"`
	// Mount is where the file system is mounted that the deepest existing folder
	// of Node is on, FSDev that folder's st_dev.
	Mount string `json:"mount,omitempty"`
	FSDev *Dev   `json:"fs_dev,omitempty"`
	Inode uint64 `json:"inode,omitempty"` // of what is there
	Size  int64  `json:"size,omitempty"`  // bytes, of a file
}

// WayLink is a symbolic link on a way.
type WayLink struct {
	Path   string `json:"path"` // of the link, without links before its last element
	Target string `json:"target"`
}

// SystemDirs returns the folders of the host's own programs, libraries and
// configuration. What is only read there is not recorded: it is never a disk
// that a guest could come too early for.
func SystemDirs() []string {
	return []string{
		"/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/",
		"/usr/", "/etc/", "/proc/", "/sys/",
	}
}

// LVMPV is a physical volume, as LVM sees it.
type LVMPV struct {
	Name string `json:"name"`          // a path, or "[unknown]"
	Dev  *Dev   `json:"dev,omitempty"` // nil where LVM does not tell
	// Duplicate is set for a device that carries the same physical volume as
	// another one, and that LVM does not use; Missing for one that is not there.
	Duplicate bool `json:"duplicate,omitempty"`
	Missing   bool `json:"missing,omitempty"`
}
