// Package powercut makes guests' disks as a power cut leaves them. A virtual machine
// with Debian's kernel mounts many file systems at once, plain, in partitions, in LVM's
// volumes and in qcow2 images, writes to all of them, grows some, and its process is
// killed. Its test looks at what is left, and at what is made of it (cut off,
// overwritten), with bootrace and with the file systems' own tools, and compares; then
// a second machine mounts them, and tells what its kernel says.
package powercut

// Order is what a machine has to do. Its init reads it from OrderFile, as JSON.
type Order struct {
	Modules []string // in the order to load them in, files below ModulesDir
	// Look says that the machine looks at the volumes, one after the other; else it
	// works on all of them until it is killed.
	Look    bool
	Seed    uint64
	Groups  []Group
	Volumes []Volume
}

// The files of the machine.
const (
	OrderFile  = "/order"
	ModulesDir = "/modules"
	ReportPort = "/dev/ttyS1" // Reports, as lines of JSON
)

// Group is a volume group of LVM.
type Group struct {
	Name string
	LUNs []int      // its physical volumes
	LVs  [][]string // arguments of lvcreate
}

// Volume is a place with a file system, or with swap.
type Volume struct {
	LUN  int    // of the machine's disk
	Part int    // of a partition, 0: the disk
	LV   string // VG/LV, instead of both
	// Make is a command that makes the file system, without the device; empty where it
	// is there.
	Make    []string
	FS      string // the kernel's name of it; swap
	Options string // of mount(8)
	// Extend is what lvextend makes the volume larger with; Grow then has the file system
	// grown while it is used.
	Extend []string
	Grow   bool
	End    End
	// Tools are commands to run before a look, without the device, which is their last
	// argument.
	Tools [][]string
}

// End is how the work on a volume ends, if the power is not cut before.
type End string

// The ends.
const (
	Never    End = ""
	Unmount  End = "unmount"
	ReadOnly End = "read-only"
	Freeze   End = "freeze"
	Shutdown End = "shutdown" // the file system is shut down by its ioctl
	Idle     End = "idle"     // the work stops, and nothing else
	Error    End = "error"    // ext4 is made to note an error
)

// Report is what a machine says. The first one has nothing in it; it says that the
// volumes are mounted, or are there.
type Report struct {
	Volume int             `json:",omitempty"`
	Tools  map[string]Said `json:",omitempty"` // by their commands, as a line
	Mount  string          `json:",omitempty"` // what mount(2) or swapon(2) failed with
	Kernel []string        `json:",omitempty"` // what the kernel said meanwhile
	Looked bool            `json:",omitempty"` // Volume was looked at
	Ended  bool            `json:",omitempty"` // the work on Volume came to its End
	Error  string          `json:",omitempty"` // the machine failed
	Done   bool            `json:",omitempty"`
}

// Said is what a command said, and its exit status.
type Said struct {
	Status int
	Text   string
}
