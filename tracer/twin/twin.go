// Package twin says what a capture of a host is made of: one file from which a twin of
// the host can be booted in a virtual machine. capture writes it on the host, rehearse
// boots twins from it.
//
// The file is a tar archive, packed with zstd. It has the files of the root file system
// below root/, the kernel and the initramfs, and of each disk the few stretches of bytes
// that say what is on it. Last comes manifest.json, which describes the rest: a capture
// that was cut short has none, and is refused.
//
// No guest's data is in it, and no secret that is known as one: the manifest lists what
// was left out, and why.
package twin

import (
	"archive/tar"
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/klauspost/compress/zstd"

	"github.com/bootrace/bootrace/tracer/event"
)

// FormatVersion is raised when an older program would misunderstand a capture.
const FormatVersion = 1

// The names of entries in a capture.
const (
	ManifestName = "manifest.json"
	KernelName   = "kernel"
	InitrdName   = "initramfs"
	RootPrefix   = "root/"  // the files of the root file system
	PiecePrefix  = "disks/" // NAME/OFFSET: bytes of the disk NAME
)

// Manifest describes a host.
type Manifest struct {
	FormatVersion int    `json:"format_version"`
	Program       string `json:"program"` // version of bootrace that made it
	Host          string `json:"host"`
	Kernel        string `json:"kernel"`  // release, as uname -r
	Machine       string `json:"machine"` // as uname -m
	// CommandLine is the kernel's, without secrets.
	CommandLine string `json:"command_line"`
	Root        Root   `json:"root"`
	Disks       []Disk `json:"disks"`
	// Others are block devices that no twin has: what they are, by their names.
	Others []Other `json:"others"`
	// Hypervisors are the programs that run guests: a stand-in takes their place.
	Hypervisors []Hypervisor `json:"hypervisors"`
	Guests      []Guest      `json:"guests"`
	// FileSystems are those of fstab beside the root.
	FileSystems []FileSystem `json:"file_systems"`
	// Record is of the last boot that was recorded, nil where there is none.
	Record *Record `json:"record,omitempty"`
	// LeftOut is what is not in the root's files, by path.
	LeftOut []LeftOut `json:"left_out"`
	// Missing is what was looked for in vain, a sentence each.
	Missing []string `json:"missing"`
}

// Root is the root file system.
type Root struct {
	// Disk is the name of the disk that it is on, and Offset where, in bytes. Disk is
	// empty where it is on something else, such as a logical volume.
	Disk   string `json:"disk,omitempty"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"` // bytes
	Type   string `json:"type"` // as mount(8) has it
	UUID   string `json:"uuid,omitempty"`
	Label  string `json:"label,omitempty"`
}

// Bus is how a disk is attached.
type Bus string

// The buses that a twin has.
const (
	Virtio Bus = "virtio"
	SCSI   Bus = "scsi" // SATA and SAS, too: they are named sdX as well
	NVMe   Bus = "nvme"
)

// Disk is a whole disk.
type Disk struct {
	Name   string   `json:"name"` // the kernel's, such as sda
	Bus    Bus      `json:"bus"`
	Size   int64    `json:"size"`             // bytes
	Sector int      `json:"sector"`           // bytes
	Serial string   `json:"serial,omitempty"` // as udev has it
	WWN    string   `json:"wwn,omitempty"`    // 0x and 16 hexadecimal digits, of SCSI
	Links  []string `json:"links"`            // to it and to its partitions, below /dev
	// Came is how long after the first disk of the boot it was announced, nil where no
	// record has that. Udev is how long udev took to handle it then.
	Came   *event.Duration `json:"came_ns,omitempty"`
	Udev   event.Duration  `json:"udev_ns,omitempty"`
	Pieces []Piece         `json:"pieces"`
}

// Piece is a stretch of a disk that is in the capture.
type Piece struct {
	Offset int64  `json:"offset"` // bytes
	Length int64  `json:"length"`
	What   string `json:"what"`
}

// Other is a block device that no twin has.
type Other struct {
	Name string `json:"name"`
	What string `json:"what"` // such as "md array"
}

// Hypervisor is a program that runs guests.
type Hypervisor struct {
	Path string `json:"path"` // absolute
	Mode uint32 `json:"mode"`
}

// Guest is one that ran in the recorded boots.
type Guest struct {
	Name     string `json:"name"`
	Identity string `json:"identity,omitempty"`
	// Args is its command line, without secrets.
	Args  []string    `json:"args"`
	Disks []GuestDisk `json:"disks"`
}

// GuestDisk is a disk that a guest opens.
type GuestDisk struct {
	Path string `json:"path"`
	// On are the disks that it lies on, by name.
	On []string `json:"on,omitempty"`
	// NotEmulated says why its twin is not like it, empty where it is.
	NotEmulated string `json:"not_emulated,omitempty"`
}

// FileSystem is a line of fstab.
type FileSystem struct {
	Source string `json:"source"`
	Target string `json:"target"`
	Type   string `json:"type"`
	UUID   string `json:"uuid,omitempty"`
	Label  string `json:"label,omitempty"`
	Size   int64  `json:"size,omitempty"` // of its device, in bytes; 0 where that is not there
	// InRoot is set where its files are among those of the root.
	InRoot bool `json:"in_root,omitempty"`
}

// Record is what a recorded boot says about the host's pace.
type Record struct {
	BootID string `json:"boot_id"`
	// ToGuest is the time from the first disk to the first start of a guest, 0 where
	// none started.
	ToGuest event.Duration `json:"to_guest_ns,omitempty"`
}

// LeftOut is a file or folder that is not in the capture.
type LeftOut struct {
	Path  string `json:"path"`
	Why   string `json:"why"`
	Bytes int64  `json:"bytes"`
	// AtLeast is set where there were too many files in it to count them all.
	AtLeast bool `json:"at_least,omitempty"`
}

// PieceName is the name of a piece's entry.
func PieceName(disk string, offset int64) string {
	return PiecePrefix + disk + "/" + strconv.FormatInt(offset, 10)
}

// parsePiece is PieceName read backwards.
func parsePiece(name string) (disk string, offset int64, err error) {
	disk, digits, ok := strings.Cut(strings.TrimPrefix(name, PiecePrefix), "/")
	offset, err = strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || offset < 0 || !diskName(disk) {
		return "", 0, fmt.Errorf("the capture has an entry %q, which no disk can have", name)
	}
	return disk, offset, nil
}

// diskName reports whether a name can be a disk's: it becomes a file's.
func diskName(name string) bool {
	return name != "" && len(name) < 32 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// Bounds for reading a capture, which may come from anybody.
const (
	maxUnpacked = 64 << 30 // bytes
	maxEntries  = 4 << 20
	maxManifest = 64 << 20
	maxDisks    = 4096
	// maxSize is the largest disk that a twin can have, in bytes.
	maxSize = 1 << 53
)

// Sink takes what is in a capture, in the order in which it is there.
type Sink struct {
	File  func(h *tar.Header, r io.Reader) error // below the root: its name is relative
	Boot  func(name string, r io.Reader) error   // KernelName or InitrdName
	Piece func(disk string, offset int64, r io.Reader) error
}

// ErrCut is the error for a capture without its end.
var ErrCut = errors.New("the capture is cut short: make it again with `bootrace capture`, or copy it again")

// Read hands what is in a capture to sink, and returns its manifest.
func Read(r io.Reader, sink Sink) (*Manifest, error) {
	z, err := zstd.NewReader(bufio.NewReaderSize(r, 1<<20), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return nil, fmt.Errorf("unpack the capture: %w", err)
	}
	defer z.Close()
	all := &io.LimitedReader{R: z, N: maxUnpacked}
	archive := tar.NewReader(all)
	for n := 0; ; n++ {
		h, err := archive.Next()
		switch {
		case err != nil && all.N <= 0:
			return nil, fmt.Errorf("the capture unpacks to more than %s, which none does", humanize.IBytes(maxUnpacked))
		case errors.Is(err, io.EOF) && n == 0, errors.Is(err, zstd.ErrMagicMismatch), errors.Is(err, tar.ErrHeader):
			return nil, errors.New("it is no capture: `bootrace capture` makes one")
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, ErrCut
		case err != nil:
			return nil, fmt.Errorf("read the capture: %w", err)
		case n == maxEntries:
			return nil, fmt.Errorf("the capture has more than %d entries, which none has", maxEntries)
		}
		if h.Name == ManifestName {
			m, err := readManifest(archive)
			return m, cut(err)
		}
		if err := cut(sink.take(h, archive)); err != nil {
			return nil, err
		}
	}
}

// cut is ErrCut where err says that the archive ended too early.
func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCut
	}
	return err
}

func (s Sink) take(h *tar.Header, r io.Reader) error {
	switch name := h.Name; {
	case name == KernelName || name == InitrdName:
		return s.Boot(name, r)
	case strings.HasPrefix(name, PiecePrefix):
		disk, offset, err := parsePiece(name)
		if err != nil {
			return err
		}
		return s.Piece(disk, offset, r)
	case strings.HasPrefix(name, RootPrefix):
		own := *h
		own.Name = strings.Trim(strings.TrimPrefix(name, RootPrefix), "/")
		if own.Name == "" {
			own.Name = "."
		}
		return s.File(&own, r)
	default:
		return fmt.Errorf("the capture has an entry %q, which none has", name)
	}
}

// readManifest reads a manifest, and checks what becomes a file's name or size.
func readManifest(r io.Reader) (*Manifest, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	if len(data) > maxManifest {
		return nil, fmt.Errorf("the capture's manifest is larger than %s, which none is", humanize.IBytes(maxManifest))
	}
	m := new(Manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	if m.FormatVersion != FormatVersion {
		return nil, fmt.Errorf("the capture has format %d, and this program reads %d: use the bootrace that made it, %s", m.FormatVersion, FormatVersion, m.Program)
	}
	return m, m.check()
}

func (m *Manifest) check() error {
	if len(m.Disks) == 0 || len(m.Disks) > maxDisks {
		return fmt.Errorf("the capture has %d disks: a twin has 1 to %d", len(m.Disks), maxDisks)
	}
	seen := map[string]bool{}
	for _, d := range m.Disks {
		if !diskName(d.Name) || seen[d.Name] || d.Size <= 0 || d.Size > maxSize {
			return fmt.Errorf("the capture has a disk %q of %d bytes, which no host has", d.Name, d.Size)
		}
		if d.Bus != Virtio && d.Bus != SCSI && d.Bus != NVMe {
			return fmt.Errorf("the capture's disk %s is attached by %q, which this program doesn't know", d.Name, d.Bus)
		}
		seen[d.Name] = true
	}
	if m.Root.Disk != "" && !seen[m.Root.Disk] || m.Root.Size <= 0 || m.Root.Size > maxSize || m.Root.Offset < 0 {
		return errors.New("the capture's root file system is on none of its disks")
	}
	return nil
}

// Late reports whether a disk of the host came later than those that are there when it
// boots, by more than onTime.
func (m *Manifest) Late(onTime event.Duration) bool {
	for _, d := range m.Disks {
		if d.Came != nil && *d.Came > onTime {
			return true
		}
	}
	return false
}
