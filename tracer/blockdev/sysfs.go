package blockdev

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// More attributes that Sysfs reads.
const (
	// AttrReadOnly is "1" where the device can't be written to, and left out
	// elsewhere. DRBD 8 and early releases of DRBD 9 set it while the node is
	// secondary (drbd_set_role, drivers/block/drbd/drbd_nl.c); later ones don't.
	AttrReadOnly    = "ro"
	AttrDegraded    = "md/degraded" // members that an array lacks, left out if 0
	AttrNamespaceID = "nsid"
	AttrDiskSize    = "disksize" // of zram, in bytes; 0 before it is set up
	AttrCacheState  = "bcache/state"
	AttrPartition   = "partition" // its number
	// AttrDRBDVersion is that of the kernel module.
	AttrDRBDVersion = "drbd/version"
)

// Bounds of what is read of one device.
const (
	maxAttribute = 4096 // bytes: sysfs gives no more than a page
	maxUnder     = 256
)

// patience is how long a read of sysfs may take before its caller goes on
// without it.
const patience = 20 * time.Millisecond

// ErrBusy says that attributes were not read, because the kernel keeps their
// readers waiting.
var ErrBusy = errors.New("sysfs keeps its readers waiting")

// Sysfs reads attributes of block devices. It never opens a device, so nothing
// is asked of the storage below. It is not safe for concurrent use.
type Sysfs struct {
	// fd is the root of sysfs. Held open, it stays good when an initramfs moves
	// the mount to the host's root.
	fd int
	// slow has room for the one read that may hang.
	slow chan struct{}
}

// OpenSysfs opens sysfs below root ("/" for the running host).
func OpenSysfs(root string) (*Sysfs, error) {
	name := filepath.Join(root, "sys")
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read block devices' attributes: %w", &os.PathError{Op: "open", Path: name, Err: err})
	}
	return &Sysfs{fd: fd, slow: make(chan struct{}, 1)}, nil
}

// Close closes it. A read that hangs is left to itself.
func (s *Sysfs) Close() error { return unix.Close(s.fd) }

// Fill sets d.Attrs and d.Under as they are now. It leaves them nil for a
// device-mapper device, of which device-mapper itself tells more, and for a
// device that is not there. An error says why they are not known.
//
// Most attributes are a few words of memory. Those of md (on kernels like 3.10) and
// of bcache are read under a lock that is also held while arrays are assembled:
// they get a moment, and while one read hangs no other is tried.
func (s *Sysfs) Fill(d *event.DevInfo) error {
	kind := DeviceKind(d)
	if kind == Mapping || d.Action == "remove" {
		return nil
	}
	where := strings.TrimPrefix(d.Path, "/")
	if !filepath.IsLocal(where) {
		return fmt.Errorf("read attributes of %q: no path in sysfs", d.Path)
	}
	read := func() (found, error) { return s.read(where, kind) }
	if kind == Array || kind == Bcache {
		quick := read
		read = func() (found, error) { return s.slowly(quick) }
	}
	f, err := read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // else it was removed since
		return fmt.Errorf("read attributes of %s: %w", d.Path, err)
	}
	d.Attrs, d.Under = f.attrs, f.under
	return nil
}

// found is what sysfs has of a device.
type found struct {
	attrs map[string]string
	under []event.Dev
}

// slowly leaves the reading to a goroutine.
func (s *Sysfs) slowly(read func() (found, error)) (found, error) {
	select {
	case s.slow <- struct{}{}:
	default:
		return found{}, ErrBusy
	}
	var f found
	var err error
	done := make(chan struct{})
	go func() {
		f, err = read()
		<-s.slow
		close(done)
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-done:
		return f, err
	case <-late.C:
		return found{}, ErrBusy
	}
}

// read reads what there is of a device in the folder where.
func (s *Sysfs) read(where string, kind Kind) (found, error) {
	dir, err := s.open(where)
	if err != nil {
		return found{}, err
	}
	defer dir.close()
	f := found{attrs: make(map[string]string)}
	if size, ok := dir.sectors("size"); ok {
		f.attrs[AttrSize] = size
	}
	if ro, _ := dir.text("ro"); ro == "1" {
		f.attrs[AttrReadOnly] = ro
	}
	dir.add(f.attrs, attributes[kind])
	if f.attrs[AttrDegraded] == "0" {
		delete(f.attrs, AttrDegraded)
	}
	switch kind {
	case RBD:
		s.add(f.attrs, "bus/rbd/devices/"+strings.TrimPrefix(path.Base(where), "rbd"), imageAttributes)
	case DRBD:
		s.add(f.attrs, "module/drbd", driverAttributes)
	case Partition:
		if disk, ok := dir.number("../dev"); ok {
			f.under = []event.Dev{disk}
		}
		return f, nil
	}
	f.under = dir.slaves()
	return f, nil
}

// add adds attributes that are in another folder than the device's.
func (s *Sysfs) add(attrs map[string]string, where string, list []attribute) {
	if dir, err := s.open(where); err == nil {
		dir.add(attrs, list)
		dir.close()
	}
}

func (s *Sysfs) open(where string) (folder, error) {
	fd, err := unix.Openat(s.fd, where, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return folder(fd), err
}

// attribute is one that is read: as a file, and under which key.
type attribute struct{ file, key string }

// attributes are those of each kind; all kinds have a size.
var attributes = map[Kind][]attribute{
	Array:     {{"md/array_state", AttrArrayState}, {"md/degraded", AttrDegraded}},
	Loop:      {{"loop/backing_file", AttrBacking}},
	NBD:       {{"pid", AttrPID}},
	NVMe:      {{"wwid", AttrWWID}, {"nsid", AttrNamespaceID}},
	SCSI:      {{"device/wwid", AttrDeviceWWID}}, // since Linux 4.5
	Bcache:    {{"bcache/state", AttrCacheState}},
	Zram:      {{"disksize", AttrDiskSize}},
	Partition: {{"partition", AttrPartition}},
}

// imageAttributes are of rbd's own devices: /sys/bus/rbd/devices/0 for rbd0
// (Documentation/ABI/testing/sysfs-bus-rbd). driverAttributes are of DRBD's
// module.
var (
	imageAttributes = []attribute{
		{"pool", AttrPool}, {"pool_ns", AttrPoolNS}, {"name", AttrImage}, {"current_snap", AttrSnap},
	}
	driverAttributes = []attribute{{"version", AttrDRBDVersion}}
)

// folder is an open folder of sysfs.
type folder int

func (f folder) close() { unix.Close(int(f)) }

func (f folder) add(attrs map[string]string, list []attribute) {
	for _, a := range list {
		if value, ok := f.text(a.file); ok && value != "" {
			attrs[a.key] = value
		}
	}
}

// text reads an attribute without its line's end. ok is false where there is
// none, or the driver gives no value: a loop device without a file has no
// backing_file, an nbd device without a client no pid.
func (f folder) text(name string) (value string, ok bool) {
	fd, err := unix.Openat(int(f), name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", false
	}
	defer unix.Close(fd)
	buf := make([]byte, maxAttribute)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return "", false
	}
	return strings.TrimRight(string(buf[:n]), "\n \x00"), true
}

// sectors reads a number of 512-byte sectors, and returns it in bytes.
func (f folder) sectors(name string) (string, bool) {
	text, ok := f.text(name)
	n, err := strconv.ParseUint(text, 10, 64)
	if !ok || err != nil || n > (1<<63-1)/512 {
		return "", false
	}
	return strconv.FormatUint(n*512, 10), true
}

// number reads a device number, as in 8:16.
func (f folder) number(name string) (event.Dev, bool) {
	text, ok := f.text(name)
	first, second, cut := strings.Cut(text, ":")
	major, err1 := strconv.ParseUint(first, 10, 32)
	minor, err2 := strconv.ParseUint(second, 10, 32)
	if !ok || !cut || err1 != nil || err2 != nil {
		return event.Dev{}, false
	}
	return event.Dev{Major: uint32(major), Minor: uint32(minor)}, true
}

// slaves returns the devices that this one lies on, in the order of their
// numbers.
func (f folder) slaves() []event.Dev {
	fd, err := unix.Openat(int(f), "slaves", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(fd), "slaves")
	defer dir.Close()
	names, _ := dir.Readdirnames(maxUnder) // an error where there are none
	var devs []event.Dev
	for _, name := range names {
		if dev, ok := f.number("slaves/" + name + "/dev"); ok {
			devs = append(devs, dev)
		}
	}
	slices.SortFunc(devs, func(a, b event.Dev) int {
		return cmp.Or(cmp.Compare(a.Major, b.Major), cmp.Compare(a.Minor, b.Minor))
	})
	return devs
}
