package main

import (
	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/tracer/guest"
)

// The JSON form of `explain` is a guest.Guest.
func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "what bootrace understands of a qemu command line",
		ArgsUsage: "-- QEMU-COMMAND-LINE",
		Flags:     []cli.Flag{formatFlag()},
		Action: func(c *cli.Context) error {
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			if !c.Args().Present() {
				return usageError("explain: give a qemu command line after --")
			}
			g := guest.Parse(c.Args().Slice())
			if asJSON {
				return writeJSON(c.App.Writer, g)
			}
			return text.Explain(c.App.Writer, &g, output(c))
		},
	}
}
