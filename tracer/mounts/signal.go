package mounts

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// tellChanges calls changed each time that the list of mounts behind fd has changed,
// until ctx is done: then the error is ctx's.
//
// The kernel tells whoever polls the list, and Go's own poller asks for other
// events than these. So the list is put into an epoll instance, which is readable
// when the list has changed, and Go waits for that: no thread stands in poll, and
// nobody asks from time to time.
func tellChanges(ctx context.Context, fd int, changed func()) error {
	epoll, err := epollOf(fd)
	if err != nil {
		return fmt.Errorf("follow mounts: %w", err)
	}
	defer epoll.Close()
	raw, err := epoll.SyscallConn()
	if err != nil {
		return fmt.Errorf("follow mounts: %w", err)
	}
	defer context.AfterFunc(ctx, func() {
		_ = epoll.SetReadDeadline(time.Unix(1, 0)) // Go's poller has taken it, or Read fails
	})()
	woken := false
	err = raw.Read(func(uintptr) bool {
		// To be woken is the answer. Asking once more would find nothing: Go's poller
		// has asked, and whoever asks takes the change back (mounts_poll,
		// fs/proc_namespace.c). This is one call for all changes, because each begins
		// with forgetting that there was one.
		if woken {
			changed()
		}
		woken = true
		return false
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("follow mounts: %w", err)
}

func epollOf(fd int) (*os.File, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLPRI | unix.EPOLLERR, Fd: int32(fd)})
	if err == nil {
		err = unix.SetNonblock(epoll, true) // has Go's poller take it
	}
	if err != nil {
		unix.Close(epoll)
		return nil, err
	}
	return os.NewFile(uintptr(epoll), "epoll"), nil
}
