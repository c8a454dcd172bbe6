package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/twin/rehearse"
)

func rehearseCommand() *cli.Command {
	return &cli.Command{
		Name:      "rehearse",
		Usage:     "boot a twin of a captured host in a virtual machine, and say which guests would lose their disks",
		ArgsUsage: "FILE",
		Description: "FILE is what capture wrote, on this host or another one. The twin has the host's kernel,\n" +
			"initramfs, units and LVM, disks of the same sizes, names and serial numbers with nothing in\n" +
			"them, and a stand-in for qemu. It is emulated and has no network; each plan takes minutes.\n" +
			"Nothing of this host is changed. The plan as-recorded, in which disks come as in the last\n" +
			"recorded boot, always comes first. With plans, disks come later or never:\n" +
			"late:DISK=20s, missing:DISK, or several with commas between them. DISK is a name, a serial\n" +
			"number or a link. What can't be predicted is said to be not known, with the reason.\n" +
			"Each boot's record is kept in the folder: `bootrace races FOLDER/01-as-recorded.jsonl`.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "plan", Usage: "rehearse this `PLAN`, too; may be given several times"},
			&cli.BoolFlag{Name: "enforce", Usage: "play each plan in enforce mode, too"},
			&cli.PathFlag{Name: "output", Aliases: []string{"o"}, Usage: "keep records and consoles in this `FOLDER`; without it in bootrace-rehearsal-TIME here"},
			&cli.IntFlag{Name: "memory", Value: 1536, Usage: "memory of the machine in `MIB`"},
			formatFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError("rehearse: name the file that `bootrace capture` wrote")
			}
			if f := c.String("format"); f != "text" && f != "json" {
				return usageError("rehearse: format %q is not known: use text or json", f)
			}
			const least, most = 256, 1 << 20
			if m := c.Int("memory"); m < least || m > most {
				return usageError("rehearse: --memory %d: want %d to %d MiB", m, least, most)
			}
			if os.Geteuid() != 0 {
				return errors.New("rehearse: the files of the twin belong to the host's users: run it as root")
			}
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("rehearse: find this program: %w", err)
			}
			dir := cmp.Or(c.Path("output"), "bootrace-rehearsal-"+time.Now().UTC().Format("20060102T150405Z"))
			_, statErr := os.Stat(dir)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return fmt.Errorf("rehearse: make the folder for the records: %w", err)
			}
			r, err := rehearse.Run(c.Context, rehearse.Options{
				Capture: c.Args().First(), Plans: c.StringSlice("plan"), Enforce: c.Bool("enforce"), Dir: dir, Program: program, Memory: c.Int("memory"),
				Progress: func(format string, args ...any) { fmt.Fprintf(c.App.ErrWriter, "rehearse: "+format+"\n", args...) },
			})
			if err != nil {
				if errors.Is(statErr, fs.ErrNotExist) {
					_ = os.Remove(dir) // where nothing is in it yet
				}
				return fmt.Errorf("rehearse %s: %w", c.Args().First(), err)
			}
			if c.String("format") == "json" {
				err = writeJSON(c.App.Writer, r)
			} else {
				showRehearsal(c.App.Writer, r)
			}
			return errors.Join(err, outcome(r.Outcome))
		},
	}
}

// showRehearsal writes a result for people: a table of guests and plans, and what follows.
func showRehearsal(w io.Writer, r *rehearse.Result) {
	fmt.Fprintf(w, "The reboot of %s, rehearsed with kernel %s\n\n", words.Clean(r.Host), words.Clean(r.Kernel))
	for i, p := range r.Plans {
		name := p.Plan
		if p.Enforce {
			name += ", enforce mode"
		}
		fmt.Fprintf(w, "%d  %s\n", i+1, name)
		if p.Failed != "" {
			fmt.Fprintln(w, "  it could not be rehearsed: "+words.Clean(p.Failed))
			continue
		}
		for _, c := range p.Guests {
			fmt.Fprintf(w, "  %-20s  %s\n", words.Clean(c.Guest), words.Clean(cellText(c)))
		}
		if len(p.Guests) == 0 {
			fmt.Fprintln(w, "  no guest of the host is known: record a boot of it first")
		}
	}
	if len(r.Plans) > 1 {
		fmt.Fprintln(w)
		showPlans(w, r)
	}
	if len(r.Summary) > 0 {
		fmt.Fprintln(w)
		for _, s := range r.Summary {
			fmt.Fprintln(w, words.Clean(s))
		}
	}
	fmt.Fprintln(w)
	if r.PaceUnknown != "" {
		fmt.Fprintf(w, "How much slower than the host the twin is, is not known: %s.\n", r.PaceUnknown)
	} else {
		fmt.Fprintf(w, "The twin took %.1f times as long as the host; times are told as the host's.\n", r.Pace)
	}
	fmt.Fprintln(w, "\nWhat the twin is not:")
	for _, d := range r.Differences {
		fmt.Fprintln(w, "  "+words.Clean(d))
	}
}

// showPlans writes a table with a row for each guest and a column for each plan.
func showPlans(w io.Writer, r *rehearse.Result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "guest")
	for i := range r.Plans {
		fmt.Fprintf(t, "\t%d", i+1)
	}
	fmt.Fprintln(t)
	var seen []string
	for i := range r.Plans {
		for _, g := range r.Plans[i].Guests {
			if slices.Contains(seen, g.Guest+"\x00"+g.Identity) {
				continue
			}
			seen = append(seen, g.Guest+"\x00"+g.Identity)
			fmt.Fprint(t, words.Clean(g.Guest))
			for j := range r.Plans {
				fmt.Fprint(t, "\t"+shortCell(r.Plans[j].Cell(g.Guest, g.Identity)))
			}
			fmt.Fprintln(t)
		}
	}
	t.Flush()
}

// shortCell is a prediction and its time.
func shortCell(c *rehearse.Cell) string {
	switch {
	case c == nil:
		return "not known"
	case c.Prediction == rehearse.Held:
		return "held " + tenths(c.Held)
	case c.Margin != nil && (c.Prediction == rehearse.InTime || c.Prediction == rehearse.Race):
		return strings.ReplaceAll(string(c.Prediction), "-", " ") + " " + tenths(*c.Margin)
	default:
		return strings.ReplaceAll(string(c.Prediction), "-", " ")
	}
}

// cellText is what a plan comes to for a guest, in words.
func cellText(c rehearse.Cell) string {
	margin := ""
	if c.Margin != nil {
		margin = tenths(max(*c.Margin, -*c.Margin))
	}
	var text string
	switch c.Prediction {
	case rehearse.InTime:
		text = "in time"
		if margin != "" {
			text += ", by " + margin
		}
	case rehearse.Race:
		text = fmt.Sprintf("✗ loses %s: %s too early", c.Disk, margin)
	case rehearse.Never:
		text = fmt.Sprintf("✗ loses %s: it never gets ready for it", cmp.Or(c.Disk, "its disk"))
	case rehearse.Held:
		text = "held for " + tenths(c.Held) + ", and runs"
	default:
		text = "? not known: " + c.Why
	}
	if c.Prediction.Loses() && c.Held > 0 {
		text += ", after it was held for " + tenths(c.Held)
	}
	if c.Prediction.Loses() && len(c.Causes) > 0 {
		text += " (" + strings.Join(slices.Compact(c.Causes), ", ") + ")"
	}
	return text
}

// tenths is a duration as precise as a rehearsal is.
func tenths(d event.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
