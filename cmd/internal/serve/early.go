package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/rights"
	"github.com/bootrace/bootrace/tracer/service"
)

// startLimit is how long the initramfs waits for this program to listen, at
// the most.
const startLimit = 2 * time.Second

// Early is Run in the initramfs, which has it in the background.
func Early(ctx context.Context, version string) error {
	release, err := detach()
	if err != nil {
		return fmt.Errorf("early: %w", err)
	}
	if err := rights.Confine(); err != nil { // it goes on with more than it needs
		fmt.Fprintln(os.Stderr, "bootrace: early:", err)
	}
	f, err := parse(nil)
	if err != nil {
		return err
	}
	return runService(ctx, f, options{version: version, early: true, listening: release, stderr: os.Stderr})
}

// detach makes this a process that the initramfs leaves behind: in a session
// of its own, with a log in the place of its standard error. The initramfs
// reads the standard output, and goes on when release closes it: uevents queue
// from then on, so udev may begin, and the probes attach while it does. Where
// systemd runs the initramfs it is told the same.
func detach() (release func(), err error) {
	if err := os.Chdir("/"); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(service.RunDir, 0o700); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(service.RunDir, "early.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if err := unix.Dup3(int(log.Fd()), 2, 0); err != nil {
		return nil, fmt.Errorf("log to %s: %w", log.Name(), err)
	}
	if _, err := syscall.Setsid(); err != nil && !errors.Is(err, unix.EPERM) { // EPERM: it leads one already
		return nil, fmt.Errorf("begin a session: %w", err)
	}
	release = sync.OnceFunc(func() {
		_ = unix.Dup3(2, 1, 0)
		_, _ = daemon.SdNotify(false, "READY=1")
	})
	time.AfterFunc(startLimit, release)
	return release, nil
}
