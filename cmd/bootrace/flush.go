package main

import (
	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/tracer/service"
)

func flushCommand() *cli.Command {
	return &cli.Command{
		Name:   "flush",
		Usage:  "move the log of this boot to disk (bootrace-flush.service runs this)",
		Hidden: true,
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "relinquish", Usage: "/var is about to be unmounted: end the log"}},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if c.Bool("relinquish") {
				return service.Relinquish(c.Context)
			}
			return service.Flush(c.Context)
		},
	}
}
