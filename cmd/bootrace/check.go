package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/tracer/check"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/probe"
	"github.com/bootrace/bootrace/tracer/service"
)

// The JSON form of `check` is a check.Report. The exit status is 0 where this
// host can be traced and starts can be held, and 3 where not both.
func checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "can this host be traced, and its guests held, with what, and if not why not; exit status 3 if not",
		Flags: []cli.Flag{formatFlag(), colorFlag(),
			&cli.PathFlag{Name: "config", Usage: "check only whether this `FILE`, with the drop-ins beside it, can be the configuration; exit status 1 if not"}},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			if c.IsSet("config") {
				if asJSON {
					return usageError("check: --config says yes or no by its exit status, and has no JSON form: `bootrace config --config FILE --format json` has")
				}
				return checkConfig(c, c.Path("config"))
			}
			report, err := checkHost(c.Context)
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(c.App.Writer, report)
			} else {
				err = text.Check(c.App.Writer, &report, output(c))
			}
			if err != nil {
				return err
			}
			return verdict(&report)
		},
	}
}

func checkHost(ctx context.Context) (check.Report, error) {
	cfg, err := config.Load(config.Path)
	if err != nil {
		return check.Report{}, err
	}
	opts := check.Options{
		Guests: cfg.GuestBinaries, Probes: probe.Choice(cfg.Probes), StateDir: service.StateDir,
		Mode: cfg.Mode, Binaries: cfg.Enforce.Binaries,
	}
	askService(ctx, control.Socket, statusLimit, &opts)
	return check.Host(ctx, opts), nil
}

// statusLimit is how long the service may take to say what it does. It takes
// milliseconds, and a stopped one never answers.
const statusLimit = 2 * time.Second

// askService adds what the running service says.
func askService(ctx context.Context, socket string, limit time.Duration, o *check.Options) {
	var st service.Status
	switch err := askStatus(ctx, socket, limit, &st); {
	case errors.Is(err, control.ErrNoService):
		return
	case err != nil:
		o.ServiceErr = err
		return
	}
	o.Service = fmt.Sprintf("process %d, %s", st.PID, sinceWhen(&st))
	o.Sources, o.FromInitramfs = st.Sources, st.FromInitramfs
	o.Held, o.HoldErr = st.Hold, st.HoldErr
}

func verdict(r *check.Report) error {
	if !r.Trace || !r.Enforce {
		return &exitError{status: exitTrouble}
	}
	return nil
}
