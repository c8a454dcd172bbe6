package image

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Use is a process that has an image open.
type Use struct {
	PID     int    `json:"pid"`
	Program string `json:"program"` // the kernel's name of it
	Path    string `json:"path"`    // of the image
}

// fileID tells a file from all others, and a block device by its number.
type fileID struct {
	dev, inode uint64
	block      bool
}

// Census is who has which files and block devices open at one time. One serves for
// many disks.
type Census struct {
	open     map[fileID][]openFile
	complete bool // all processes could be looked at
}

// openFile is an open file of a process.
type openFile struct {
	pid int
	fd  string
}

// TakeCensus looks at these processes, at all of them where none is given. No
// server is asked: one that is down would keep us waiting.
func TakeCensus(pids ...int) *Census {
	c := &Census{open: map[fileID][]openFile{}, complete: true}
	if len(pids) == 0 {
		processes, err := os.ReadDir("/proc")
		c.complete = err == nil
		for _, p := range processes {
			if pid, err := strconv.Atoi(p.Name()); err == nil && pid != os.Getpid() {
				pids = append(pids, pid)
			}
		}
	}
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
		fds, err := os.ReadDir(dir)
		if err != nil {
			c.complete = c.complete && os.IsNotExist(err)
			continue
		}
		for _, fd := range fds {
			var st unix.Statx_t
			if unix.Statx(unix.AT_FDCWD, filepath.Join(dir, fd.Name()), unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_INO, &st) != nil {
				continue
			}
			id := fileID{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), inode: st.Ino}
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFREG:
			case unix.S_IFBLK:
				id = fileID{dev: unix.Mkdev(st.Rdev_major, st.Rdev_minor), block: true}
			default:
				continue
			}
			c.open[id] = append(c.open[id], openFile{pid, fd.Name()})
		}
	}
	return c
}

// Writers returns who may write to the images of a chain just now: processes that
// have one open for writing, and what the kernel itself has on it (Use.PID is 0
// then). complete is false where not every process could be looked at, which
// needs root.
func Writers(c *Chain) (list []Use, complete bool) { return TakeCensus().Writers(c) }

// Writers is the function of that name at the time of the census.
func (c *Census) Writers(chain *Chain) (list []Use, complete bool) {
	for i := range chain.Members {
		m := &chain.Members[i]
		var st unix.Stat_t
		if m.Node == "" || unix.Stat(m.Node, &st) != nil {
			continue
		}
		id := fileID{dev: st.Dev, inode: st.Ino}
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			id = fileID{dev: st.Rdev, block: true}
			list = append(list, kernelUses(st.Rdev, m.Path)...)
		}
		seen := map[int]bool{}
		for _, o := range c.open[id] {
			dir := filepath.Join("/proc", strconv.Itoa(o.pid))
			if seen[o.pid] || !opensForWriting(filepath.Join(dir, "fdinfo", o.fd)) {
				continue
			}
			seen[o.pid] = true
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			list = append(list, Use{PID: o.pid, Program: strings.TrimSpace(string(name)), Path: m.Path})
		}
	}
	return list, c.complete
}

// kernelUses lists what the kernel itself has on a block device.
func kernelUses(rdev uint64, path string) (list []Use) {
	number := fmt.Sprintf("%d:%d", unix.Major(rdev), unix.Minor(rdev))
	if holders, err := os.ReadDir(filepath.Join("/sys/dev/block", number, "holders")); err == nil && len(holders) > 0 {
		list = append(list, Use{Program: "device " + holders[0].Name(), Path: path})
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil && strings.Contains(string(mounts), " "+number+" ") {
		list = append(list, Use{Program: "mounted on this host", Path: path})
	}
	return list
}

// opensForWriting reads the flags of an open file; one that can't be read may be.
func opensForWriting(name string) bool {
	data, err := os.ReadFile(name)
	if err != nil {
		return !os.IsNotExist(err) // gone since the census
	}
	for line := range strings.Lines(string(data)) {
		if octal, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(octal), 8, 32)
			return err != nil || flags&unix.O_ACCMODE != unix.O_RDONLY
		}
	}
	return true
}
