package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/cmd/internal/version"
	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/service"
	"github.com/bootrace/bootrace/tracer/twin"
	"github.com/bootrace/bootrace/tracer/twin/capture"
)

// capturedBoots is how many recorded boots are read for guests.
const capturedBoots = 5

func captureCommand() *cli.Command {
	return &cli.Command{
		Name:  "capture",
		Usage: "one file from which a twin of this host can be booted",
		Description: "It has the root file system without bulk data, the kernel, the initramfs, the labels and\n" +
			"metadata of LVM, the partition tables, and what the recorded boots say of disks and guests.\n" +
			"It only reads, and opens disks read-only. No guest's data is in it: images, and folders that\n" +
			"may have them, are left out. So are passwords, keys and tokens. The manifest in the file\n" +
			"lists what was left out. It takes minutes, and needs root.",
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to this `FILE`; without it to bootrace-capture-HOST-TIME.tar.zst here"},
			&cli.StringSliceFlag{Name: "exclude", Usage: "leave out what is in this `FOLDER`, too; may be given several times"},
			&cli.PathFlag{Name: "state-dir", Value: service.StateDir, Usage: "read the logs in this `FOLDER`, and no others"},
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if os.Geteuid() != 0 {
				return errors.New("capture: it reads files and disks of the whole host: run it as root")
			}
			var exclude []string
			for _, dir := range c.StringSlice("exclude") {
				if !filepath.IsAbs(dir) {
					return usageError("capture: --exclude %s: name the folder from / on", dir)
				}
				exclude = append(exclude, filepath.Clean(dir))
			}
			host, err := os.Hostname()
			if err != nil {
				return err
			}
			now := time.Now()
			path := cmp.Or(c.Path("output"), "bootrace-capture-"+host+"-"+now.UTC().Format("20060102T150405Z")+".tar.zst")
			if _, err := os.Lstat(path); err == nil {
				return fmt.Errorf("capture: %s exists: remove it, or name another file", path)
			}
			syncLog(c.Context)
			store := bootStore(c)
			boots, err := store.List()
			if err != nil {
				return err
			}
			found, err := capture.Look(c.Context, capture.Options{
				Root: "/", Boots: boots[:min(len(boots), capturedBoots)], Program: version.String(),
				Exclude: exclude, Now: now,
			})
			if err != nil {
				return fmt.Errorf("capture: %w", err)
			}
			fmt.Fprintf(c.App.Writer, "%s is up to %s, and smaller once it is packed.\n", path, humanize.IBytes(uint64(found.Bytes())))
			if err := capture.Room(filepath.Dir(path), found.Bytes()); err != nil {
				return fmt.Errorf("capture: %w", err)
			}
			if err := writeFile(path, func(w io.Writer) error { return found.Write(c.Context, w) }); err != nil {
				return fmt.Errorf("capture to %s: %w", path, withoutPath(err))
			}
			showCapture(c.App.Writer, path, found.Manifest())
			return nil
		},
	}
}

// showCapture says what is in a capture and what is not.
func showCapture(w io.Writer, path string, m *twin.Manifest) {
	size := int64(0)
	if info, err := os.Stat(path); err == nil {
		size = info.Size()
	}
	fmt.Fprintf(w, "%s, %s, has the host %s with kernel %s, %d disks and %d guests.\n", path, humanize.IBytes(uint64(size)), m.Host, m.Kernel, len(m.Disks), len(m.Guests))
	for _, d := range m.Disks {
		fmt.Fprintf(w, "%10s  %-8s %s\n", humanize.IBytes(uint64(d.Size)), d.Name, words.Clean(d.Serial))
	}
	fmt.Fprintln(w, "\nNot in it:")
	left := slices.Clone(m.LeftOut)
	const most = 30
	slices.SortStableFunc(left, func(a, b twin.LeftOut) int { return cmp.Compare(b.Bytes, a.Bytes) })
	for _, l := range left[:min(len(left), most)] {
		fmt.Fprintf(w, "%10s  %s: %s\n", humanize.IBytes(uint64(l.Bytes)), words.Clean(l.Path), words.Clean(l.Why))
	}
	if len(left) > most {
		fmt.Fprintf(w, "and %d more, which its manifest lists\n", len(left)-most)
	}
	for _, o := range m.Others {
		fmt.Fprintf(w, "%s: %s\n", o.Name, words.Clean(o.What))
	}
	for _, s := range m.Missing {
		fmt.Fprintln(w, words.Clean(s))
	}
}
