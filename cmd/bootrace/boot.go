package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/delivery"
	"github.com/bootrace/bootrace/exporters/json"
	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/service"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// readFlags are the flags of all commands that show recorded boots.
func readFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{formatFlag(), colorFlag(), pagerFlag()}, sourceFlags(more...)...)
}

// sourceFlags are the flags of all commands that read recorded boots.
func sourceFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.DurationFlag{Name: "near-miss", Value: config.Default().NearMiss, Usage: "report a margin below this as luck"},
		&cli.PathFlag{Name: "state-dir", Value: service.StateDir, Usage: "read the logs in this `FOLDER`, and no others"},
	}, more...)
}

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Value: "text", Usage: "text for people, json for programs"}
}

func colorFlag() cli.Flag {
	return &cli.StringFlag{Name: "color", Value: "auto", Usage: "auto: where it is a terminal that has them; always or never"}
}

func timeFlag() cli.Flag {
	return &cli.StringFlag{Name: "time", Value: "boot", Usage: "boot: in seconds since the boot; wall: the time of day"}
}

// wantWall reports whether the flag asks for times of the day.
func wantWall(c *cli.Context) (bool, error) {
	switch t := c.String("time"); t {
	case "wall":
		return true, nil
	case "boot":
		return false, nil
	default:
		return false, usageError("%s: --time %s is not known: use boot or wall", c.Command.Name, t)
	}
}

// errNoClock says why there are no times of the day.
func errNoClock(c *cli.Context) error {
	return fmt.Errorf("%s: no clock was read in this boot, so no time of day is known: use --time boot", c.Command.Name)
}

// wallOf is the wall time of tl's boot where it is asked for, in nanoseconds since
// 1970, else 0.
func wallOf(c *cli.Context, tl *timeline.Timeline) (int64, error) {
	wanted, err := wantWall(c)
	switch {
	case err != nil || !wanted:
		return 0, err
	case tl.Clock == nil:
		return 0, errNoClock(c)
	}
	return tl.Clock.WallOffset, nil
}

// bootStore is where this host's boots are recorded.
func bootStore(c *cli.Context) bootlog.Store {
	dirs := []string{c.Path("state-dir")}
	if !c.IsSet("state-dir") { // a folder that was named may be another host's
		dirs = append(dirs, service.RunDir)
	}
	return bootlog.Store{Dirs: dirs, Current: bootlog.CurrentBootID()}
}

// readBoot builds the timeline of the boot that the command's argument names,
// this boot without one.
func readBoot(c *cli.Context) (*timeline.Timeline, error) {
	boot, threshold, err := findBoot(c)
	if err != nil {
		return nil, err
	}
	return buildTimeline(&boot, threshold)
}

// findBoot returns the boot that the command's argument names, this boot
// without one, and the margin below which a use that went well was luck.
func findBoot(c *cli.Context) (bootlog.Boot, time.Duration, error) {
	ref := "0"
	switch c.NArg() {
	case 0:
	case 1:
		ref = c.Args().First()
	default:
		return bootlog.Boot{}, 0, usageError("%s takes one boot, got %q too", c.Command.Name, c.Args().Get(1))
	}
	threshold, err := nearMiss(c)
	if err != nil {
		return bootlog.Boot{}, 0, err
	}
	spendMemory()
	store := bootStore(c)
	syncLog(c.Context)
	boot, err := findLog(c, &store, ref)
	return boot, threshold, err
}

// spendMemory trades memory for time while logs are read: collecting garbage
// less often takes a tenth off. Not in the service, which has to stay small.
func spendMemory() {
	const percent, limit = 300, 384 << 20 // bytes
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}

// syncLog has a running service write what it holds back, so that this boot's
// log is as new as can be. Without a service, or without rights, it is as new
// as it is.
func syncLog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_ = control.Call(ctx, control.Socket, control.Request{Do: control.Sync}, nil)
}

func buildTimeline(boot *bootlog.Boot, threshold time.Duration) (*timeline.Timeline, error) {
	r, err := openRecord(boot, threshold)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for e, err := range r.Events {
		if err != nil {
			return nil, err
		}
		r.Add(&e)
	}
	return r.Timeline(), nil
}

// openRecord opens a boot's log for a builder of its timelines.
func openRecord(boot *bootlog.Boot, threshold time.Duration) (*delivery.Record, error) {
	log, err := boot.Open()
	if err != nil {
		return nil, err
	}
	h := log.Header()
	b := timeline.NewBuilder(
		timeline.Boot{ID: h.BootID, Host: h.HostName, Kernel: h.Kernel, Current: boot.Current},
		timeline.Options{NearMiss: threshold})
	// Where something of the log can't be read and events are missing for it, a
	// loss event among the others says so.
	return &delivery.Record{Builder: b, Events: log.Lend(), Closer: log}, nil
}

// nearMiss is the flag, else the configuration's, where this machine has one.
func nearMiss(c *cli.Context) (time.Duration, error) {
	if c.IsSet("near-miss") {
		if d := c.Duration("near-miss"); d >= 0 {
			return d, nil
		}
		return 0, usageError("%s: --near-miss %s: can't be negative", c.Command.Name, c.Duration("near-miss"))
	}
	cfg, err := config.Load(config.Path)
	if err == nil {
		return cfg.NearMiss, nil
	}
	// A broken configuration is the service's affair: it keeps nobody from
	// reading a log.
	threshold := config.Default().NearMiss
	if !errors.Is(err, fs.ErrPermission) {
		fmt.Fprintf(c.App.ErrWriter, "bootrace: %s; near misses are judged by the default, %s\n", oneLine(err), threshold)
	}
	return threshold, nil
}

// output says how to write to the command's standard output.
func output(c *cli.Context) text.Options {
	opts := text.Options{}
	if f, ok := words.Raw(c.App.Writer).(*os.File); ok {
		opts = text.DetectTerminal(f, os.Getenv)
	}
	switch c.String("color") {
	case "always":
		opts.Color = true
	case "never":
		opts.Color = false
	}
	opts.Location = time.Local
	opts.All = c.Bool("all")
	return opts
}

// wantJSON reports which of the two formats is asked for.
func wantJSON(c *cli.Context) (bool, error) {
	if color := c.String("color"); !slices.Contains([]string{"", "auto", "always", "never"}, color) {
		return false, usageError("%s: --color %s is not known: use auto, always or never", c.Command.Name, color)
	}
	switch format := c.String("format"); format {
	case "json":
		return true, nil
	case "text":
		return false, nil
	default:
		return false, usageError("%s: format %q is not known: use text or json", c.Command.Name, format)
	}
}

// writeJSON writes v, a struct, as all of the program's JSON is written. Its type
// is one of those that the schema is made from (schema_test.go).
func writeJSON[T any](w io.Writer, v T) error { return json.Encode(w, v) }
