package main

import (
	"io"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/tracer/diff"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// The JSON form of `diff` is a diff.Diff.
func diffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "what changed between two boots: order, margins, devices, sizes, findings",
		ArgsUsage: "BOOT BOOT",
		Flags:     readFlags(&cli.BoolFlag{Name: "all", Usage: "what is equal in both, too"}),
		Action: func(c *cli.Context) error {
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			if c.NArg() != 2 {
				return usageError("diff takes two boots, got %d: as in `bootrace diff -1 0`", c.NArg())
			}
			threshold, err := nearMiss(c)
			if err != nil {
				return err
			}
			spendMemory()
			syncLog(c.Context)
			store := bootStore(c)
			var both [2]*timeline.Timeline
			for i := range both {
				boot, err := findLog(c, &store, c.Args().Get(i))
				if err != nil {
					return err
				}
				if both[i], err = buildTimeline(&boot, threshold); err != nil {
					return err
				}
			}
			d := diff.Compare(both[0], both[1])
			if asJSON {
				err = writeJSON(c.App.Writer, d)
			} else {
				err = paged(c, func(w io.Writer) error { return text.Diff(w, d, output(c)) })
			}
			if err != nil {
				return err
			}
			return outcome(both[1].Summary.Outcome)
		},
	}
}
