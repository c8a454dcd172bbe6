package snapshot

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/proc"
)

// Bounds of what is read of one guest. Real command lines have 2 to 10 KB; the
// kernel allows 128 KiB an argument.
const (
	maxArgs  = 256 << 10 // bytes
	maxFiles = 1024
)

// deleted is what the kernel appends to the name of a file that is gone, such
// as a program that was upgraded.
const deleted = " (deleted)"

// guests looks for running guests. A task that is held in its exec before Linux
// 5.7 blocks whoever reads its syscall, environ, maps or mem: nothing here
// does. What is read never waits for the task.
func (t *taker) guests(ctx context.Context) error {
	entries, err := os.ReadDir(t.path("proc"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid <= 0 {
			continue
		}
		if err := t.skip("guest", "process "+entry.Name(), t.process(pid)); err != nil {
			return err
		}
	}
	return nil
}

// process adds the guest that runs as pid, if one does.
func (t *taker) process(pid int) error {
	dir := t.path("proc", strconv.Itoa(pid))
	before, err := proc.ReadStat(dir)
	if err != nil {
		return err
	}
	// A kernel thread (kvm-pit is one) and a zombie have no program any more.
	exe, err := os.Readlink(filepath.Join(dir, "exe"))
	if vanished(err) {
		return nil
	}
	if err != nil {
		// Not root, or no ptrace right. Only a guest is worth an error.
		if t.isGuest(before.Comm) {
			return err
		}
		return nil
	}
	exe = strings.TrimSuffix(exe, deleted)
	if !t.isGuest(before.Comm) && !t.isGuest(filepath.Base(exe)) {
		return nil
	}
	info, err := t.exec(dir, exe)
	if err != nil || len(info.Args) == 0 {
		return err
	}
	// The directory's owner is not its user: a process that may not be dumped
	// belongs to root there.
	status, err := proc.ReadStatus(dir)
	if err != nil {
		return err
	}
	after, err := proc.ReadStat(dir)
	if err != nil || after.Start != before.Start {
		return err // another process by now
	}
	t.found(0, event.Event{
		Proc: &event.Proc{PID: pid, PPID: after.PPID, UID: status.UID, Comm: after.Comm},
		Exec: info,
	})
	e := &t.events[len(t.events)-1]
	// When it was forked, within a tick; the exec came soon after.
	forked := event.Time(after.Start) * event.Time(proc.Tick)
	e.From, e.At = max(forked, bootStart), min(forked.Add(proc.Tick), e.At)
	return nil
}

func (t *taker) isGuest(name string) bool { return guest.Matches(t.Programs, name) }

func (t *taker) exec(dir, exe string) (*event.ExecInfo, error) {
	raw, err := readFile(filepath.Join(dir, "cmdline"), maxArgs+1)
	if err != nil {
		return nil, err
	}
	info := &event.ExecInfo{Filename: exe, Args: splitArgs(raw), ArgsBytes: len(raw), Truncated: len(raw) > maxArgs}
	// Its own mount namespace's paths; without the right to see it, empty.
	info.Cwd, _ = os.Readlink(filepath.Join(dir, "cwd"))
	info.Files, err = openFiles(dir)
	return info, err
}

func splitArgs(raw []byte) []string {
	raw = bytes.TrimSuffix(raw, []byte{0})
	if len(raw) == 0 {
		return nil
	}
	return strings.Split(string(raw), "\x00")
}

// OpenFiles returns what process pid holds open of that which an ExecInfo lists.
// It waits for nothing.
func OpenFiles(pid int) ([]event.OpenInfo, error) {
	return openFiles(filepath.Join("/proc", strconv.Itoa(pid)))
}

// openFiles returns the block devices and regular files under /dev that a
// process holds open, one entry a path and access mode: qemu opens an image
// more than once.
func openFiles(dir string) ([]event.OpenInfo, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return nil, err
	}
	type key struct {
		path  string
		flags uint32
	}
	seen := make(map[key]bool)
	var files []event.OpenInfo
	for _, entry := range entries {
		if len(files) == maxFiles {
			break
		}
		file, ok := openFile(dir, entry.Name())
		if k := (key{file.Path, file.Flags}); ok && !seen[k] {
			seen[k] = true
			files = append(files, file)
		}
	}
	return files, nil
}

// openFile describes an open file; ok is false for one that is of no interest
// or closed by now. Size is -1: what it was at the open is not known.
func openFile(dir, fd string) (info event.OpenInfo, ok bool) {
	link := filepath.Join(dir, "fd", fd)
	path, err := os.Readlink(link)
	if err != nil || !filepath.IsAbs(path) {
		return info, false // a socket, pipe or eventfd
	}
	mode, dev, err := statOpen(link)
	if err != nil {
		return info, false
	}
	info = event.OpenInfo{Path: strings.TrimSuffix(path, deleted), Size: -1}
	switch mode & unix.S_IFMT {
	case unix.S_IFBLK:
		info.Type, info.Dev = "block", &dev
	case unix.S_IFREG:
		if !strings.HasPrefix(path, "/dev/") || strings.HasPrefix(path, "/dev/shm/") ||
			strings.HasPrefix(path, "/dev/hugepages") {
			return info, false // an image file, or a guest's memory
		}
		info.Type = "file"
	default:
		return info, false
	}
	info.Flags = readFlags(filepath.Join(dir, "fdinfo", fd))
	return info, true
}

// statOpen returns the type and device number of an open file without asking a
// server: the image may be on NFS, and the server down. Before statx (Linux
// 4.11) only files that look local are asked.
func statOpen(link string) (mode uint32, dev event.Dev, err error) {
	var stx unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &stx)
	if err == nil {
		return uint32(stx.Mode), event.Dev{Major: stx.Rdev_major, Minor: stx.Rdev_minor}, nil
	}
	path, rerr := os.Readlink(link)
	if !errors.Is(err, unix.ENOSYS) || rerr != nil || !strings.HasPrefix(path, "/dev/") {
		return 0, event.Dev{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(link, &st); err != nil {
		return 0, event.Dev{}, err
	}
	return st.Mode, event.Dev{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}, nil
}

// readFlags reads the flags of an open file, 0 where they are not to be had.
func readFlags(name string) uint32 {
	data, err := readFile(name, 4096)
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
