package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/readiness"
)

// defaultWait is less than the 90 s that systemd gives a unit to start.
const defaultWait = time.Minute

// waited is the JSON form of `wait`: the last verdict, and how long it took.
type waited struct {
	readiness.Verdict
	Waited event.Duration `json:"waited_ns"`
}

func waitCommand() *cli.Command {
	return &cli.Command{
		Name:      "wait",
		Usage:     "return when these disks are ready: block devices of any kind, files, and backing files",
		ArgsUsage: "PATH... | --guest GUEST",
		Description: "For units (ExecStartPre=) and scripts that start a guest; needs no running service.\n" +
			"Exit status: 0 ready, 4 not ready in time, 3 a path that no waiting will mend,\n" +
			"5 a backing file that can't be known.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "timeout", Value: defaultWait, Usage: "how long to wait; 0: as long as it takes"},
			&cli.StringFlag{Name: "guest", Usage: "the disks that `GUEST` (name or uuid) last ran on, as the running service remembers"},
			&cli.BoolFlag{Name: "raw", Usage: "the disks are raw: look for no backing file in them"},
			&cli.BoolFlag{Name: "json", Usage: "print what was found as JSON"},
		},
		Action: func(c *cli.Context) error {
			request, err := waitRequest(c)
			if err != nil {
				return err
			}
			out, err := waitFor(c.Context, request, c.Duration("timeout"), waitLog(c), nil)
			if c.Bool("json") && out.At != 0 {
				err = errors.Join(writeJSON(c.App.Writer, out), err)
			}
			return err
		},
	}
}

func waitRequest(c *cli.Context) (readiness.Request, error) {
	var r readiness.Request
	if c.Args().Present() == c.IsSet("guest") {
		return r, usageError("wait: name the disks to wait for, or --guest: bootrace wait /dev/VG/LV...")
	}
	if d := c.Duration("timeout"); d < 0 {
		return r, usageError("wait: --timeout %s: can't be negative", d)
	}
	paths := c.Args().Slice()
	if c.IsSet("guest") {
		request := control.Request{Do: control.Disks, Args: map[string]string{"guest": c.String("guest")}}
		if err := control.Call(c.Context, control.Socket, request, &r.Memory); err != nil {
			return r, fmt.Errorf("wait for guest %q: %w", c.String("guest"), err)
		}
		for i := range r.Memory {
			if d := &r.Memory[i]; d.BackingOf == "" {
				paths = append(paths, d.Path)
			}
		}
	}
	for _, path := range paths {
		path, err := filepath.Abs(path)
		if err != nil {
			return r, fmt.Errorf("wait for %s: %w", path, err)
		}
		r.Disks = append(r.Disks, waitDisk(path, c.Bool("raw")))
	}
	return r, nil
}

func waitDisk(path string, raw bool) guest.Image {
	disk := readiness.Path(path)
	if raw {
		disk.Format = "raw"
	}
	return disk
}

// waitFor follows the disks until they are ready, or the time is over. waits, if
// set, is told each time that something else is waited for.
func waitFor(ctx context.Context, r readiness.Request, timeout time.Duration, log *slog.Logger, waits func(*readiness.Verdict)) (waited, error) {
	start := event.Now()
	tracker, err := readiness.Open(readiness.Options{Log: log})
	if err != nil {
		return waited{}, err
	}
	defer tracker.Close()
	running, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() {
		if err := tracker.Run(running); err != nil {
			log.Warn("changes are noticed late", "error", err)
		}
	})
	defer background.Wait()
	defer stop()
	w, err := tracker.Watch(r)
	if err != nil {
		return waited{}, err
	}
	defer w.Close()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	v, err := follow(ctx, w, waits)
	out := waited{v, event.Now().Sub(start)}
	if err != nil {
		return out, notReady(&v, err, timeout)
	}
	return out, unwaitable(&v)
}

// follow is Watch.Wait that tells what is waited for.
func follow(ctx context.Context, w *readiness.Watch, waits func(*readiness.Verdict)) (readiness.Verdict, error) {
	for {
		v := w.Verdict()
		if v.Ready {
			return v, nil
		}
		if v.At != 0 && waits != nil {
			waits(&v)
		}
		select {
		case <-w.Changed():
		case <-ctx.Done():
			return w.Verdict(), ctx.Err()
		}
	}
}

// waitLog is quiet but for what makes waiting worse.
func waitLog(c *cli.Context) *slog.Logger {
	return slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// notReady says what was waited for until the end.
func notReady(v *readiness.Verdict, err error, timeout time.Duration) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("wait: %w", err)
	}
	text := "looking at the disks takes too long"
	if words := v.Words(); len(words) > 0 {
		text = words[0]
		if more := len(words) - 1; more > 0 {
			text += fmt.Sprintf("; and %d more", more)
		}
	}
	return &exitError{fmt.Errorf("not ready after %s: %s", words.Unicode.Round(timeout), text), exitNotYet}
}

// unwaitable is the error of disks of which nothing can be expected: a guest
// that opens them fails at once.
func unwaitable(v *readiness.Verdict) error {
	for _, m := range v.Members {
		switch {
		case m.Broken && m.Disk == "":
			return &exitError{fmt.Errorf("wait for %s: %s", m.Path, m.Note), exitTrouble}
		case m.Unread:
			return &exitError{fmt.Errorf("wait for %s: its backing file is not known: %s (run it as root, or with --raw if there is none)", m.Path, m.Note), exitUnknown}
		}
	}
	return nil
}
