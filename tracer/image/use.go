package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
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

// Census is who has which files and block devices open for writing at one time. One
// serves for many disks.
//
// What one user's processes have open costs no more than a share of it: what they have
// beyond mostSteps is left out, and Writers tells where that matters.
type Census struct {
	open     []openFile
	complete bool // the list of processes could be read
	// partial has users whose processes were not looked at in full.
	partial map[uint32]*account
}

// openFile is an open file of a process.
type openFile struct {
	id      fileID
	pid, fd int32
}

// mostSteps is how much of a census the processes of one user other than root may
// take: a step is an open file or, because a process is looked at even where it has
// none open, an eighth of a process. A host with 1,000 guests of one user takes a
// third of it.
const mostSteps = 1 << 18

// stepsOfProcess is what a process counts for, beside its files.
const stepsOfProcess = 8

// account is what one user's processes took.
type account struct {
	steps  int
	groups []uint32 // of one of the processes, where they took too much
}

// TakeCensus looks at these processes, at all of them where none is given. No
// server is asked: one that is down would keep us waiting.
func TakeCensus(pids ...int) *Census { return takeCensus(mostSteps, pids) }

func takeCensus(most int, pids []int) *Census {
	c := &Census{complete: true, partial: map[uint32]*account{}}
	if len(pids) == 0 {
		processes, err := os.ReadDir("/proc")
		c.complete = err == nil
		for _, p := range processes {
			if pid, err := strconv.Atoi(p.Name()); err == nil && pid != os.Getpid() {
				pids = append(pids, pid)
			}
		}
	}
	users := map[uint32]*account{}
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		var st unix.Stat_t
		if unix.Stat(dir, &st) != nil {
			continue // it has ended
		}
		uid := event.UserOf(st.Uid)
		user := users[uid]
		if user == nil {
			user = &account{}
			users[uid] = user
		}
		left := math.MaxInt
		if uid != 0 {
			left = most - user.steps
		}
		steps, all := c.look(pid, filepath.Join(dir, "fd"), left)
		user.steps += steps
		if !all && c.partial[uid] == nil {
			user.groups = groupsOf(dir)
			c.partial[uid] = user
		}
	}
	return c
}

// look takes note of what a process has open, which may take so many steps. all is
// false where there is more, or where it could not be looked at.
func (c *Census) look(pid int, dir string, left int) (steps int, all bool) {
	steps = stepsOfProcess
	if steps > left {
		return 0, false
	}
	f, err := os.Open(dir)
	if err != nil {
		return steps, os.IsNotExist(err)
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(min(1024, left-steps+1))
		for _, name := range names {
			if steps++; steps > left {
				return steps, false
			}
			id, ok := written(filepath.Join(dir, name))
			if fd, err := strconv.ParseInt(name, 10, 32); ok && err == nil {
				c.open = append(c.open, openFile{id, int32(pid), int32(fd)})
			}
		}
		if err != nil || len(names) == 0 {
			return steps, err == nil || err == io.EOF || os.IsNotExist(err) || errors.Is(err, unix.ESRCH)
		}
	}
}

// written returns which file or block device a link of /proc/PID/fd leads to, if it is
// open for writing: the link's own mode says so (proc(5)).
func written(link string) (id fileID, ok bool) {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_INO, &st) != nil {
		return id, false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		id = fileID{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), inode: st.Ino}
	case unix.S_IFBLK:
		id = fileID{dev: unix.Mkdev(st.Rdev_major, st.Rdev_minor), block: true}
	default:
		return id, false
	}
	var own unix.Stat_t
	return id, unix.Lstat(link, &own) == nil && own.Mode&unix.S_IWUSR != 0
}

// groupsOf are those of a process, none where they can't be read.
func groupsOf(dir string) (groups []uint32) {
	data, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		key, rest, _ := strings.Cut(line, ":")
		if key != "Gid" && key != "Groups" {
			continue
		}
		for _, field := range strings.Fields(rest) {
			if gid, err := strconv.ParseUint(field, 10, 32); err == nil {
				groups = append(groups, uint32(gid))
			}
		}
	}
	return groups
}

// Writers returns who may write to the images of a chain just now: processes that
// have one open for writing, and what the kernel itself has on it (Use.PID is 0
// then). complete is false where not every process could be looked at that may: this
// needs root, and a user whose processes have too much open may have an image open
// that he may write to.
func Writers(_ context.Context, c *Chain) (list []Use, complete bool) {
	return TakeCensus().Writers(c)
}

// Writers is the function of that name at the time of the census. Without one, nothing
// is known.
func (c *Census) Writers(chain *Chain) (list []Use, complete bool) {
	if c == nil {
		return nil, false
	}
	complete = c.complete
	for i := range chain.Members {
		m := &chain.Members[i]
		var st unix.Stat_t
		if m.Node == "" || unix.Stat(m.Node, &st) != nil {
			continue
		}
		complete = complete && !c.hides(&st)
		id := fileID{dev: st.Dev, inode: st.Ino}
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			id = fileID{dev: st.Rdev, block: true}
			list = append(list, kernelUses(st.Rdev, m.Path)...)
		}
		last := int32(0) // what a process has open stands together
		for _, o := range c.open {
			if o.id != id || o.pid == last {
				continue
			}
			dir := filepath.Join("/proc", strconv.Itoa(int(o.pid)))
			if !opensForWriting(filepath.Join(dir, "fdinfo", strconv.Itoa(int(o.fd)))) {
				continue
			}
			last = o.pid
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			list = append(list, Use{PID: int(o.pid), Program: strings.TrimSpace(string(name)), Path: m.Path})
		}
	}
	return list, complete
}

// hides reports whether a user whose processes were not looked at in full may write to
// a file or device of that owner, group and mode.
func (c *Census) hides(st *unix.Stat_t) bool {
	for uid, user := range c.partial {
		switch {
		case uid == 0, uid == event.UserOf(st.Uid), st.Mode&unix.S_IWOTH != 0:
			return true
		case st.Mode&unix.S_IWGRP != 0 && (user.groups == nil || slices.Contains(user.groups, st.Gid)):
			return true
		}
	}
	return false
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
