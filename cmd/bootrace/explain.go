package main

import (
	"context"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
)

// explained is the JSON form of `explain`: a guest.Guest, and with --headers
// what the images' headers name, one for each disk, null for a disk without.
type explained struct {
	guest.Guest
	Chains []*image.Chain `json:"chains,omitempty"`
}

// A command line can come from another host, so no image is read unless asked
// for: here the paths may lead elsewhere.
func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "what bootrace understands of a qemu command line",
		ArgsUsage: "-- QEMU-COMMAND-LINE",
		Flags: []cli.Flag{
			formatFlag(),
			&cli.BoolFlag{Name: "headers", Usage: "read the images' headers on this host, and show what they name"},
		},
		Action: func(c *cli.Context) error {
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			if !c.Args().Present() {
				return usageError("explain: give a qemu command line after --")
			}
			out := explained{Guest: guest.Parse(c.Args().Slice())}
			if c.Bool("headers") {
				out.Chains = readHeaders(c.Context, &out.Guest)
			}
			if asJSON {
				return writeJSON(c.App.Writer, out)
			}
			return text.Explain(c.App.Writer, &out.Guest, out.Chains, output(c))
		},
	}
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
