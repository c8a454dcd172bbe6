package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/bootrace/bootrace/tracer/timeline"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "a boot's timeline, for other tools",
		ArgsUsage: "[BOOT]",
		Flags: sourceFlags(
			&cli.StringFlag{Name: "format", Value: formats()[0].name, Usage: formatList()},
			&cli.PathFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to this `FILE`, - for standard output"},
		),
		Action: func(c *cli.Context) error {
			f, err := formatNamed(c.String("format"))
			if err != nil {
				return err
			}
			tl, err := readBoot(c)
			if err != nil {
				return err
			}
			warnIncomplete(c.App.ErrWriter, tl)
			return exportFile(c, f, tl)
		},
	}
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

// exportFile writes tl to the file that was named, or to standard output.
func exportFile(c *cli.Context, f format, tl *timeline.Timeline) error {
	path := c.Path("output")
	if path == "" || path == "-" {
		if out, ok := c.App.Writer.(*os.File); ok && f.binary && path == "" && term.IsTerminal(int(out.Fd())) {
			return usageError("export: %s is not for a terminal: name a file with -o", f.name)
		}
		return buffered(c.App.Writer, func(w io.Writer) error { return f.write(w, tl) })
	}
	if err := writeFile(path, func(w io.Writer) error { return f.write(w, tl) }); err != nil {
		return fmt.Errorf("export to %s: %w", path, withoutPath(err))
	}
	return nil
}

// writeFile writes the whole file at path or leaves what was there: a file that
// is half written looks like a boot with little in it. It is its owner's to
// read: it names guests and their disks. What is no regular file, such as a
// pipe, is written to as it is.
func writeFile(path string, write func(io.Writer) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return writeThrough(path, write)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // fails once it has its name
	if err := errors.Join(buffered(temp, write), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
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
