package hostile

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A launcher that is Go's own, or a shell's vfork, stands still while its start is
// held. So starts are made by a fork that waits for nothing.

// image is a start that is ready to be made.
type image struct {
	path       *byte
	argv, envv []*byte
	uid        int
}

func newImage(uid int, path string, args, env []string) (*image, error) {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return nil, err
	}
	argv, err := syscall.SlicePtrFromStrings(append([]string{path}, args...))
	if err != nil {
		return nil, err
	}
	envv, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return nil, err
	}
	return &image{p, argv, envv, uid}, nil
}

// start makes the start, and returns its process.
func (m *image) start() (*os.Process, error) {
	// A child that is held has what was open when it was forked: a disk that is being
	// attached would stay so.
	syscall.ForkLock.Lock()
	pid, errno := fork(m.path, &m.argv[0], &m.envv[0], uintptr(m.uid))
	syscall.ForkLock.Unlock()
	if errno != 0 {
		return nil, fmt.Errorf("fork: %w", errno)
	}
	return os.FindProcess(int(pid))
}

// fork has a child with its own copy of this memory become a user and execute a
// program. The child has one thread, and Go's runtime does not know of it: it makes
// system calls and nothing else.
//
//go:nosplit
//go:norace
func fork(path *byte, argv, envv **byte, uid uintptr) (pid uintptr, errno syscall.Errno) {
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid != 0 || errno != 0 {
		return pid, errno
	}
	if uid != 0 {
		_, _, errno = syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
		if errno == 0 {
			_, _, errno = syscall.RawSyscall(unix.SYS_SETGID, uid, 0, 0)
		}
		if errno == 0 {
			_, _, errno = syscall.RawSyscall(unix.SYS_SETUID, uid, 0, 0)
		}
	}
	if errno == 0 { // it ends with who started it; a change of the user would undo this
		_, _, errno = syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0)
	}
	if errno == 0 {
		syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(argv)), uintptr(unsafe.Pointer(envv)))
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 126, 0, 0)
	}
}
