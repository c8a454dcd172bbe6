package main

import (
	"encoding/json"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/tracer/guest"
)

func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "what bootrace understands of a qemu command line",
		ArgsUsage: "-- QEMU-COMMAND-LINE",
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return usageError("explain: give a qemu command line after --")
			}
			out := json.NewEncoder(c.App.Writer)
			out.SetIndent("", "  ")
			return out.Encode(guest.Parse(guest.Redact(c.Args().Slice())))
		},
	}
}
