package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/memory"
	"github.com/bootrace/bootrace/tracer/service"
)

// acceptJSON is what `accept --format json` prints.
type acceptJSON struct {
	Accepted []memory.Accepted `json:"accepted"`
}

func acceptCommand() *cli.Command {
	return &cli.Command{
		Name:      "accept",
		Usage:     "say that the disk that a guest ran on is the right one from now on",
		ArgsUsage: "GUEST",
		Description: "GUEST is a name, a uuid, or an identity as findings have it (uuid:...). A guest that\n" +
			"came up on another disk, or a smaller one, is reported in every boot until the right disk is\n" +
			"back, or until this is run.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "disk", Usage: "accept only the disk with this `PATH`, of then or of now"},
			&cli.PathFlag{Name: "state-dir", Usage: "change the memory in this `FOLDER`, and ask no service"},
			formatFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 || c.Args().First() == "" {
				return usageError("accept takes one guest: its name, uuid, or identity")
			}
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			guest, disk, dir := c.Args().First(), c.String("disk"), c.Path("state-dir")
			var accepted []memory.Accepted
			switch {
			case dir != "":
				accepted, err = acceptInFile(dir, guest, disk)
			case os.Geteuid() != 0:
				return errors.New("only root may say what a guest should run on: run it with sudo")
			default:
				accepted, err = accept(c.Context, guest, disk)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.App.Writer, acceptJSON{accepted})
			}
			writeAccepted(c.App.Writer, accepted)
			return nil
		},
	}
}

// accept asks the running service, which has the memory, else changes the file.
func accept(ctx context.Context, guest, disk string) ([]memory.Accepted, error) {
	var accepted []memory.Accepted
	request := control.Request{Do: control.Accept, Args: map[string]string{"guest": guest, "disk": disk}}
	err := control.Call(ctx, control.Socket, request, &accepted)
	if !errors.Is(err, control.ErrNoService) {
		return accepted, err
	}
	return acceptInFile(service.StateDir, guest, disk)
}

func acceptInFile(dir, guest, disk string) ([]memory.Accepted, error) {
	s := memory.NewStore(bootlog.CurrentBootID())
	if err := s.Open(dir); err != nil {
		return nil, err
	}
	accepted, err := s.Accept(guest, disk)
	if err != nil {
		return nil, err
	}
	return accepted, s.Save()
}

func writeAccepted(w io.Writer, accepted []memory.Accepted) {
	for i := range accepted {
		a := &accepted[i]
		guest := a.Guest
		if a.Name != "" {
			guest = a.Name + " (" + a.Guest + ")"
		}
		var kinds []string
		for _, k := range a.Kinds {
			kinds = append(kinds, string(k))
		}
		fmt.Fprintf(w, "guest %s should run on %s from now on, as in boot %s\n", words.Clean(guest), diskText(&a.Now), words.ShortID(a.Boot))
		fmt.Fprintf(w, "  instead of %s\n  no alarm any more: %s\n", diskText(&a.Last), strings.Join(kinds, ", "))
	}
}

// diskText is a disk with its path and size.
func diskText(d *event.MemoryDisk) string {
	text := d.Path
	if what := memory.Describe(d); !strings.Contains(what, d.Path) {
		text += ", which is " + what
	} else {
		text = what
	}
	if d.Size > 0 {
		text += ", " + words.Bytes(d.Size)
	}
	return words.Clean(text)
}
