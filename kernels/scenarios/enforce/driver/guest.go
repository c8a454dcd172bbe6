package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// results is the folder where each guest leaves what it saw.
const results = "/run/enforce"

// program is where the stand-in is installed: one of the usual places.
const program = "/usr/local/qemu-lab/bin/qemu-system-x86_64"

// outcome is what a guest saw.
type outcome struct {
	Start event.Time
	Opens []opened
}

type opened struct {
	Path  string
	At    event.Time
	Error string
	Size  int64
}

// beGuest opens the disks of a command line.
func beGuest(args []string) int {
	g := guest.Parse(args)
	o := outcome{Start: event.Now()}
	status := 0
	for i := range g.Disks {
		d := opened{Path: g.Disks[i].Path, At: event.Now()}
		f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
		if err != nil {
			d.Error, status = err.Error(), 1
		} else {
			d.Size, _ = f.Seek(0, 2)
			f.Close()
		}
		o.Opens = append(o.Opens, d)
	}
	if g.Name == "" {
		return status
	}
	data, err := json.Marshal(o)
	if err == nil {
		path := filepath.Join(results, g.Name)
		err = errors.Join(os.WriteFile(path+".new", data, 0o644), os.Rename(path+".new", path))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	return status
}

// launched is a guest that was started.
type launched struct {
	name  string
	disks []string
	cmd   *exec.Cmd
	done  chan struct{}
}

// launch starts a guest by a shell: Go itself must not execute what is held, as
// all of it would wait.
func launch(name string, disks ...string) (*launched, error) {
	args := []string{"-c", `exec "$0" "$@"`, program, "-name", name}
	for _, d := range disks {
		args = append(args, "-drive", "file="+d+",if=none,format=raw")
	}
	if err := os.Remove(filepath.Join(results, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l := &launched{name: name, disks: disks, cmd: exec.Command("/bin/sh", args...), done: make(chan struct{})}
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = l.cmd.Wait(); close(l.done) }()
	return l, nil
}

// waiting reports whether its exec is being held.
func (l *launched) waiting() bool {
	where, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", l.cmd.Process.Pid))
	return err == nil && strings.Contains(string(where), "fanotify")
}

func (l *launched) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// saw returns what the guest saw, once it has ended. Where its exec was denied it
// saw nothing.
func (l *launched) saw(limit time.Duration) (*outcome, error) {
	select {
	case <-l.done:
	case <-time.After(limit):
		return nil, fmt.Errorf("guest %s has not ended after %s: waiting %v", l.name, limit, l.waiting())
	}
	data, err := os.ReadFile(filepath.Join(results, l.name))
	if err != nil {
		return nil, fmt.Errorf("guest %s never ran: %v", l.name, l.cmd.ProcessState)
	}
	o := new(outcome)
	return o, json.Unmarshal(data, o)
}

// opensAll returns an error unless all its disks were there, and open only after
// the instant that was given for each.
func (l *launched) opensAll(since func(disk string) event.Time) error {
	o, err := l.saw(patience)
	if err != nil {
		return err
	}
	if len(o.Opens) != len(l.disks) {
		return fmt.Errorf("guest %s opened %d disks of %d", l.name, len(o.Opens), len(l.disks))
	}
	for _, d := range o.Opens {
		switch {
		case d.Error != "" || d.Size == 0:
			return fmt.Errorf("guest %s: %s: error %q, %d bytes", l.name, d.Path, d.Error, d.Size)
		case d.At < since(d.Path):
			return fmt.Errorf("guest %s opened %s before it was activated", l.name, d.Path)
		}
	}
	return nil
}

// noneWaits returns a function that reports whether none of them waits any more.
// Who went on once is not looked at again: that takes its time.
func noneWaits(list []*launched) func() bool {
	return func() bool {
		for len(list) > 0 && !list[0].waiting() {
			list = list[1:]
		}
		return len(list) == 0
	}
}

// until waits until f is true.
func until(what string, limit time.Duration, f func() bool) error {
	end := time.Now().Add(limit)
	for !f() {
		if time.Now().After(end) {
			return fmt.Errorf("not after %s: %s", limit, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// command runs a program, and says what it printed where it failed.
func command(args ...string) error {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func median(list []time.Duration) time.Duration { return percentile(list, 50) }

func percentile(list []time.Duration, p int) time.Duration {
	slices.Sort(list)
	return list[min(len(list)*p/100, len(list)-1)]
}

func timed(f func() error) (time.Duration, error) {
	begin := boottime()
	err := f()
	return time.Duration(boottime() - begin), err
}

func boottime() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return ts.Nano()
}
