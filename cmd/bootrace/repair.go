package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/syslog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/inspect"
	"github.com/bootrace/bootrace/tracer/repair"
	"github.com/bootrace/bootrace/tracer/service"
)

// repairPatience is how long a throwaway machine may take; without KVM its start alone
// takes up to a minute.
const repairPatience = time.Hour

func repairCommand() *cli.Command {
	return &cli.Command{
		Name:      "repair",
		Usage:     "repair damaged XFS and ext file systems of a guest that does not run: on a copy, unless told to apply it",
		ArgsUsage: "GUEST|DISK",
		Description: "The repair is made on a copy, in a throwaway virtual machine with this host's kernel; nothing\n" +
			"of the guest is mounted on the host. It says what it would change, and with --apply asks,\n" +
			"keeps what it overwrites, and writes. Exit status: 3 damage that was not repaired yet.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Usage: "repair only a copy; the default"},
			&cli.BoolFlag{Name: "apply", Usage: "write the repair to the disk, after asking"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
			&cli.PathFlag{Name: "undo", Usage: "make the disk what it was before the repair that wrote this `FILE`"},
			&cli.PathFlag{Name: "resume", Usage: "finish the repair that wrote this `FILE` and was interrupted"},
			&cli.BoolFlag{Name: "discard-log", Usage: "throw away the log of an XFS that the kernel can't replay; the price: what the guest wrote last is lost, which can be all files (measured: 0 of 20,000 were left)"},
			&cli.BoolFlag{Name: "lose-files", Usage: "apply a repair after which there are fewer files than before"},
			&cli.StringFlag{Name: "image-format", Value: "raw", Usage: "the image `FORMAT` of a path, raw or qcow2: it is never guessed from a disk's bytes, which are the guest's"},
			&cli.PathFlag{Name: "kernel", Usage: "boot this kernel `IMAGE`, for file systems that are newer than the host's"},
			&cli.PathFlag{Name: "modules", Usage: "the `FOLDER` with the modules of --kernel"},
			&cli.PathFlag{Name: "dir", Value: filepath.Join(service.StateDir, "repair"), Usage: "keep the copy and what is overwritten in this `FOLDER`"},
			&cli.DurationFlag{Name: "timeout", Value: repairPatience, Usage: "how long one throwaway machine may take"},
		},
		Action: func(c *cli.Context) error {
			restore := c.Path("undo")
			if restore == "" {
				restore = c.Path("resume")
			}
			switch {
			case os.Geteuid() != 0:
				return errors.New("repair: only root may write to guests' disks: run it with sudo")
			case c.Path("undo") != "" && c.Path("resume") != "", c.Bool("apply") && c.Bool("dry-run"), restore != "" && c.Bool("apply"):
				return usageError("repair: one of --dry-run, --apply, --undo and --resume can be meant")
			case (c.Path("kernel") == "") != (c.Path("modules") == ""):
				return usageError("repair: --kernel and --modules belong together")
			case restore != "" && c.Args().Present():
				return usageError("repair: the file says which disk it is about: bootrace repair --undo FILE")
			case restore == "" && (c.NArg() != 1 || c.Args().First() == ""):
				return usageError("repair: name one guest, or one disk: bootrace repair GUEST, bootrace repair /dev/VG/LV")
			case c.Duration("timeout") <= 0:
				return usageError("repair: --timeout %s: has to be more than 0", c.Duration("timeout"))
			}
			r := &repairing{c: c, out: c.App.Writer, journal: journal(), socket: control.Socket}
			if restore != "" {
				return r.ended(r.restore(restore, c.Path("undo") != ""))
			}
			return r.ended(r.run(c.Args().First()))
		},
	}
}

// repairing is one call of the command.
type repairing struct {
	c       *cli.Context
	out     io.Writer
	journal *syslog.Writer // nil: there is none
	socket  string         // of the service, which has the record
	lost    bool           // a step is not in the record
}

// stepLimit is how long a service may take to record a step.
const stepLimit = 5 * time.Second

// journal is where each step is told, beside the terminal and the record.
func journal() *syslog.Writer {
	w, err := syslog.New(syslog.LOG_NOTICE|syslog.LOG_DAEMON, "bootrace")
	if err != nil {
		return nil
	}
	return w
}

// tell says a step on the terminal, in the journal and in the record of the boot.
func (r *repairing) tell(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	fmt.Fprintln(r.out, line)
	r.record(line)
}

// record has the journal and the service keep a step.
func (r *repairing) record(line string) {
	step := oneLine(errors.New(words.Clean(line)))
	if r.journal != nil {
		_ = r.journal.Notice("repair: " + step)
	}
	if r.lost {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.c.Context), stepLimit)
	defer cancel()
	if err := control.Call(ctx, r.socket, control.Request{Do: control.Repair, Args: map[string]string{"text": step}}, nil); err != nil {
		r.lost = true
		fmt.Fprintf(r.out, "The steps of this repair are not in the record of this boot from here on: %v.\n", err)
	}
}

// ended keeps why a repair failed or was refused, which is told as each error is.
func (r *repairing) ended(err error) error {
	if status := new(exitError); err != nil && !(errors.As(err, &status) && status.error == nil) {
		r.record(err.Error())
	}
	return err
}

// run repairs the disks of a guest, or one disk.
func (r *repairing) run(arg string) error {
	name, disks, dir, err := r.disks(arg)
	if err != nil {
		return err
	}
	job := repair.Job{
		Guest: name, DropLog: r.c.Bool("discard-log"), Dir: r.c.Path("dir"), Patience: r.c.Duration("timeout"),
		Kernel: repair.Kernel{Image: r.c.Path("kernel"), Modules: r.c.Path("modules")},
		Tell:   func(line string) { r.tell("%s", line) },
	}
	if job.Program, err = os.Executable(); err != nil {
		return err
	}
	seen := r.look(disks, dir)
	found, open := 0, false
	var why error
	for i := range seen {
		if _, err := repair.Targets(&seen[i]); err != nil {
			if len(seen) > 1 {
				r.tell("%s: not repaired: %v", seen[i].Path, err)
			}
			why = fmt.Errorf("repair %s: %w", seen[i].Path, err)
			continue
		}
		found++
		if job.Kernel.Image == "" {
			if job.Kernel, err = repair.HostKernel(); err != nil {
				return fmt.Errorf("repair: %w", err)
			}
		}
		applied, err := r.one(&disks[i], disks, i, dir, job)
		if err != nil {
			return fmt.Errorf("repair %s: %w", disks[i].Path, err)
		}
		open = open || !applied
	}
	switch {
	case found == 0:
		return why
	case open:
		return &exitError{status: exitTrouble}
	}
	return nil
}

// disks finds out which disks are meant.
func (r *repairing) disks(arg string) (name string, disks []guest.Image, dir string, err error) {
	if strings.Contains(arg, "/") {
		format := r.c.String("image-format")
		if format != "raw" && format != "qcow2" {
			return "", nil, "", usageError("repair: image format %q is not known: use raw or qcow2", format)
		}
		path, err := filepath.Abs(arg)
		if err != nil {
			return "", nil, "", err
		}
		return "", []guest.Image{{Path: path, Format: format, Storage: guest.StorageFile}}, "", nil
	}
	in, disks, dir, err := findGuest(r.c.Context, arg)
	switch {
	case err != nil:
		return "", nil, "", fmt.Errorf("repair: %w", err)
	case in.PID != 0:
		return "", nil, "", fmt.Errorf("repair: guest %s runs (process %d): stop it first", arg, in.PID)
	case len(disks) == 0:
		return "", nil, "", fmt.Errorf("repair: no disks of guest %s are known: name one by its path", arg)
	}
	return arg, disks, dir, nil
}

func (r *repairing) look(disks []guest.Image, dir string) []inspect.InspectedDisk {
	ctx, stop := context.WithTimeout(r.c.Context, inspectLimit)
	defer stop()
	return inspectDisks(ctx, disks, dir)
}

// one repairs a disk, and reports whether the repair was written to it.
func (r *repairing) one(disk *guest.Image, all []guest.Image, i int, dir string, job repair.Job) (applied bool, err error) {
	if disk.Format != "raw" && disk.Format != "qcow2" || !filepath.IsAbs(disk.Path) {
		return false, fmt.Errorf("image format %q, path %s: only raw and qcow2 by absolute paths are repaired", disk.Format, disk.Path)
	}
	held, err := repair.Hold(disk.Path, disk.Format)
	if err != nil {
		return false, err
	}
	defer held.Release()
	// What was seen before it was held may be over.
	targets, err := repair.Targets(&r.look(all, dir)[i])
	if err != nil {
		return false, err
	}
	for j := range targets {
		r.tell("%s, %s: %s", disk.Path, targets[j].Title, strings.Join(targets[j].Why, "; "))
	}
	r.tell("%s is locked meanwhile: QEMU can't open it for writing, and a device can't be mounted. Guests with locking=off, programs other than QEMU, and other hosts on the same storage are not kept away.", disk.Path)
	job.Disk, job.Format, job.Targets = disk.Path, disk.Format, targets
	done, err := repair.Rehearse(r.c.Context, held, &job)
	if err != nil {
		return false, fmt.Errorf("nothing was written to it: %w", err)
	}
	kept := false
	defer func() {
		if !kept && done.Changes != "" {
			os.Remove(done.Changes)
		}
	}()
	r.show(done)
	switch lost := done.Lost(); {
	case done.LogStays && !job.DropLog:
		return false, fmt.Errorf("%s; nothing was written. --discard-log goes on without the log: what the guest wrote last is then lost, which can be all files; try a newer kernel (--kernel) and a backup first", done.Failed)
	case done.Failed != "":
		return false, fmt.Errorf("%s; nothing was written to it", done.Failed)
	case !r.c.Bool("apply"):
		r.tell("Nothing was written to %s. `bootrace repair --apply` writes it, and keeps what it overwrites.", disk.Path)
		return false, nil
	case lost != nil && !r.c.Bool("lose-files"):
		return false, fmt.Errorf("after the repair %s has %d files and folders, and %d before; nothing was written. --lose-files writes it all the same", lost.Target.Title, lost.After, lost.Before)
	}
	if !r.c.Bool("yes") && !r.ask(disk.Path) {
		r.tell("Nothing was written to %s.", disk.Path)
		return false, nil
	}
	kept = true
	r.tell("Writing to %s. What it had is kept in %s. If this is interrupted, do not start the guest: `bootrace repair --resume FILE` finishes it, `bootrace repair --undo FILE` takes it back.", disk.Path, done.Changes)
	if err := repair.Apply(r.c.Context, held, done.Changes); err != nil {
		return false, fmt.Errorf("%w; `bootrace repair --undo %s` makes it what it was", err, done.Changes)
	}
	r.tell("%s is repaired, as far as was looked. Until the guest has run, `bootrace repair --undo %s` takes it back.", disk.Path, done.Changes)
	return true, nil
}

// show tells what a rehearsal came to.
func (r *repairing) show(done *repair.Rehearsal) {
	for i := range done.Results {
		res := &done.Results[i]
		for _, s := range res.Steps {
			r.tell("  %s: status %d", s.What, s.Status)
			for line := range strings.Lines(s.Text) {
				fmt.Fprintf(r.out, "    %s\n", words.Clean(strings.TrimRight(line, "\n"))) // it has names of the guest's files
			}
		}
		if done.Failed != "" {
			continue
		}
		before := "not known"
		if res.Before >= 0 {
			before = strconv.FormatInt(res.Before, 10)
		}
		r.tell("%s: files and folders before: %s; after: %d.", res.Target.Title, before, res.After)
	}
	if done.Failed == "" {
		r.tell("The repair changes %s on the disk (stretches: %d).", humanize.IBytes(uint64(done.Bytes)), done.Blocks)
	}
}

func (r *repairing) ask(path string) bool {
	fmt.Fprintf(r.out, "Write this to %s? Type yes: ", path)
	answer, _ := bufio.NewReader(r.c.App.Reader).ReadString('\n')
	return strings.TrimSpace(answer) == "yes"
}

// restore takes a repair back, or finishes it.
func (r *repairing) restore(file string, undo bool) error {
	changes, err := repair.ReadChanges(file)
	if err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	what := "finish the repair of"
	if undo {
		what = "take back the repair of"
	}
	seen := r.look([]guest.Image{{Path: changes.Disk, Format: changes.Format, Storage: guest.StorageFile}}, "")
	if len(seen[0].Writers) > 0 || seen[0].WritersUnknown {
		return fmt.Errorf("repair: %s %s: it is in use, or that is not known: stop the guest first", what, changes.Disk)
	}
	r.tell("%s %s, made %s", what, changes.Disk, changes.Made.Format(time.RFC3339))
	if err := repair.Restore(r.c.Context, file, undo); err != nil {
		return fmt.Errorf("repair: %s %s: %w", what, changes.Disk, err)
	}
	r.tell("%s is done.", changes.Disk)
	return nil
}
