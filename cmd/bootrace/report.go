package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/cmd/internal/version"
	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/report"
	"github.com/bootrace/bootrace/tracer/service"
)

func reportCommand() *cli.Command {
	size := config.Size(128 << 20)
	return &cli.Command{
		Name:  "report",
		Usage: "one file for whoever helps: the last boots, this host's settings and versions, without secrets",
		Description: "It has the logs of the last boots, what check, status and config say, the journal of\n" +
			"bootrace's units and the kernel's messages, the settings of LVM, of udev and of the\n" +
			"initramfs, the units that the boots name, and versions. Passwords, keys and tokens are\n" +
			"left out. It prints what is in it, and what is not and why. Every command that takes a\n" +
			"BOOT takes the file, too.",
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to this `FILE`, - for standard output; without it to bootrace-report-TIME.tar.zst here"},
			&cli.IntFlag{Name: "boots", Value: 5, Usage: "the last so many boots"},
			&cli.BoolFlag{Name: "anonymize", Usage: "placeholders, such as guest1, for the names of guests, hosts, volumes and images, and for uuids"},
			&cli.GenericFlag{Name: "max-size", Value: &size, Usage: "no more than this of logs, before they are packed"},
			&cli.PathFlag{Name: "state-dir", Value: service.StateDir, Usage: "read the logs in this `FOLDER`, and no others"},
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if c.Int("boots") < 0 {
				return usageError("report: --boots %d: can't be negative", c.Int("boots"))
			}
			spendMemory()
			syncLog(c.Context)
			store := bootStore(c)
			boots, err := store.List()
			if err != nil {
				return err
			}
			now := time.Now()
			o := report.Options{
				Boots: boots[:min(len(boots), c.Int("boots"))], MaxLogs: int64(size), Items: reportItems(c),
				Anonymize: c.Bool("anonymize"), Root: "/", Now: now,
			}
			path := cmp.Or(c.Path("output"), "bootrace-report-"+now.UTC().Format("20060102T150405Z")+".tar.zst")
			var entries []report.Entry
			write := func(w io.Writer) error {
				entries, err = report.Write(c.Context, w, o)
				return err
			}
			if path == "-" {
				return write(words.Raw(c.App.Writer))
			}
			if err := writeFile(path, write); err != nil {
				return fmt.Errorf("report to %s: %w", path, withoutPath(err))
			}
			fmt.Fprintf(c.App.Writer, "%s has:\n\n", path)
			report.Contents(c.App.Writer, entries)
			if !o.Anonymize {
				fmt.Fprintln(c.App.Writer, "\nNames of guests, hosts and volumes are in it: --anonymize leaves them out.")
			}
			return nil
		},
	}
}

// reportItems are what bootrace says of this host and of itself.
func reportItems(c *cli.Context) []report.Item {
	plain := text.Options{Location: time.UTC, Width: 120}
	item := func(name string, write func(io.Writer) error) report.Item {
		var b bytes.Buffer
		err := write(&b)
		return report.Item{Name: name, Data: b.Bytes(), Err: err}
	}
	return []report.Item{
		item("versions/bootrace.txt", func(w io.Writer) error {
			_, err := fmt.Fprintln(w, "bootrace", version.String())
			return err
		}),
		item("status.json", func(w io.Writer) error {
			var st fullStatus
			if err := askStatus(c.Context, control.Socket, statusLimit, &st.Status); err != nil {
				return err
			}
			return writeJSON(w, st)
		}),
		item("check.txt", func(w io.Writer) error {
			checked, err := checkHost(c.Context)
			if err != nil {
				return err
			}
			return text.Check(w, &checked, plain)
		}),
		item("config.txt", func(w io.Writer) error {
			loaded, err := config.Read(config.Path)
			if err != nil {
				return err
			}
			values, err := loaded.Values()
			if err != nil {
				return err
			}
			return text.Config(w, loaded.Files, values, unused(c, &loaded), plain)
		}),
	}
}

// reportRef tells a report, and a boot in it, from other references of boots.
func reportRef(ref string) (path, place string, ok bool) {
	if report.Is(ref) {
		return ref, "0", true
	}
	i := strings.LastIndexByte(ref, ':')
	if i > 0 && report.Is(ref[:i]) {
		return ref[:i], ref[i+1:], true
	}
	return "", "", false
}

// bootsOfReport unpacks the boots of a report, the latest first. Of one that is cut short
// it has those before that.
func bootsOfReport(c *cli.Context, path string) ([]bootlog.Boot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usageError("%s is no report: %w", path, withoutPath(err))
	}
	defer f.Close()
	if !report.Is(path) {
		return nil, usageError("%s is no report: `bootrace report` makes one", path)
	}
	store := bootlog.Store{}           // a boot in it may be the one that runs, and is a copy all the same
	room := bounded{left: maxUnpacked} // for all logs together
	var boots []bootlog.Boot
	err = report.Read(f, func(id string, text io.Reader) error {
		kept, err := keptFile(&room, func(w io.Writer) error { return copyAll(w, text) })
		if err != nil && !isCut(err) {
			return err
		}
		boot, err := store.Find(kept)
		if err != nil {
			boot = bootlog.Boot{ID: id, Err: errors.New(strings.ReplaceAll(err.Error(), kept, id))}
		}
		boots = append(boots, boot)
		return nil
	})
	switch {
	case err != nil && len(boots) == 0:
		return nil, fmt.Errorf("read report %s: %w", path, err)
	case err != nil:
		noteCut(c, path, err)
	}
	return boots, nil
}

// bootOfReport is the boot at a place of a report: 0 for the latest, -1 for the one
// before, or the beginning of an id.
func bootOfReport(c *cli.Context, path, place string) (bootlog.Boot, error) {
	boots, err := bootsOfReport(c, path)
	if err != nil {
		return bootlog.Boot{}, err
	}
	at := -1
	if n, err := strconv.Atoi(place); err == nil && n <= 0 {
		at = -n
	} else if place != "" {
		at = slices.IndexFunc(boots, func(b bootlog.Boot) bool { return strings.HasPrefix(b.ID, place) })
	}
	if at < 0 || at >= len(boots) {
		return bootlog.Boot{}, fmt.Errorf("no boot %q among the %d in %s: `bootrace boots %s` lists them", place, len(boots), path, path)
	}
	return boots[at], boots[at].Err
}
