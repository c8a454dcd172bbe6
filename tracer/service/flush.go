package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/control"
)

// flushed is the file in RunDir that exists while the state folder can be
// written: systemd makes it once /var is mounted, and removes it before /var
// goes (bootrace-flush.socket). It tells an instance that starts later, too.
const flushed = "flushed"

// moveLog moves the log to the state folder once that can be written, and this
// instance is the service.
func (s *Service) moveLog(ctx context.Context) error {
	select {
	case <-s.adopted:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := awaitFile(ctx, filepath.Join(s.opts.RunDir, flushed)); err != nil {
		return err
	}
	if err := s.writer.MoveTo(ctx, s.opts.StateDir); err != nil {
		s.setAside(err)
		if err := s.writer.MoveTo(ctx, s.opts.StateDir); err != nil {
			s.staysInMemory(err)
			return err
		}
	}
	s.roster.Opened(s.opts.StateDir)
	s.share(ctx)
	s.keepConfig()
	s.thin()
	return nil
}

// awaitFile returns when path exists. Its folder must exist.
func awaitFile(ctx context.Context, path string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("wait for %s: inotify: %w", path, err)
	}
	changes := os.NewFile(uintptr(fd), "inotify")
	defer changes.Close()
	stop := context.AfterFunc(ctx, func() { changes.Close() })
	defer stop()
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		return fmt.Errorf("wait for %s: watch its folder: %w", path, err)
	}
	names := make([]byte, 4096) // which changes does not matter
	for !exists(path) {
		if _, err := changes.Read(names); err != nil {
			return fmt.Errorf("wait for %s: %w", path, errors.Join(context.Cause(ctx), err))
		}
	}
	return nil
}

// Relinquish says that the state folder is about to go. Without a service
// there is nothing to give up.
func Relinquish(ctx context.Context) error {
	err := control.Call(ctx, control.Socket, control.Request{Do: control.Relinquish}, nil)
	if errors.Is(err, control.ErrNoService) {
		return nil
	}
	return err
}
