package bpf

// The records on the ring buffer, as event.h has them; a test compares the two.
// Lengths and offsets are bytes, times nanoseconds since boot.

// Kind says which record follows a Header.
type Kind uint32

// The kinds of records. KindGuest and KindLook have none: they only name losses,
// of guests that were not followed, and of opens by who is no guest.
const (
	KindExec Kind = iota + 1
	KindFork
	KindExit
	KindOpen
	KindLink
	KindDM
	KindGuest
	KindLook
	KindMax
)

// String returns what a loss of this kind is called.
func (k Kind) String() string {
	if k == 0 || k >= KindMax {
		return "unknown"
	}
	return [...]string{"exec", "fork", "exit", "open", "link", "dm", "guest", "look"}[k-1]
}

// Header begins every record.
type Header struct {
	Kind Kind
	Ret  int32  // of the system call: a negative errno, or not negative
	From uint64 // entry of the system call; 0 if At is exact
	At   uint64
	PID  uint32 // thread group
	TID  uint32
	PPID uint32
	UID  uint32
	Comm [16]byte
}

// ExecEvent is a guest's exec. Captured bytes of arguments follow.
type ExecEvent struct {
	Header
	ArgsLen  uint32 // of the whole argument area
	Captured uint32
	Filename [256]byte
}

// ForkEvent is a child process of a guest: PID is the child, PPID the guest.
type ForkEvent struct {
	Header
}

// ExitEvent is the end of a guest's last thread.
type ExitEvent struct {
	Header
	Code uint32 // as in wait(2)
	_    uint32
}

// OpenEvent is an open. PathLen bytes of path follow, the NUL included.
type OpenEvent struct {
	Header
	Size    int64  // -1 if not known
	Flags   uint32 // O_*
	Dev     uint32 // kernel encoding: major << 20 | minor
	Mode    uint32 // 0 if the open failed
	PathLen uint32
	Guest   uint32
	_       uint32
}

// The values of LinkEvent.Op.
const (
	LinkSymlink = iota
	LinkRename
)

// LinkEvent is a new name under /dev.
type LinkEvent struct {
	Header
	Op   uint32
	_    uint32
	Path [512]byte // the new name
	From [512]byte // where the symlink leads, or the old name
}

// DMIoctl is struct dm_ioctl of the kernel's user interface, version 4.
type DMIoctl struct {
	Version     [3]uint32
	DataSize    uint32
	DataStart   uint32
	TargetCount uint32
	OpenCount   int32
	Flags       uint32
	EventNr     uint32
	Padding     uint32
	Dev         uint64
	Name        [128]byte
	UUID        [129]byte
	Data        [7]byte
}

// The values of DMEvent.Nr that are reported.
const (
	DMRemoveAll = 1
	DMDevCreate = 3
	DMDevRemove = 4
	DMDevRename = 5
	DMDevResume = 6 // and suspend
	DMTableLoad = 9
)

// DMEvent is a device-mapper request. TableLen bytes of target specs follow.
type DMEvent struct {
	Header
	Live      uint64 // when dm_resume returned, 0 if not known
	Nr        uint32
	FlagsIn   uint32 // what was asked for; IO has what came back
	Cookie    uint32
	Targets   uint32 // number of target specs
	ArgsLen   uint32 // valid bytes of Args
	TableLen  uint32
	TableSize uint32 // bytes that the caller passed
	_         uint32
	IO        DMIoctl
	NewName   [136]byte
	Args      [512]byte
}

// GuestName makes a guest of each process that executes a program whose comm,
// as two little-endian words, gives Value under Mask.
type GuestName struct {
	Value [2]uint64
	Mask  [2]uint64
}

// PathHead stands for all paths whose first eight bytes, as a little-endian word,
// give Value under Mask.
type PathHead struct {
	Value uint64
	Mask  uint64
}

// MaxSystemDirs is how many folders the programs can be told in which guests'
// reads are of no interest.
const MaxSystemDirs = 16

// Owner is what a user other than root takes of what all share, in the map owners.
type Owner struct {
	Second   uint64 // in which OfGuests and OfOthers were told, in 2^30 ns
	OfGuests uint32 // records
	OfOthers uint32
	Guests   uint32 // entries in the map of guests
	Calls    uint32 // entries in the map of calls
	Lost     [KindMax]uint64
}

// OwnerRest is the key of all users who have no entry of their own.
const OwnerRest = ^uint32(0)

// OwnerUID returns the user, or the first of the block of users, that a key of the
// map owners stands for.
func OwnerUID(key uint32) uint32 {
	if key < 100000 {
		return key
	}
	return 100000 + (key-100000)*65536
}

// MaxGuestNames is how many of them there can be.
const MaxGuestNames = 16
