package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/bootrace/bootrace/exporters/html"
	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/replace"
	"github.com/bootrace/bootrace/tracer/report"
	"github.com/bootrace/bootrace/tracer/timeline"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "a boot's timeline, for other tools",
		ArgsUsage: "[BOOT...]",
		Description: "With --endpoint it is sent there over OTLP; OTEL_EXPORTER_OTLP_* variables count, too.\n" +
			"Otherwise it is written in the format. Several boots, and a report with several, make\n" +
			"one page in html: a line for each boot, of all hosts, with its causes.",
		Flags: sourceFlags(append([]cli.Flag{
			&cli.StringFlag{Name: "format", Value: formats()[0].name, Usage: formatList() + "; without it the ending of FILE says it"},
			&cli.PathFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to this `FILE`, - for standard output"},
		}, sendFlags()...)...),
		Action: func(c *cli.Context) error {
			f, err := chooseFormat(c)
			if err != nil {
				return err
			}
			to, err := receiver(c, f)
			if err != nil {
				return err
			}
			if to == nil && f.name == formatHTML && c.NArg() > 1 {
				return exportIndex(c)
			}
			b, err := openBoot(c)
			if err != nil {
				return err
			}
			defer b.Close()
			if to != nil {
				err = send(c, to, b)
			} else {
				err = exportFile(c, f, b)
			}
			if err == nil && b.last != nil {
				warnIncomplete(c.App.ErrWriter, b.last)
			}
			return err
		},
	}
}

// exportIndex writes one page about all boots that the arguments name. One that can't be
// read is in it, with the reason.
func exportIndex(c *cli.Context) error {
	threshold, err := nearMiss(c)
	if err != nil {
		return err
	}
	spendMemory()
	syncLog(c.Context)
	store := bootStore(c)
	index := new(html.Index)
	add := func(ref string, boot *bootlog.Boot, err error) {
		if err == nil {
			var tl *timeline.Timeline
			if tl, err = buildTimeline(boot, threshold); err == nil {
				index.Add(tl)
				return
			}
		}
		index.AddProblem(ref, err)
		fmt.Fprintf(c.App.ErrWriter, "bootrace: note: %s can't be read; the page says so: %s\n", ref, oneLine(err))
	}
	for _, ref := range c.Args().Slice() {
		if !report.Is(ref) {
			boot, err := findLog(c, &store, ref)
			add(ref, &boot, err)
			continue
		}
		boots, err := bootsOfReport(c, ref)
		if err != nil {
			add(ref, nil, err)
		}
		for i := range boots {
			add(ref+":"+boots[i].ID, &boots[i], boots[i].Err)
		}
	}
	return writeOut(c, false, func(w io.Writer) error { return index.Write(w, time.Now()) })
}

// openedBoot is a boot's log that is about to be exported.
type openedBoot struct {
	io.Closer
	stands iter.Seq2[timeline.Stand, error]
	// running is set for the boot that goes on.
	running bool
	// now has stands end with how the running boot is now.
	now bool
	// last is the last timeline that was made.
	last *timeline.Timeline
}

func openBoot(c *cli.Context) (*openedBoot, error) {
	boot, threshold, err := findBoot(c)
	if err != nil {
		return nil, err
	}
	r, err := openRecord(&boot, threshold)
	if err != nil {
		return nil, err
	}
	b := &openedBoot{Closer: r, running: boot.Current}
	p := newProgress(c.App.ErrWriter, "read", "events")
	b.stands = func(yield func(timeline.Stand, error) bool) {
		defer p.done()
		for tl, err := range r.Stands(counted(r.Events, p), b.now, 0) {
			if err == nil {
				b.last = tl.Timeline
			}
			if !yield(tl, err) {
				return
			}
		}
	}
	return b, nil
}

// timeline is the boot as it stands now, or in its end.
func (b *openedBoot) timeline() (*timeline.Timeline, error) {
	b.now = true
	for _, err := range b.stands {
		if err != nil {
			return nil, err
		}
	}
	return b.last, nil
}

// warnIncomplete says on w what the export says inside, so that nobody sends
// on half a record unknowingly.
func warnIncomplete(w io.Writer, tl *timeline.Timeline) {
	switch {
	case tl.Complete:
	case tl.CompleteFrom != nil:
		fmt.Fprintf(w, "bootrace: note: the record of boot %s is complete only from %.3f s on; the export says so\n",
			tl.BootID, tl.CompleteFrom.Seconds())
	default:
		fmt.Fprintf(w, "bootrace: note: the record of boot %s is not complete; the export says so\n", tl.BootID)
	}
}

// exportFile writes the boot to the file that was named, or to standard output.
func exportFile(c *cli.Context, f format, b *openedBoot) error {
	return writeOut(c, f.binary, func(w io.Writer) error { return f.export(w, b) })
}

// writeOut has write write to the file that was named, or to standard output.
func writeOut(c *cli.Context, binary bool, write func(io.Writer) error) error {
	path := c.Path("output")
	if path == "" || path == "-" {
		if out, ok := words.Raw(c.App.Writer).(*os.File); ok && binary && path == "" && term.IsTerminal(int(out.Fd())) {
			return usageError("%s: that is not for a terminal: name a file with -o", c.Command.Name)
		}
		out := c.App.Writer
		if binary {
			out = words.Raw(out)
		}
		return buffered(out, write)
	}
	if err := writeFile(path, write); err != nil {
		return fmt.Errorf("export to %s: %w", path, withoutPath(err))
	}
	return nil
}

// export writes the boot in the format.
func (f format) export(w io.Writer, b *openedBoot) error {
	if f.stands != nil {
		b.now = true
		return f.stands(w, b.stands)
	}
	tl, err := b.timeline()
	if err != nil {
		return err
	}
	return f.write(w, tl)
}

// writeFile writes the whole file at path or leaves what was there: a file that
// is half written looks like a boot with little in it. It is its owner's to
// read: it names guests and their disks. What is no regular file, such as a
// pipe, is written to as it is.
func writeFile(path string, write func(io.Writer) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return writeThrough(path, write)
	}
	f, err := replace.Create(path, replace.Options{Perm: 0o600})
	if err != nil {
		return err
	}
	if err := buffered(f, write); err != nil {
		return errors.Join(err, f.Abandon())
	}
	return f.Commit()
}

func writeThrough(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(buffered(f, write), f.Close())
}

func buffered(w io.Writer, write func(io.Writer) error) error {
	buffer := bufio.NewWriterSize(w, 1<<20)
	if err := write(buffer); err != nil {
		return err
	}
	return buffer.Flush()
}

// withoutPath drops the path from err: the message has the one that was asked
// for, not that of a temporary file.
func withoutPath(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
