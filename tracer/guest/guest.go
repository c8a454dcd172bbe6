// Package guest knows the programs that run guests, and understands their command
// lines: which guest it is, which disks it will open, and where. It opens
// nothing by itself; it works on the argument list alone, so the same code serves
// a held exec, a log that was copied from another host, and the explain command.
//
// qemu, cloud-hypervisor and firecracker are understood. Of other programs that
// are known to run guests, and of a program that the configuration names, it says
// that their disks are not known.
//
// The syntax of qemu is its own: QemuOpts and keyval lists (util/qemu-option.c,
// util/keyval.c), its JSON dialect (qobject/json-lexer.c), file names with
// protocols (block.c) and the node graph of -blockdev (qapi/block-core.json).
//
// Arguments are foreign text and may hold secrets. Parse reads them through
// Redact, so that no Guest carries a secret; Redact and RedactCommand are for
// the lists themselves. Control characters and invalid UTF-8 are kept as they
// are: whoever prints them must escape them.
package guest

import (
	"iter"
	"slices"
	"strings"
)

// Guest is what a command line says. Its JSON form is what the explain command
// prints.
type Guest struct {
	// IsGuest is false for runs of a hypervisor that never open a disk, such as
	// questions for help or the version and capability probes of launchers, and
	// for all other programs. NotGuest then says which.
	IsGuest  bool   `json:"is_guest"`
	NotGuest string `json:"not_guest,omitempty"`
	// NotWatched is set where the program has no name that bootrace knows to run
	// guests: it is neither traced nor held unless the configuration names it.
	NotWatched bool `json:"not_watched,omitempty"`

	// Hypervisor is qemu, cloud-hypervisor, firecracker, crosvm or kvmtool; empty
	// where the program is none of them.
	Hypervisor string `json:"hypervisor,omitempty"`
	// Unparsed is set for a program that runs guests, but whose command line is
	// not understood.
	Unparsed bool `json:"unparsed,omitempty"`
	// Unknown says why the guest may have disks that Disks does not list. It is
	// empty where Disks has all that the guest starts with.
	Unknown string `json:"unknown,omitempty"`

	// Binary is argv[0].
	Binary string `json:"binary"`
	// Name is the guest's name, without the quotes that a launcher may have
	// left around it.
	Name string `json:"name,omitempty"`
	// UUID is in lower case with hyphens; empty where none was given, or the
	// nil UUID.
	UUID     string   `json:"uuid,omitempty"`
	Identity Identity `json:"identity"`

	PIDFile   string `json:"pidfile,omitempty"`
	Daemonize bool   `json:"daemonize,omitempty"`
	// Incoming is where a migration comes from, empty for a fresh start. Of a
	// command only the scheme is kept: "exec:[redacted]".
	Incoming string `json:"incoming,omitempty"`
	// Snapshot is set by -snapshot: writes of all -drive disks go to temporary
	// files. Disk.Snapshot has it for each disk.
	Snapshot bool `json:"snapshot,omitempty"`

	// Disks are in the order of the command line. There are none where the
	// hypervisor will only answer a question and exit.
	Disks []Disk `json:"disks"`
	// Taps are the names of the tap interfaces, where the command line names
	// them. Launchers that pass open descriptors do not.
	Taps []string `json:"taps,omitempty"`
	// NotUnderstood lists what Parse could not make sense of. The rest of the
	// Guest holds regardless.
	NotUnderstood []Problem `json:"not_understood,omitempty"`
}

// Problem is an argument that was not understood, redacted and cut to
// maxProblemArg bytes, and why.
type Problem struct {
	Arg    string `json:"arg"`
	Reason string `json:"reason"`
}

// Identity names the guest over reboots. It is the zero value where the
// command line has nothing to tell the guest by.
type Identity struct {
	// Kind is what Value is: uuid, name, pidfile, socket (of the hypervisor's
	// API), or empty.
	Kind  string `json:"kind,omitempty"`
	Value string `json:"value,omitempty"`
	// From is the option that Value was taken from.
	From string `json:"from,omitempty"`
}

// String returns the identity as one key, such as "uuid:3aad3b6b-...", and an
// empty string where there is none.
func (i Identity) String() string {
	if i.Kind == "" {
		return ""
	}
	return i.Kind + ":" + i.Value
}

// Kind is what a guest sees a disk as.
type Kind string

// The kinds of disks.
const (
	KindDisk     Kind = "disk"
	KindCDROM    Kind = "cdrom"
	KindFloppy   Kind = "floppy"
	KindFirmware Kind = "firmware" // pflash: code and variables
	KindState    Kind = "state"    // no disk: where Proxmox resumes a suspended guest from
)

// Storage says what an image lies on.
type Storage string

// The kinds of storage.
const (
	StorageFile    Storage = "file"    // a local path: device node or file
	StorageFD      Storage = "fd"      // a descriptor that the launcher passed
	StorageNetwork Storage = "network" // Image.Protocol says which
	StorageOther   Storage = "other"   // local, but no image: Image.Protocol says what (nvme, vvfat, null-co, ...)
	StorageNone    Storage = "none"    // no medium, or nothing of its own (quorum)
)

// Disk is one disk of a guest.
type Disk struct {
	// ID is the id of the drive, else its node name, else a name made of the
	// option: hda, cdrom, virtio0, ... It is the same for the same command
	// line, and unique in it unless the launcher gave one name twice.
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
	// Device is the driver of the -device that shows the disk to the guest,
	// and DeviceID its id; empty where no -device names the disk. Where disks
	// come and go, the id of libvirt's device (virtio-disk0, ua-...) is more
	// stable than that of its node, which is numbered anew at each start.
	Device   string `json:"device,omitempty"`
	DeviceID string `json:"device_id,omitempty"`
	// Serial is the serial number that the guest sees. A launcher that sets one
	// keeps it with the disk, wherever that is plugged in.
	Serial string `json:"serial,omitempty"`
	// Snapshot is set where writes go to a temporary file, and the image is
	// only read.
	Snapshot bool `json:"snapshot,omitempty"`
	// ShareRW is set where the device lets others write to the disk at the same
	// time (share-rw=on).
	ShareRW bool `json:"share_rw,omitempty"`
	Image
}

// Image is one storage path of a disk with its format.
type Image struct {
	// Node is the node name, where the command line gives one.
	Node string `json:"node,omitempty"`
	// Path is what qemu will open, as given: a relative path stays relative to
	// the working directory of qemu. For network storage it is the address,
	// without secrets. Empty for a drive without a medium.
	Path string `json:"path,omitempty"`
	// Format is the image format in the bytes at Path (raw, qcow2, ...); empty
	// where qemu probes it.
	Format string `json:"format,omitempty"`
	// Offset is where in the device the image begins, in bytes (the raw
	// driver's offset).
	Offset   int64 `json:"offset,omitempty"`
	ReadOnly bool  `json:"read_only,omitempty"`
	// Unlocked is set where qemu takes no lock on the image (locking=off).
	Unlocked bool    `json:"unlocked,omitempty"`
	Storage  Storage `json:"storage"`
	// Protocol is the block driver or URL scheme of network and other storage.
	Protocol string `json:"protocol,omitempty"`
	// Needs says that Path is a local path that must be there before the
	// guest starts. It speaks of this image only; see Disk.Images.
	Needs bool `json:"needs,omitempty"`
	// FD is set for StorageFD.
	FD *FD `json:"fd,omitempty"`
	// Backing is the backing chain as far as the command line spells it out,
	// nearest first. Each of them is opened read-only, and has no Backing
	// itself.
	Backing []Image `json:"backing,omitempty"`
	// NoBacking is set where the chain is said to end here, whatever the
	// image's header names ("backing": null).
	NoBacking bool `json:"no_backing,omitempty"`
	// DataFile is qcow2's external data file.
	DataFile *Image `json:"data_file,omitempty"`
	// Members are further images that are opened with this one: the children
	// of a quorum, the two sides of blkverify, the log of blklogwrites.
	Members []Image `json:"members,omitempty"`
}

// FD is a file descriptor that qemu inherits from its launcher.
type FD struct {
	// Set is the fdset number, -1 for a descriptor named directly.
	Set int `json:"set"`
	// FDs are the descriptors of that set, of each -add-fd in order.
	FDs []int `json:"fds,omitempty"`
	// Opaque is what the launchers noted about them; libvirt and qemu's manual
	// write the access mode and the path there.
	Opaque []string `json:"opaque,omitempty"`
}

// Images iterates over the disk's own image and all others that the command
// line names for it: backing files, data files, members.
func (d *Disk) Images() iter.Seq[*Image] {
	return func(yield func(*Image) bool) { d.Image.each(yield) }
}

func (i *Image) each(yield func(*Image) bool) bool {
	if !yield(i) {
		return false
	}
	for _, list := range [][]Image{i.Members, i.Backing} {
		for n := range list {
			if !list[n].each(yield) {
				return false
			}
		}
	}
	return i.DataFile == nil || i.DataFile.each(yield)
}

// Clone returns a copy that shares no memory with i, nor with the command line that i was
// read from.
func (i Image) Clone() Image {
	for _, s := range []*string{&i.Node, &i.Path, &i.Format, &i.Protocol} {
		*s = strings.Clone(*s)
	}
	if i.FD != nil {
		fd := FD{Set: i.FD.Set, FDs: slices.Clone(i.FD.FDs)}
		for _, s := range i.FD.Opaque {
			fd.Opaque = append(fd.Opaque, strings.Clone(s))
		}
		i.FD = &fd
	}
	if i.DataFile != nil {
		file := i.DataFile.Clone()
		i.DataFile = &file
	}
	for _, list := range []*[]Image{&i.Backing, &i.Members} {
		*list = slices.Clone(*list)
		for n := range *list {
			(*list)[n] = (*list)[n].Clone()
		}
	}
	return i
}

// Needs reports whether there is any local path to wait for.
func (g *Guest) Needs() bool {
	for n := range g.Disks {
		for image := range g.Disks[n].Images() {
			if image.Needs {
				return true
			}
		}
	}
	return false
}
