package main

import (
	"cmp"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// bootList is what `boots --format json` prints, the latest boot first.
type bootList struct {
	Boots []bootJSON `json:"boots"`
}

// bootJSON is one recorded boot. What is not known is null.
type bootJSON struct {
	// Boot is what the commands take as BOOT: 0 is the boot that runs, -1 the
	// one before, ...
	Boot   int     `json:"boot"`
	BootID string  `json:"boot_id"`
	Host   *string `json:"host"`
	// BootedAt is the wall time of the boot, RFC 3339. ClockTrusted says
	// whether it comes from a synchronized clock.
	BootedAt     *time.Time `json:"booted_at"`
	ClockTrusted *bool      `json:"clock_trusted"`
	// Recorded is the time from the first to the last event, in nanoseconds.
	Recorded *event.Duration `json:"recorded_ns"`
	Events   *int            `json:"events"`
	Guests   *int            `json:"guests"`
	Races    *int            `json:"races"` // findings that are races, and certain
	// Outcome and Counts are those of the timeline's summary.
	Outcome *timeline.Outcome `json:"outcome"`
	Counts  *timeline.Counts  `json:"counts"`
	// Complete and CompleteFrom are as in a timeline; CompleteFrom is
	// nanoseconds since the boot.
	Complete     *bool       `json:"complete"`
	CompleteFrom *event.Time `json:"complete_from_ns"`
	Size         int64       `json:"size_bytes"` // of the log on disk
	Files        []string    `json:"files"`      // paths of the log
	// Problem says why the log can't be read.
	Problem *string `json:"problem"`
}

func bootsCommand() *cli.Command {
	return &cli.Command{
		Name:      "boots",
		Usage:     "the recorded boots, one line each",
		ArgsUsage: "[REPORT]",
		Flags:     readFlags(),
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usageError("boots takes one report, got %q too", c.Args().Get(1))
			}
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			rows, files, err := bootRows(c)
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(c.App.Writer, bootList{bootsJSON(rows, files)})
			} else {
				err = paged(c, func(w io.Writer) error { return text.Boots(w, rows, output(c)) })
			}
			if err != nil {
				return err
			}
			return outcome(worst(rows))
		},
	}
}

// bootRows reads all boots; files are those of each.
func bootRows(c *cli.Context) (rows []text.BootRow, files [][]string, err error) {
	threshold, err := nearMiss(c)
	if err != nil {
		return nil, nil, err
	}
	spendMemory()
	store := bootStore(c)
	var boots []bootlog.Boot
	if path := c.Args().First(); path != "" {
		store.Current = ""
		boots, err = bootsOfReport(c, path)
	} else {
		syncLog(c.Context)
		boots, err = store.List()
	}
	if err != nil {
		return nil, nil, err
	}
	for i := range boots {
		row := bootRow(&boots[i], threshold)
		row.Index = -i
		if store.Current != "" && !boots[0].Current {
			row.Index-- // this boot is not recorded
		}
		rows = append(rows, row)
		files = append(files, boots[i].Paths)
	}
	return rows, files, nil
}

// worst is what all boots come to. How one went whose log can't be read is not
// known.
func worst(rows []text.BootRow) timeline.Outcome {
	out := timeline.OutcomeFine
	for i := range rows {
		out = out.Worse(cmp.Or(rows[i].Outcome, timeline.OutcomeUnknown))
	}
	return out
}

// bootRow reads the boot. A log that can't be read is a row with its problem.
func bootRow(b *bootlog.Boot, threshold time.Duration) text.BootRow {
	row := text.BootRow{BootID: b.ID, Size: b.Size, Events: -1, Guests: -1, Races: -1, Start: b.Start}
	if b.Err != nil {
		row.Problem = problem(b, b.Err)
		return row
	}
	tl, err := buildTimeline(b, threshold)
	if err != nil {
		row.Problem = problem(b, err)
		return row
	}
	row.Host = tl.Host.Name
	row.Duration = tl.Last.Sub(tl.First)
	row.Events = tl.Events
	row.Guests = len(tl.Guests)
	row.Races = len(tl.Races())
	row.Outcome, row.Counts = tl.Summary.Outcome, tl.Summary.Counts
	row.Complete, row.CompleteFrom = tl.Complete, tl.CompleteFrom
	if tl.Clock != nil {
		row.Start, row.Trusted = time.Unix(0, tl.Clock.WallOffset), tl.Clock.Trusted
	}
	return row
}

// problem says why the boot can't be read, without the path that the row's id
// tells already: there is little room.
func problem(b *bootlog.Boot, err error) string {
	why := err.Error()
	for _, path := range b.Paths {
		if _, after, ok := strings.Cut(why, path+": "); ok {
			return after
		}
	}
	return why
}

// bootsJSON turns rows for people into those for programs.
func bootsJSON(rows []text.BootRow, files [][]string) []bootJSON {
	list := make([]bootJSON, len(rows))
	for i := range rows {
		r := &rows[i]
		b := bootJSON{Boot: r.Index, BootID: r.BootID, Size: r.Size, Files: files[i]}
		if r.Host != "" {
			b.Host = &r.Host
		}
		if !r.Start.IsZero() {
			utc := r.Start.UTC()
			b.BootedAt, b.ClockTrusted = &utc, &r.Trusted
		}
		if r.Problem != "" {
			b.Problem = &r.Problem
		} else {
			b.Recorded, b.Events, b.Guests, b.Races = &r.Duration, &r.Events, &r.Guests, &r.Races
			b.Outcome, b.Counts = &r.Outcome, &r.Counts
			b.Complete, b.CompleteFrom = &r.Complete, r.CompleteFrom
		}
		list[i] = b
	}
	return list
}
