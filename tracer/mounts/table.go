package mounts

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/bootrace/bootrace/tracer/event"
)

// maxTable bounds what is read of a table, in bytes. A line has some 150; the
// longest possible has 20 KiB.
const maxTable = 16 << 20

// mount is a line of the table. Two that are equal are the same mount: ids are
// unique among those that exist, and the rest tells a new mount from one whose
// id it was given.
type mount struct {
	id           int
	dev          event.Dev
	root, point  string
	source, kind string // kind: of file system
	uid          uint32 // who mounted it: see fuseUser
}

// Table is what is mounted, in the order in which it was: of two mounts on one
// point the later one is seen.
type Table struct {
	mounts   []mount
	readOnly map[mount]bool
	// unread is how many lines could not be read, cut whether there were more
	// than are followed.
	unread int
	cut    bool
}

// TableOf reads what process pid has mounted.
func TableOf(pid int) (*Table, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	defer file.Close()
	return readTable(file)
}

// Point returns where the mount with this id is. Where the id is not known, 0,
// it is the innermost mount around folder, a path without links, with folder's
// st_dev. Empty: the table has no such mount.
func (t *Table) Point(id int, folder string, dev event.Dev) string {
	point := ""
	for i := range t.mounts {
		m := &t.mounts[i]
		switch {
		case id != 0 && m.id == id:
			return m.point
		case id == 0 && m.dev == dev && around(m.point, folder) && len(m.point) >= len(point):
			point = m.point
		}
	}
	return point
}

func around(point, folder string) bool {
	return folder == point || strings.HasPrefix(folder, strings.TrimSuffix(point, "/")+"/")
}

// readTable reads a table in the form of /proc/PID/mountinfo. Mounts on which no
// image can lie are left out.
func readTable(r io.Reader) (*Table, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxTable))
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	t := &Table{readOnly: map[mount]bool{}}
	list, err := parse(data)
	if err != nil {
		list = t.parseLines(data)
	}
	for _, info := range list {
		if !relevant(info) {
			continue
		}
		if len(t.mounts) == maxMounts {
			t.cut = true
			break
		}
		m := mount{
			id: info.ID, dev: event.Dev{Major: uint32(info.Major), Minor: uint32(info.Minor)},
			root: info.Root, point: info.Mountpoint, source: info.Source, kind: info.FSType,
			uid: fuseUser(info),
		}
		t.mounts = append(t.mounts, m)
		t.readOnly[m] = readOnly(info)
	}
	return t, nil
}

func parse(data []byte) ([]*mountinfo.Info, error) {
	return mountinfo.GetMountsFromReader(bytes.NewReader(data), nil)
}

// parseLines reads the lines that can be read where one can't be: the library
// gives up with the first that it does not understand.
func (t *Table) parseLines(data []byte) []*mountinfo.Info {
	var list []*mountinfo.Info
	for line := range bytes.Lines(data) {
		found, err := parse(line)
		if err != nil {
			t.unread++
		}
		list = append(list, found...)
	}
	return list
}

// fuseUser returns the user who mounted a FUSE file system, which fusermount does for
// users other than root (user_id of mount.fuse(8)); 0: root, or another kind.
func fuseUser(info *mountinfo.Info) uint32 {
	if !strings.HasPrefix(info.FSType, "fuse") {
		return 0
	}
	for option := range strings.SplitSeq(info.VFSOptions, ",") {
		if id, ok := strings.CutPrefix(option, "user_id="); ok {
			n, err := strconv.ParseUint(id, 10, 32)
			if err == nil {
				return uint32(n)
			}
		}
	}
	return 0
}

// readOnly: the mount is, or the whole file system.
func readOnly(info *mountinfo.Info) bool {
	for _, options := range []string{info.Options, info.VFSOptions} {
		if first, _, _ := strings.Cut(options, ","); first == "ro" {
			return true
		}
	}
	return false
}

// kernelKinds are file systems that have no files but the kernel's own.
var kernelKinds = []string{
	"binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "efivarfs", "fusectl", "hugetlbfs",
	"mqueue", "nfsd", "nsfs", "proc", "pstore", "resctrl", "rootfs", "rpc_pipefs", "securityfs", "selinuxfs", "smackfs",
	"sysfs", "tracefs",
}

// containers are folders below which engines mount containers' roots and shared
// memory: none of a guest's files, and many. A volume that is mounted there is
// of another kind than these two.
var (
	containers = []string{
		"/run/containerd/", "/run/containers/", "/run/docker/", "/run/k3s/containerd/", "/run/podman/",
		"/var/lib/containerd/", "/var/lib/containers/", "/var/lib/docker/", "/var/lib/rancher/",
	}
	containerKinds = []string{"overlay", "tmpfs"}
)

// credentials is where systemd mounts the secrets of services.
const credentials = "/run/credentials/"

// relevant reports whether an image can lie on a mount, or a mount below it.
func relevant(info *mountinfo.Info) bool {
	under := func(folder string) bool { return strings.HasPrefix(info.Mountpoint, folder) }
	switch {
	case slices.Contains(kernelKinds, info.FSType), under(credentials):
		return false
	case slices.Contains(containerKinds, info.FSType) && slices.ContainsFunc(containers, under):
		return false
	}
	return true
}
