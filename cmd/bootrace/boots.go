package main

import (
	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/tracer/bootlog"
)

func bootsCommand() *cli.Command {
	return &cli.Command{
		Name:  "boots",
		Usage: "the recorded boots, one line each",
		Flags: readFlags(),
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			store := bootStore(c)
			syncLog(c.Context)
			boots, err := store.List()
			if err != nil {
				return err
			}
			rows := make([]text.BootRow, 0, len(boots))
			for i := range boots {
				row, err := bootRow(c, &boots[i])
				if err != nil {
					return err
				}
				row.Index = -i
				if store.Current != "" && !boots[0].Current {
					row.Index-- // this boot is not recorded
				}
				rows = append(rows, row)
			}
			if asJSON {
				return writeJSON(c.App.Writer, rows)
			}
			return text.Boots(c.App.Writer, rows, output(c))
		},
	}
}

// bootRow reads the boot. A log that can't be read is a row with its problem.
func bootRow(c *cli.Context, b *bootlog.Boot) (text.BootRow, error) {
	row := text.BootRow{BootID: b.ID, Size: b.Size, Events: -1, Guests: -1, Races: -1, Start: b.Start}
	if b.Err != nil {
		row.Problem = b.Err.Error()
		return row, nil
	}
	tl, err := buildTimeline(c, b)
	if err != nil {
		row.Problem = err.Error()
		return row, nil
	}
	row.Host = tl.Host.Name
	row.Duration = tl.Last.Sub(tl.First)
	row.Events = tl.Events
	row.Guests = len(tl.Guests)
	row.Races = len(tl.Races())
	row.Complete, row.CompleteFrom = tl.Complete, tl.CompleteFrom
	row.Trusted = tl.Clock != nil && tl.Clock.Trusted
	return row, nil
}
