// Package readers is about who may read what bootrace records without being root: the
// members of one group, which packaging makes. They may list and read the recorded
// boots and ask the service for its status; they change nothing.
package readers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// Name is the group's, as in packaging/systemd/bootrace.sysusers.
const Name = "bootrace"

// Group returns the group's number, 0 where this host does not have it in /etc/group.
func Group() int {
	g, err := user.LookupGroup(Name)
	if err != nil {
		return 0
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil || gid < 0 {
		return 0
	}
	return gid
}

// ShareFolder lets the members of a group list a folder and enter it. It is no error
// where there is none, or no group.
func ShareFolder(path string, gid int) error { return share(path, gid, 0o750, unix.O_DIRECTORY) }

// ShareSocket lets the members of a group connect to a socket.
func ShareSocket(path string, gid int) error { return share(path, gid, 0o660, 0) }

// share gives a group a mode for path itself, which is no link.
func share(path string, gid int, mode uint32, kind int) error {
	if gid <= 0 {
		return nil
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC|kind, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("let group %s read %s: %w", Name, path, err)
	}
	defer unix.Close(fd)
	// The group first: the one before must not get what is meant for this one.
	if err := unix.Fchownat(fd, "", -1, gid, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("let group %s read %s: chown: %w", Name, path, err)
	}
	if err := os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), fs.FileMode(mode)); err != nil {
		return fmt.Errorf("let group %s read %s: %w", Name, path, err)
	}
	return nil
}
