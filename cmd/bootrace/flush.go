package main

import (
	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/tracer/control"
)

func flushCommand() *cli.Command {
	return &cli.Command{
		Name:   "flush",
		Usage:  "move the log of this boot to disk (bootrace-flush.service runs this)",
		Hidden: true,
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "relinquish", Usage: "/var is about to be unmounted: end the log"}},
		Action: func(c *cli.Context) error {
			do := control.Flush
			if c.Bool("relinquish") {
				do = control.Relinquish
			}
			return control.Call(c.Context, control.Socket, control.Request{Do: do}, nil)
		},
	}
}
