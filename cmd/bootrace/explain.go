package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// explained is the JSON form of `explain`: a guest.Guest, the launcher that
// executes it, if one was given, and with --headers what the images' headers
// name, one for each disk, null for a disk without.
type explained struct {
	Launcher string `json:"launcher,omitempty"`
	guest.Guest
	Chains []*image.Chain `json:"chains,omitempty"`
}

// A command line can come from another host, so no image is read unless asked
// for: here the paths may lead elsewhere.
func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "what bootrace understands of a guest's command line",
		ArgsUsage: "-- COMMAND-LINE",
		Description: "The command line is that of qemu, cloud-hypervisor or firecracker, or of a\n" +
			"launcher such as env or sudo that executes one of them. The exit status is 5\n" +
			"where the guest may have disks that the command line does not tell, and 2\n" +
			"where it is none of a program that bootrace watches.",
		Flags: []cli.Flag{
			formatFlag(), colorFlag(),
			&cli.BoolFlag{Name: "headers", Usage: "read the images' headers on this host, and show what they name"},
		},
		Action: func(c *cli.Context) error {
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			if !c.Args().Present() {
				return usageError("explain: give a guest's command line after --")
			}
			out := explain(c.Args().Slice())
			if c.Bool("headers") {
				out.Chains = readHeaders(c.Context, &out.Guest)
			}
			switch {
			case asJSON:
				err = writeJSON(c.App.Writer, out)
			case out.IsGuest || !out.NotWatched:
				err = text.Explain(c.App.Writer, out.Launcher, &out.Guest, out.Chains, output(c))
			}
			if err != nil {
				return err
			}
			return verdictOn(&out.Guest)
		},
	}
}

// explain reads a command line, or that within a launcher's.
func explain(args []string) explained {
	var out explained
	if inner := guest.Launched(args); inner != nil {
		out.Launcher = filepath.Base(args[0])
		args = inner
	}
	cfg, err := config.Load(config.Path)
	watched := err == nil && guest.Matches(cfg.GuestBinaries, args[0])
	out.Guest = guest.Parser{Watched: watched}.Parse(args)
	return out
}

// verdictOn is how the command ends.
func verdictOn(g *guest.Guest) error {
	switch {
	case !g.IsGuest && g.NotWatched:
		return usageError("explain: %s: give the command line of the hypervisor itself (qemu, cloud-hypervisor, firecracker), "+
			"as in /proc/PID/cmdline, or name the program in guest-binaries", g.NotGuest)
	case g.Unknown != "" || len(g.NotUnderstood) > 0: // it may have further disks
		return outcome(timeline.OutcomeUnknown)
	}
	return nil
}

// readHeaders follows the disks of a guest on this host. Relative paths are
// relative to where the command was given.
func readHeaders(ctx context.Context, g *guest.Guest) []*image.Chain {
	control, err := devmap.Open() // without it, or without the right: no mappings
	if err == nil {
		defer control.Close()
	}
	dir, _ := os.Getwd()
	tree := func(dev event.Dev) (devmap.Device, error) { return devmap.Tree("/", dev) }
	reader := image.Reader{Host: image.LocalHost{Mappings: control}, Dir: dir, Tree: tree}
	chains := make([]*image.Chain, len(g.Disks))
	for i := range g.Disks {
		if d := &g.Disks[i]; d.Storage == guest.StorageFile || len(d.Members) > 0 {
			chains[i] = reader.Follow(ctx, &d.Image)
		}
	}
	return chains
}
