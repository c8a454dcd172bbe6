// Package serve has the commands that make a program the service: run, and early
// for the initramfs.
package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/service"
)

// Run is the command that runs the service, of that version of the program.
func Run(version string) *cli.Command {
	def := config.Default()
	return &cli.Command{
		Name:  "run",
		Usage: "trace this host, in the foreground (systemd runs this)",
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "config", Value: config.Path, Usage: "read this `FILE`"},
			&cli.GenericFlag{Name: "mode", Value: &def.Mode, Usage: "trace: record, change nothing; enforce: and hold starts of guests until their disks are ready"},
			&cli.StringSliceFlag{Name: "guest-binaries", Usage: "programs that run guests; one that ends in - stands for all that begin so"},
			&cli.GenericFlag{Name: "probes", Value: &def.Probes, Usage: "auto, ebpf, tracefs or none: how the kernel is watched"},
			&cli.GenericFlag{Name: "max-log-size", Value: &def.MaxLogSize, Usage: "limit of one boot's log"},
			&cli.IntFlag{Name: "keep-boots", Value: def.KeepBoots, Usage: "recorded boots to keep"},
			&cli.GenericFlag{Name: "keep-size", Value: &def.KeepSize, Usage: "and their size together"},
			&cli.DurationFlag{Name: "deadline", Value: def.Enforce.Deadline, Usage: "end a hold after this"},
			&cli.GenericFlag{Name: "on-timeout", Value: &def.Enforce.OnTimeout, Usage: "and then allow or deny the start"},
			&cli.GenericFlag{Name: "identity", Value: &def.Enforce.Identity, Usage: "of disks that a guest did not last run on: warn, hold, or deny its start"},
			&cli.GenericFlag{Name: "activate", Value: &def.Enforce.Activate, Usage: "volumes that a held guest waits for: never, or \"after 30s\""},
			&cli.StringSliceFlag{Name: "binaries", Usage: "paths, or patterns, of the programs whose starts are held"},
			&cli.PathFlag{Name: "state-dir", Value: service.StateDir, Usage: "keep the logs in this `FOLDER`"},
			&cli.BoolFlag{Name: "volatile-first", Usage: "log to " + service.RunDir + " until /var can be written"},
		},
		Action: func(c *cli.Context) error {
			return runService(c, options{version: version, listening: func() {}})
		},
	}
}

// options are what the two commands differ in.
type options struct {
	version   string
	early     bool
	listening func() // called once uevents queue
}

// runService runs until SIGTERM. It ends at once where an instance from the
// initramfs is the service instead.
func runService(c *cli.Context, o options) error {
	log := slog.New(slog.NewTextHandler(c.App.ErrWriter, nil))
	if os.Geteuid() != 0 {
		return errors.New("run: only root may trace a host: use sudo or the systemd unit")
	}
	load := func() (config.Config, error) { return configOf(c) }
	if _, err := load(); err != nil {
		return err
	}
	if !o.early {
		if err := takeOver(c.Context, log); err != nil {
			var adopted *service.Adopted
			if errors.As(err, &adopted) {
				return notify(log, fmt.Sprintf("READY=1\nMAINPID=%d", adopted.PID))
			}
			return err
		}
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	return service.Run(c.Context, service.Options{
		Config:        load,
		Early:         o.early,
		VolatileFirst: c.Bool("volatile-first"),
		RunDir:        service.RunDir,
		StateDir:      cmp.Or(c.Path("state-dir"), service.StateDir),
		Version:       o.version,
		Listening:     o.listening,
		Ready:         func() { _ = notify(log, "READY=1") },
		Reload:        reload,
		Log:           log,
	})
}

// adoptionLimit is less than the unit's TimeoutStartSec, and more than a slow
// host needs.
const adoptionLimit = time.Minute

func takeOver(ctx context.Context, log *slog.Logger) error {
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

// configOf is the file's configuration, with the flags that were given over it.
func configOf(c *cli.Context) (config.Config, error) {
	path := c.Path("config")
	if path == "" {
		path = config.Path
	}
	cfg, err := config.Load(path)
	if err != nil {
		return cfg, err
	}
	if c.IsSet("mode") {
		cfg.Mode = *c.Generic("mode").(*config.Mode)
	}
	if c.IsSet("guest-binaries") {
		cfg.GuestBinaries = c.StringSlice("guest-binaries")
	}
	if c.IsSet("probes") {
		cfg.Probes = *c.Generic("probes").(*config.Probes)
	}
	if c.IsSet("max-log-size") {
		cfg.MaxLogSize = *c.Generic("max-log-size").(*config.Size)
	}
	if c.IsSet("keep-boots") {
		cfg.KeepBoots = c.Int("keep-boots")
	}
	if c.IsSet("keep-size") {
		cfg.KeepSize = *c.Generic("keep-size").(*config.Size)
	}
	enforceOf(c, &cfg.Enforce)
	return cfg, cfg.Validate()
}

func enforceOf(c *cli.Context, e *config.Enforce) {
	if c.IsSet("deadline") {
		e.Deadline = c.Duration("deadline")
	}
	if c.IsSet("on-timeout") {
		e.OnTimeout = *c.Generic("on-timeout").(*config.Decision)
	}
	if c.IsSet("identity") {
		e.Identity = *c.Generic("identity").(*config.IdentityPolicy)
	}
	if c.IsSet("activate") {
		e.Activate = *c.Generic("activate").(*config.Activate)
	}
	if c.IsSet("binaries") {
		e.Binaries = c.StringSlice("binaries")
	}
}
