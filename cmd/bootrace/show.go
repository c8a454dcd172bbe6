package main

import (
	"encoding/json"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/tracer/event"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "the timeline of a boot",
		ArgsUsage: "[BOOT]",
		Flags: readFlags(
			&cli.BoolFlag{Name: "all", Usage: "every lane, LVM's private layers too"},
			&cli.DurationFlag{Name: "from", Usage: "begin this long after the boot, as in 12.5s"},
			&cli.DurationFlag{Name: "to", Usage: "end this long after the boot"},
		),
		Action: func(c *cli.Context) error {
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			if from, to := c.Duration("from"), c.Duration("to"); to != 0 && from >= to {
				return usageError("show: --from %s is not before --to %s", from, to)
			}
			tl, err := readBoot(c)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.App.Writer, tl)
			}
			opts := output(c)
			opts.From, opts.To = sinceBoot(c.Duration("from")), sinceBoot(c.Duration("to"))
			return text.Show(c.App.Writer, tl, opts)
		},
	}
}

func sinceBoot(d time.Duration) event.Time { return event.Time(d) }

func racesCommand() *cli.Command {
	return &cli.Command{
		Name:      "races",
		Usage:     "the findings of a boot in words; exit status 3 if a guest came before its disk",
		ArgsUsage: "[BOOT]",
		Flags:     readFlags(),
		Action: func(c *cli.Context) error {
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			tl, err := readBoot(c)
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(c.App.Writer, tl.Findings)
			} else {
				err = text.Races(c.App.Writer, tl, output(c))
			}
			if err != nil {
				return err
			}
			if len(tl.Races()) > 0 {
				return &exitError{status: exitRaces}
			}
			return nil
		},
	}
}

func jsonEncoder(w io.Writer) *json.Encoder {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out
}
