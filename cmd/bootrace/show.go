package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// The JSON form of `show` is a timeline.Timeline.
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
			switch from, to := c.Duration("from"), c.Duration("to"); {
			case from < 0 || to < 0:
				return usageError("show: --from and --to count from the boot: they can't be negative")
			case to != 0 && from >= to:
				return usageError("show: --from %s is not before --to %s", from, to)
			}
			tl, err := readBoot(c)
			if err != nil {
				return err
			}
			if err := within(c, tl); err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(c.App.Writer, tl)
			} else {
				opts := output(c)
				opts.From, opts.To = sinceBoot(c.Duration("from")), sinceBoot(c.Duration("to"))
				err = text.Show(c.App.Writer, tl, opts)
			}
			if err != nil {
				return err
			}
			return outcome(tl.Summary.Outcome)
		},
	}
}

// within refuses a part of the boot that the record does not reach: a picture of
// it would look like a boot in which nothing happened.
func within(c *cli.Context, tl *timeline.Timeline) error {
	from, to := sinceBoot(c.Duration("from")), sinceBoot(c.Duration("to"))
	switch {
	case from > tl.Last:
		return usageError("show: --from %s is after the end of the record, %s", words.Seconds(from), words.Seconds(tl.Last))
	case to != 0 && to < tl.First:
		return usageError("show: --to %s is before the record begins, %s", words.Seconds(to), words.Seconds(tl.First))
	}
	return nil
}

// racesJSON is what `races --format json` prints: the findings, what they come
// to, and for what part of the boot it means something that there are none. The
// fields are those of a timeline.
type racesJSON struct {
	BootID       string              `json:"boot_id"`
	Complete     bool                `json:"complete"`
	CompleteFrom *event.Time         `json:"complete_from_ns,omitempty"`
	Incomplete   []timeline.Gap      `json:"incomplete"`
	Findings     []*timeline.Finding `json:"findings"`
	Verdicts     []*timeline.Verdict `json:"verdicts"`
}

func sinceBoot(d time.Duration) event.Time { return event.Time(d) }

func racesCommand() *cli.Command {
	return &cli.Command{
		Name:      "races",
		Usage:     "the findings of a boot in words; exit status 3 if a guest failed, 5 if that is not known",
		ArgsUsage: "[BOOT]",
		Flags:     readFlags(&cli.StringFlag{Name: "guest", Usage: "only of the guest with this `NAME` or uuid"}),
		Action: func(c *cli.Context) error {
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			tl, err := readBoot(c)
			if err != nil {
				return err
			}
			if name := c.String("guest"); c.IsSet("guest") {
				boot := words.ShortID(tl.BootID)
				if tl = tl.Only(name); tl == nil {
					return fmt.Errorf("races: no guest %q in boot %s: `bootrace show --all` lists its guests", name, boot)
				}
			}
			if asJSON {
				err = writeJSON(c.App.Writer, racesJSON{tl.BootID, tl.Complete, tl.CompleteFrom, tl.Incomplete, tl.Findings, tl.Verdicts})
			} else {
				err = text.Races(c.App.Writer, tl, output(c))
			}
			if err != nil {
				return err
			}
			return outcome(tl.Summary.Outcome)
		},
	}
}
