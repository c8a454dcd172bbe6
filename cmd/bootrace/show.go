package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

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
			timeFlag(),
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "draw it again while the host boots, until it is stopped"},
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
			if _, err := wantWall(c); err != nil {
				return err
			}
			if c.Bool("follow") {
				if asJSON {
					return usageError("show: --follow draws for people: `bootrace events --follow --format json` is for programs")
				}
				return followBoot(c)
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
				err = paged(c, func(w io.Writer) error { return draw(c, w, tl) })
			}
			if err != nil {
				return err
			}
			return outcome(tl.Summary.Outcome)
		},
	}
}

// draw writes the picture of tl as the flags ask for it.
func draw(c *cli.Context, w io.Writer, tl *timeline.Timeline) error {
	opts := output(c)
	opts.From, opts.To = sinceBoot(c.Duration("from")), sinceBoot(c.Duration("to"))
	var err error
	if opts.Wall, err = wallOf(c, tl); err != nil {
		return err
	}
	return text.Show(w, tl, opts)
}

// clearScreen has a terminal begin at its top again.
const clearScreen = "\x1b[H\x1b[2J\x1b[3J"

// followBoot draws the boot again whenever its log has grown: in the same place on a
// terminal, one beneath the other elsewhere. It ends where it is stopped, and with a
// boot that does not run.
func followBoot(c *cli.Context) error {
	boot, threshold, err := findBoot(c)
	if err != nil {
		return err
	}
	out := words.Raw(c.App.Writer)
	f, ok := out.(*os.File)
	onScreen := ok && term.IsTerminal(int(f.Fd()))
	for first := true; ; first = false {
		began, size := time.Now(), logSize(&boot)
		tl, err := buildTimeline(&boot, threshold)
		if err != nil {
			return err
		}
		var picture bytes.Buffer
		if onScreen {
			picture.WriteString(clearScreen)
		} else if !first {
			picture.WriteByte('\n')
		}
		if err := draw(c, &picture, tl); err != nil {
			return err
		}
		if _, err := out.Write(picture.Bytes()); err != nil {
			return err
		}
		if !boot.Current || !grown(c.Context, &boot, size, max(time.Second, 20*time.Since(began))) {
			return outcome(tl.Summary.Outcome)
		}
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
		Flags: readFlags(
			&cli.StringFlag{Name: "guest", Usage: "only of the guest with this `NAME` or uuid"},
			&cli.StringFlag{Name: "kind", Usage: "only findings of this `KIND`, such as missing or near-miss, and what they come to"},
			timeFlag(),
		),
		Action: func(c *cli.Context) error {
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			kind := c.String("kind")
			if c.IsSet("kind") && !slices.Contains(timeline.FindingKinds(), kind) {
				return usageError("races: kind %q is not known%s: use one of %s", kind, didYouMean(kind, timeline.FindingKinds(), ""), strings.Join(timeline.FindingKinds(), ", "))
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
			opts, whole := output(c), tl
			if c.IsSet("kind") {
				opts.Kind, tl = kind, tl.OfKind(kind)
			}
			if opts.Wall, err = wallOf(c, tl); err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(c.App.Writer, racesJSON{tl.BootID, tl.Complete, tl.CompleteFrom, tl.Incomplete, tl.Findings, tl.Verdicts})
			} else {
				err = paged(c, func(w io.Writer) error { return text.Races(w, whole, opts) })
			}
			if err != nil {
				return err
			}
			return outcome(tl.Summary.Outcome)
		},
	}
}
