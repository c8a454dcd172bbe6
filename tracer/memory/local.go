package memory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/udev"
	"github.com/bootrace/bootrace/tracer/view"
)

// Local is this host, but for its mappings.
type Local struct {
	// PID is the process whose view of the file system counts, 0 for this one.
	PID int
}

// Device implements Host. It opens no device: what udev's database and sysfs have
// is all that is asked.
func (l Local) Device(dev event.Dev) (event.DevInfo, error) {
	d := event.DevInfo{Subsystem: "block", Dev: &dev}
	at, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", dev.Major, dev.Minor))
	if err != nil {
		return d, fmt.Errorf("describe device %d:%d: %w", dev.Major, dev.Minor, err)
	}
	d.Name = strings.ReplaceAll(filepath.Base(at), "!", "/") // cciss/c0d0
	d.Path = strings.TrimPrefix(at, "/sys")
	if _, err := os.Stat(filepath.Join(at, "partition")); err == nil {
		d.Type = "partition"
	}
	record, err := udev.ReadRecord("/", dev)
	if err != nil {
		return d, err
	}
	if record != nil {
		d.Links, d.Props = record.Links, record.Props
	}
	sysfs, err := blockdev.OpenSysfs("/")
	if err != nil {
		return d, err
	}
	defer sysfs.Close()
	if err := sysfs.Fill(&d); err != nil && !errors.Is(err, blockdev.ErrBusy) {
		return d, err
	}
	return d, nil
}

// File implements Host.
func (l Local) File(path string) (File, error) {
	v, err := view.Of(l.PID)
	if err != nil {
		return File{}, err
	}
	defer v.Close()
	at, err := v.Survey(path)
	if err != nil {
		return File{}, err
	}
	if at.Mode != 0 {
		return File{}, fmt.Errorf("%s is no regular file: %w", path, fs.ErrInvalid)
	}
	f := File{Dev: at.FSDev, Inode: at.Inode, Size: at.Size}
	mount, err := l.mount(at.MountID)
	if err != nil {
		return f, nil // nothing tells its file system, and that is no reason to forget it
	}
	f.Mount = mount.Mountpoint
	info := event.MountInfo{Source: mount.Source, FSType: mount.FSType, Dev: f.Dev}
	if record, err := udev.ReadRecord("/", l.beneath(&info)); err == nil && record != nil {
		info.UUID = record.Props["ID_FS_UUID"]
	}
	f.FS = FileSystem(&info)
	return f, nil
}

// mount returns the mount with that number.
func (l Local) mount(id int) (*mountinfo.Info, error) {
	name := "/proc/self/mountinfo"
	if l.PID != 0 {
		name = "/proc/" + strconv.Itoa(l.PID) + "/mountinfo"
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	list, err := mountinfo.GetMountsFromReader(file, func(m *mountinfo.Info) (skip, stop bool) { return m.ID != id, m.ID == id })
	if err != nil {
		return nil, err
	}
	if id == 0 || len(list) != 1 {
		return nil, fmt.Errorf("mount %d: %w", id, fs.ErrNotExist)
	}
	return list[0], nil
}

// beneath is the block device of a file system. Some have numbers of their own:
// then it is the one that the source names.
func (l Local) beneath(m *event.MountInfo) event.Dev {
	if m.Dev.Major != 0 || !strings.HasPrefix(m.Source, "/dev/") {
		return m.Dev
	}
	var st unix.Stat_t
	if unix.Stat(m.Source, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return m.Dev
	}
	return event.Dev{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}
}

// FileSystem returns what identifies a mounted file system over reboots: its UUID,
// else where it comes from, for network file systems and ZFS. It is empty where
// nothing does.
func FileSystem(m *event.MountInfo) string {
	switch kind := strings.TrimSuffix(m.FSType, "4"); {
	case m.UUID != "":
		return m.UUID
	case kind == "nfs", m.FSType == "zfs", m.FSType == "cifs", m.FSType == "smb3", m.FSType == "ceph",
		strings.HasPrefix(m.FSType, "fuse.") && strings.Contains(m.Source, ":"):
		if m.Source != "" {
			return kind + ":" + m.Source
		}
	}
	return ""
}

// Exists reports whether a device that is no mapping is there, by what identifies
// it. Of files, and of what nothing tells, it says that they are.
func (l Local) Exists(d *event.MemoryDisk) bool {
	if isMapping(d) || d.UUID == "" || d.DeviceKind == KindFile {
		return true
	}
	names, err := os.ReadDir("/sys/class/block")
	if err != nil {
		return true
	}
	for _, n := range names {
		text, err := os.ReadFile(filepath.Join("/sys/class/block", n.Name(), "dev"))
		var dev event.Dev
		if _, scan := fmt.Sscanf(string(text), "%d:%d", &dev.Major, &dev.Minor); err != nil || scan != nil {
			continue // it has gone since
		}
		found, err := l.Device(dev)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return true
		}
		now := event.MemoryDisk{DeviceKind: string(blockdev.DeviceKind(&found)), UUID: blockdev.Identity(&found)}
		if relate(d, &now) != other && (now.UUID != "" || now.DeviceKind == d.DeviceKind) {
			return true // it is, or may be
		}
	}
	return false
}

// HeldFiles lists the regular files that a process has open, without asking a
// server. What was deleted is none of them.
func HeldFiles(pid int) ([]HeldFile, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return nil, err
	}
	var files []HeldFile
	for _, e := range entries {
		if len(files) == maxHeld {
			break
		}
		link := filepath.Join(dir, "fd", e.Name())
		path, err := os.Readlink(link)
		if err != nil || !filepath.IsAbs(path) || strings.HasSuffix(path, " (deleted)") || strings.HasPrefix(path, "/memfd:") {
			continue
		}
		var st unix.Statx_t
		if unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_INO, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue // before Linux 4.11 no file is known to be held
		}
		f := HeldFile{Path: path, Dev: event.Dev{Major: st.Dev_major, Minor: st.Dev_minor}, Inode: st.Ino}
		f.Flags = heldFlags(filepath.Join(dir, "fdinfo", e.Name()))
		files = append(files, f)
	}
	return files, nil
}

// maxHeld bounds what is looked at of one guest.
const maxHeld = 1024

// heldFlags reads the flags of an open file, 0 where they are not to be had.
func heldFlags(name string) uint32 {
	data, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if octal, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, _ := strconv.ParseUint(strings.TrimSpace(octal), 8, 32)
			return uint32(flags)
		}
	}
	return 0
}
