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

// Writers returns who may write to the images of a chain just now: processes that
// have one open for writing, and what the kernel itself has on it (Use.PID is 0
// then). complete is false where not every process could be looked at, which
// needs root.
func Writers(c *Chain) (list []Use, complete bool) {
	type id struct{ dev, inode uint64 }
	files, devices := map[id]string{}, map[uint64]string{}
	for i := range c.Members {
		m := &c.Members[i]
		var st unix.Stat_t
		if m.Node == "" || unix.Stat(m.Node, &st) != nil {
			continue
		}
		if st.Mode&unix.S_IFMT != unix.S_IFBLK {
			files[id{st.Dev, st.Ino}] = m.Path
			continue
		}
		devices[st.Rdev] = m.Path
		number := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		if holders, err := os.ReadDir(filepath.Join("/sys/dev/block", number, "holders")); err == nil && len(holders) > 0 {
			list = append(list, Use{Program: "device " + holders[0].Name(), Path: m.Path})
		}
		if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil && strings.Contains(string(mounts), " "+number+" ") {
			list = append(list, Use{Program: "mounted on this host", Path: m.Path})
		}
	}
	processes, err := os.ReadDir("/proc")
	complete = err == nil
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", p.Name())
		fds, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			complete = complete && os.IsNotExist(err)
			continue
		}
		for _, fd := range fds {
			// No server is asked: one that is down would keep us waiting.
			var st unix.Statx_t
			if unix.Statx(unix.AT_FDCWD, filepath.Join(dir, "fd", fd.Name()), unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_INO, &st) != nil {
				continue
			}
			path := files[id{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}]
			if st.Mode&unix.S_IFMT == unix.S_IFBLK {
				path = devices[unix.Mkdev(st.Rdev_major, st.Rdev_minor)]
			}
			if path == "" || !opensForWriting(filepath.Join(dir, "fdinfo", fd.Name())) {
				continue
			}
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			list = append(list, Use{PID: pid, Program: strings.TrimSpace(string(name)), Path: path})
			break
		}
	}
	return list, complete
}

// opensForWriting reads the flags of an open file; one that can't be read may be.
func opensForWriting(name string) bool {
	data, err := os.ReadFile(name)
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(data)) {
		if octal, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(octal), 8, 32)
			return err != nil || flags&unix.O_ACCMODE != unix.O_RDONLY
		}
	}
	return true
}
