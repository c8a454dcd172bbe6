// Package snapshot tells what exists right now, as backfill events: mappings,
// block devices with their records in udev's database, and running guests. It
// is taken when tracing begins, for what happened before, and after a loss, for
// what was missed.
//
// A state that is found has come about at an unknown time before: such an
// event's window begins at the boot's first nanosecond (0 would say that At is
// exact) unless something better is known, and ends when it was found.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/udev"
)

// SourceName is Event.Src of what a snapshot finds.
const SourceName = "snapshot"

// ErrPrivilege says that the snapshot needs root: other users see neither
// mappings nor what guests hold open.
var ErrPrivilege = errors.New("a snapshot needs root")

// bootStart is the earliest instant there is.
const bootStart event.Time = 1

// Mappings lists device-mapper devices with their tables; devmap.Control does.
type Mappings interface {
	List(ctx context.Context) ([]devmap.Mapping, error)
}

// Options configure a snapshot. The zero value is ready.
type Options struct {
	// Root is the directory that /proc, /sys and /run are looked for in; empty
	// means "/".
	Root string
	// Mappings is where mappings come from; nil means this kernel, and none
	// where device-mapper is not loaded.
	Mappings Mappings
	// Programs are the names of the programs that run guests; nil means
	// guest.Programs.
	Programs []string
	// Log may be nil.
	Log *slog.Logger
}

// taker is one snapshot being taken.
type taker struct {
	Options
	clock  event.Duration // CLOCK_BOOTTIME - CLOCK_MONOTONIC
	events []event.Event
}

// Take returns what exists now: mappings first, then block devices, then
// guests. What vanishes meanwhile is left out; what cannot be read is a loss
// event. With an error there can be events: what was found all the same. Without
// the rights the error is ErrPrivilege.
//
// Guests' arguments are as /proc has them: whoever stores the events redacts
// them, as tracer/recorder does.
func Take(ctx context.Context, options Options) ([]event.Event, error) {
	if options.Root == "" {
		options.Root = "/"
	}
	if options.Programs == nil {
		options.Programs = guest.Programs()
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	t := &taker{Options: options, clock: event.MonotonicOffset()}
	var errs []error
	for _, step := range []struct {
		what string
		take func(context.Context) error
	}{{"mappings", t.mappings}, {"block devices", t.blockDevices}, {"guests", t.guests}} {
		err := step.take(ctx)
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: %w", ErrPrivilege, err)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("take a snapshot of %s: %w", step.what, err))
		}
	}
	return t.events, errors.Join(errs...)
}

// skip leaves out one thing that could not be read, and says so. What has
// vanished is not missing, and without the rights nothing can be said at all.
func (t *taker) skip(what, name string, err error) error {
	switch {
	case err == nil || vanished(err):
		return nil
	case errors.Is(err, fs.ErrPermission):
		return err
	}
	t.Log.Warn("left out of the snapshot", "what", what, "name", name, "error", err)
	t.events = append(t.events, event.Event{
		Kind: event.Loss, Src: SourceName, From: bootStart, At: event.Now(),
		Loss: &event.LossInfo{Source: SourceName, What: what, Count: 1, Why: name + ": " + err.Error()},
	})
	return nil
}

// found adds what exists since some time after from.
func (t *taker) found(from event.Time, e event.Event) {
	e.Kind, e.Src, e.From, e.At = event.Backfill, SourceName, from, event.Now()
	t.events = append(t.events, e)
}

func (t *taker) path(elements ...string) string {
	return filepath.Join(append([]string{t.Root}, elements...)...)
}

func (t *taker) mappings(ctx context.Context) error {
	source := t.Mappings
	if source == nil {
		control, err := devmap.Open()
		if errors.Is(err, devmap.ErrNotLoaded) {
			return nil // and so there is no mapping
		}
		if err != nil {
			return err
		}
		defer control.Close()
		source = control
	}
	list, err := source.List(ctx)
	if err != nil {
		return err
	}
	for i := range list {
		m := &list[i]
		t.found(bootStart, event.Event{DM: &event.DMInfo{
			Name: m.Name, UUID: m.UUID, Dev: &m.Dev, Size: m.Size,
			Table: m.Table(), Flags: uint32(m.Flags), State: string(m.State()),
		}})
	}
	return nil
}

// blockDevices tells each block device with what udev's database holds about
// it. A device without Initialized is one that udev has not handled yet.
func (t *taker) blockDevices(ctx context.Context) error {
	entries, err := os.ReadDir(t.path("sys/class/block"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without block devices
	}
	if err != nil {
		return err
	}
	sysfs, err := blockdev.OpenSysfs(t.Root)
	if err != nil {
		return err
	}
	defer sysfs.Close()
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		dev, err := t.blockDevice(sysfs, entry.Name())
		if err == nil {
			t.found(bootStart, event.Event{Dev: dev})
		} else if err := t.skip("block device", entry.Name(), err); err != nil {
			return err
		}
	}
	return nil
}

func (t *taker) blockDevice(sysfs *blockdev.Sysfs, name string) (*event.DevInfo, error) {
	dir := t.path("sys/class/block", name)
	d := &event.DevInfo{Subsystem: "block", Name: name}
	if err := readSysfs(dir, d); err != nil {
		return nil, err
	}
	target, err := os.Readlink(dir)
	if err != nil {
		return nil, err
	}
	// ../../devices/virtual/block/dm-0, seen from /class/block
	d.Path = filepath.Join("/class/block", target)
	record, err := udev.ReadRecord(t.Root, *d.Dev)
	if err != nil {
		return nil, err
	}
	if record != nil {
		record.Fill(d, t.clock)
	}
	if err := sysfs.Fill(d); err != nil {
		t.Log.Warn("a device is recorded without its attributes", "error", err)
	}
	return d, nil
}
