package view

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// User is in whose name a file is read: the ids that the kernel checks a
// process's opens by.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary
}

// What ReadFile does not read.
var (
	ErrNotRegular = errors.New("not a regular file: it is not read")
	ErrVirtual    = errors.New("a file of /proc or /sys, which says something else to each reader: it is not read")
	ErrChanged    = errors.New("it changed while it was read")
)

// ReadFile reads a regular file for a stranger, who chose its path: at most limit
// bytes and one more, by which a longer file is told. Anything else is not
// opened, so that no device, pipe or terminal notices and nothing waits for one.
// The kernel itself decides whether the user may get there and read it, folders
// and access lists included.
//
// It needs root for another user than our own.
func (v *View) ReadFile(name string, user User, limit int64) ([]byte, error) {
	type outcome struct {
		data []byte
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		// The thread ends with this goroutine: it is never used for anything
		// else with the user's rights.
		runtime.LockOSThread()
		if err := become(user); err != nil {
			done <- outcome{err: err}
			return
		}
		data, err := v.read(name, limit)
		done <- outcome{data, err}
	}()
	o := <-done
	return o.data, o.err
}

// become gives this thread the user's rights to files. Go's own functions would
// do so to all threads. Leaving uid 0 takes the capabilities over files away, too
// (capabilities(7), "Effect of user ID changes on capabilities").
func become(user User) error {
	if int(user.UID) == os.Geteuid() && int(user.GID) == os.Getegid() {
		return nil
	}
	groups := user.Groups
	if unsafe.Sizeof(uintptr(0)) == 4 {
		groups = nil // there this call has 16-bit ids
	}
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0); errno != 0 {
		return fmt.Errorf("read it as its user: %w", errno)
	}
	for _, set := range []struct {
		id  uint32
		now func(int) (int, error)
	}{{user.GID, unix.SetfsgidRetGid}, {user.UID, unix.SetfsuidRetUid}} {
		_, _ = set.now(int(set.id))                                    // returns what was before, and no error
		if got, err := set.now(-1); err != nil || got != int(set.id) { // -1 changes nothing
			return fmt.Errorf("read it as its user %d: %w", user.UID, unix.EPERM)
		}
	}
	return nil
}

// read reads a regular file with the rights of this thread.
func (v *View) read(name string, limit int64) ([]byte, error) {
	found, err := v.Walk(name)
	if err != nil {
		return nil, err
	}
	if found.Mode != 0 {
		return nil, ErrNotRegular
	}
	file, err := v.Open(name, &found)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var kind unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &kind); err != nil {
		return nil, err
	}
	if virtual[kind.Type] {
		return nil, ErrVirtual
	}
	before, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, ErrNotRegular
	}
	data, err := io.ReadAll(io.NewSectionReader(file, 0, limit+1))
	if err != nil {
		return nil, err
	}
	after, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case changed(before, after), after.Size() <= limit && int64(len(data)) != after.Size():
		return nil, ErrChanged
	}
	return data, nil
}

func changed(before, after fs.FileInfo) bool {
	return before.Size() != after.Size() || !before.ModTime().Equal(after.ModTime())
}

// virtual are the file systems whose files are made when they are read.
var virtual = map[int64]bool{
	unix.PROC_SUPER_MAGIC: true, unix.SYSFS_MAGIC: true, unix.DEBUGFS_MAGIC: true, unix.TRACEFS_MAGIC: true,
	unix.CGROUP_SUPER_MAGIC: true, unix.CGROUP2_SUPER_MAGIC: true, unix.SECURITYFS_MAGIC: true, unix.BPF_FS_MAGIC: true,
}
