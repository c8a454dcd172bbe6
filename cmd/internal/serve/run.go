// Package serve makes a program the service: Run, and Early for the initramfs.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/readers"
	"github.com/bootrace/bootrace/tracer/service"
)

// Run runs the service, of that version of the program, with those flags. A
// *UsageError says that they can't be used.
func Run(ctx context.Context, version string, args []string, stderr io.Writer) error {
	f, err := parse(args)
	if err != nil {
		return err
	}
	return runService(ctx, f, options{version: version, listening: func() {}, stderr: stderr})
}

// options are what the two commands differ in.
type options struct {
	version   string
	early     bool
	listening func() // called once uevents queue
	stderr    io.Writer
}

// runService runs until SIGTERM. It ends at once where an instance from the
// initramfs is the service instead.
func runService(ctx context.Context, f *flags, o options) error {
	log := slog.New(slog.NewTextHandler(o.stderr, nil))
	if os.Geteuid() != 0 {
		return errors.New("run: only root may trace a host: use sudo or the systemd unit")
	}
	fallback, err := f.fallback()
	if err != nil {
		return err
	}
	replaced := ""
	if !o.early {
		if replaced, err = takeOver(ctx, log); err != nil {
			var adopted *service.Adopted
			if errors.As(err, &adopted) {
				return notify(log, fmt.Sprintf("READY=1\nMAINPID=%d", adopted.PID))
			}
			return err
		}
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	return service.Run(ctx, service.Options{
		Config:        f.configuration,
		Fallback:      fallback,
		Keep:          func(dir string) error { return config.Keep(f.config, dir) },
		Kept:          f.kept,
		Early:         o.early,
		VolatileFirst: f.volatileFirst,
		RunDir:        service.RunDir,
		StateDir:      f.stateDir,
		Version:       o.version,
		Replaced:      replaced,
		Listening:     o.listening,
		Ready:         func() { _ = notify(log, "READY=1") },
		Reload:        reload,
		Readers:       readers.Group,
		Log:           log,
	})
}

// adoptionLimit is less than the unit's TimeoutStartSec, and more than a slow
// host needs.
const adoptionLimit = time.Minute

func takeOver(ctx context.Context, log *slog.Logger) (replaced string, err error) {
	ctx, cancel := context.WithTimeout(ctx, adoptionLimit)
	defer cancel()
	return service.TakeOver(ctx, control.Socket, log)
}

// notify tells systemd, where it runs this.
func notify(log *slog.Logger, state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Error("systemd is not told", "state", state, "error", err)
		return fmt.Errorf("tell systemd %q: %w", state, err)
	}
	return nil
}
