package hold

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A file system that is mounted later covers the folders that are watched, and can
// have programs that nothing else tells of.

// After a mount more are waited for, for mountPause at least: where containers start,
// there are many. The search takes one in mountShare of the time at the most.
const (
	mountPause = 100 * time.Millisecond
	mountShare = 20
)

// openMounts returns a descriptor that tells each change once, to whoever polls it
// first. So it is no os.File: Go polls those itself.
func openMounts() (int, error) {
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("watch for file systems with programs that run guests: %w", err)
	}
	return fd, nil
}

// followMounts guards the programs on file systems that are mounted, until ctx
// ends. changed is called when the programs were looked at again.
func (p *programs) followMounts(ctx context.Context, changed func()) error {
	end, ends, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("follow mounts: %w", err)
	}
	defer end.Close()
	defer ends.Close()
	defer context.AfterFunc(ctx, func() { ends.Close() })()
	ready := []unix.PollFd{{Fd: int32(p.mounts), Events: unix.POLLPRI}, {Fd: int32(end.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(ready, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("follow mounts: %w", err)
		case ready[1].Revents != 0:
			return nil
		}
		began := time.Now()
		if err := p.everywhere(); err != nil {
			return err
		}
		changed()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(mountPause, mountShare*time.Since(began))):
		}
	}
}

// everywhere looks for all folders and programs anew. That a folder is what it was
// does not mean that it is still watched: it was mounted again.
func (p *programs) everywhere() error {
	p.mu.Lock()
	clear(p.watched)
	p.mu.Unlock()
	return p.scan()
}
