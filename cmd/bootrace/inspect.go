package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/inspect"
	"github.com/bootrace/bootrace/tracer/memory"
	"github.com/bootrace/bootrace/tracer/service"
)

// inspectedJSON is what `inspect --format json` prints.
type inspectedJSON struct {
	// Inspections has one for each guest, and one for all disks that were given by
	// path.
	Inspections []inspect.Inspection `json:"inspections"`
}

// inspectLimit is how long a disk may take to answer. All that is read is a few
// MiB.
const inspectLimit = 10 * time.Second

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "what is on a guest's disks: file systems that are larger than their device, dirty logs, damaged headers",
		ArgsUsage: "GUEST|PATH...",
		Description: "Reads headers and the ends of logs, a few MiB at most; mounts nothing and writes nothing.\n" +
			"What has a slash is a path, anything else a guest: its name, uuid, or identity. Paths are\n" +
			"taken for the disks of one guest. Exit status: 3 trouble, 5 something is not known.",
		Flags: []cli.Flag{
			formatFlag(),
			&cli.StringFlag{Name: "image-format", Value: "raw", Usage: "the image `FORMAT` of paths, raw or qcow2: it is never guessed from a disk's bytes, which are the guest's"},
			&cli.DurationFlag{Name: "timeout", Value: inspectLimit, Usage: "how long the disks of a guest may take to answer"},
		},
		Action: func(c *cli.Context) error {
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			list, err := inspectAll(c)
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(c.App.Writer, inspectedJSON{list})
			} else {
				err = text.Inspect(c.App.Writer, list, output(c))
			}
			if err != nil {
				return err
			}
			return inspectVerdict(list)
		},
	}
}

func inspectAll(c *cli.Context) ([]inspect.Inspection, error) {
	format := c.String("image-format")
	switch {
	case !c.Args().Present():
		return nil, usageError("inspect: name a guest or a disk: bootrace inspect GUEST, bootrace inspect /dev/VG/LV")
	case format != "raw" && format != "qcow2":
		return nil, usageError("inspect: image format %q is not known: use raw or qcow2", format)
	case c.Duration("timeout") <= 0:
		return nil, usageError("inspect: --timeout %s: has to be more than 0", c.Duration("timeout"))
	}
	var paths []guest.Image
	var list []inspect.Inspection
	add := func(in inspect.Inspection, disks []guest.Image, dir string) {
		ctx, stop := context.WithTimeout(c.Context, c.Duration("timeout"))
		defer stop()
		in.Disks = inspectDisks(ctx, disks, dir)
		list = append(list, in)
	}
	for _, arg := range c.Args().Slice() {
		if strings.Contains(arg, "/") {
			path, err := filepath.Abs(arg)
			if err != nil {
				return nil, fmt.Errorf("inspect %s: %w", arg, err)
			}
			if _, err := os.Stat(path); err != nil {
				return nil, fmt.Errorf("inspect: %w", err)
			}
			paths = append(paths, guest.Image{Path: path, Format: format, Storage: guest.StorageFile})
			continue
		}
		in, disks, dir, err := findGuest(c.Context, arg)
		if err != nil {
			return nil, err
		}
		add(in, disks, dir)
	}
	if len(paths) > 0 {
		dir, _ := os.Getwd()
		add(inspect.Inspection{}, paths, dir)
	}
	return list, nil
}

// inspectDisks looks at the disks of one guest on this host.
func inspectDisks(ctx context.Context, disks []guest.Image, dir string) []inspect.InspectedDisk {
	mappings, err := devmap.Open() // without it, or without the right: no mappings
	if err == nil {
		defer mappings.Close()
	}
	return inspect.Inspect(ctx, image.Reader{Host: image.LocalHost{Mappings: mappings}, Dir: dir}, disks)
}

// findGuest returns a guest's disks: by the command line of one that runs, else as
// it is remembered.
func findGuest(ctx context.Context, name string) (in inspect.Inspection, disks []guest.Image, dir string, err error) {
	cfg, err := config.Load(config.Path)
	if err != nil {
		cfg = config.Default()
	}
	wanted := memory.Identities(name)
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return in, nil, "", err
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		at := filepath.Join("/proc", p.Name())
		exe, err := os.Readlink(filepath.Join(at, "exe"))
		if err != nil || !guest.Matches(cfg.GuestBinaries, filepath.Base(strings.TrimSuffix(exe, " (deleted)"))) {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(at, "cmdline"))
		if err != nil || len(raw) == 0 {
			continue
		}
		g := guest.Parser{Program: exe, Watched: true}.Parse(strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00"))
		if !g.IsGuest || g.Name != name && !isOneOf(g.Identity.String(), wanted) {
			continue
		}
		in = inspect.Inspection{Guest: name, PID: pid}
		for i := range g.Disks {
			if d := &g.Disks[i]; d.Kind == guest.KindDisk && (d.Path != "" || len(d.Members) > 0) {
				disks = append(disks, d.Image)
			}
		}
		if g.Unknown != "" {
			in.Notes = append(in.Notes, "it may have further disks: "+g.Unknown)
		}
		if ours, theirs := mountNamespace("self"), mountNamespace(p.Name()); ours != theirs {
			in.Notes = append(in.Notes, "it sees other mounts than this host: its paths are looked up on the host, and may lead elsewhere for it")
		}
		dir, _ = os.Readlink(filepath.Join(at, "cwd"))
		return in, disks, dir, nil
	}
	var last []event.MemoryDisk
	request := control.Request{Do: control.Disks, Args: map[string]string{"guest": name}}
	if err := control.Call(ctx, control.Socket, request, &last); errors.Is(err, control.ErrNoService) {
		if last, err = rememberedDisks(name); err != nil {
			return in, nil, "", err
		}
	} else if err != nil {
		return in, nil, "", fmt.Errorf("inspect guest %q: it does not run, and the service does not know its disks: %w", name, err)
	}
	return inspect.Inspection{Guest: name}, remembered(last), "", nil
}

func mountNamespace(process string) string {
	name, _ := os.Readlink(filepath.Join("/proc", process, "ns/mnt"))
	return name
}

func isOneOf(s string, list []string) bool {
	for _, w := range list {
		if s != "" && s == w {
			return true
		}
	}
	return false
}

// rememberedDisks reads the memory of a service that does not run.
func rememberedDisks(name string) ([]event.MemoryDisk, error) {
	guests, err := memory.Read(service.StateDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	wanted := memory.Identities(name)
	for i := range guests {
		if guests[i].Name == name || isOneOf(guests[i].Guest, wanted) {
			return guests[i].Disks, nil
		}
	}
	return nil, fmt.Errorf("inspect: no guest %q runs, and none is remembered: give its disks by path, as in /dev/VG/LV", name)
}

// remembered are the disks that a guest last ran on. Where the format is not
// remembered, one that had a backing file was no raw disk, and the others were.
func remembered(last []event.MemoryDisk) []guest.Image {
	backed := map[string]bool{}
	for i := range last {
		backed[last[i].BackingOf] = true
	}
	var disks []guest.Image
	for i := range last {
		d := &last[i]
		if d.BackingOf != "" {
			continue
		}
		format := cmp.Or(d.Format, "raw")
		if d.Format == "" && backed[d.Path] { // of a version that did not remember it
			format = "qcow2"
		}
		disks = append(disks, guest.Image{Path: d.Path, Format: format, Storage: guest.StorageFile})
	}
	return disks
}

// inspectVerdict is how the command ends.
func inspectVerdict(list []inspect.Inspection) error {
	unknown := false
	for i := range list {
		unknown = unknown || len(list[i].Disks) == 0 || len(list[i].Notes) > 0
		for j := range list[i].Disks {
			d := &list[i].Disks[j]
			if len(d.Troubles) > 0 {
				return &exitError{status: exitTrouble}
			}
			unknown = unknown || len(d.Unknown) > 0
		}
	}
	if unknown {
		return &exitError{status: exitUnknown}
	}
	return nil
}
