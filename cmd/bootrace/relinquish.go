package main

import (
	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/tracer/service"
)

func relinquishCommand() *cli.Command {
	return &cli.Command{
		Name:   "relinquish",
		Usage:  "end the log of this boot: /var is about to be unmounted (bootrace-flush.socket runs this)",
		Hidden: true,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return service.Relinquish(c.Context)
		},
	}
}
