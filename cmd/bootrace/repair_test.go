package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/tracer/control"
)

// Each step is told to the service, which records it; where none runs, that is said
// once, and the repair goes on.
func TestRepairStepsAreRecorded(t *testing.T) {
	var out bytes.Buffer
	socket := filepath.Join(t.TempDir(), "control")
	app := cli.NewContext(cli.NewApp(), nil, &cli.Context{Context: t.Context()})
	r := &repairing{c: app, out: &out, socket: socket}

	var steps []string
	server, err := control.Listen(socket, func(_ context.Context, _ int, q control.Request) (any, error) {
		if q.Do != control.Repair {
			t.Errorf("asked for %s", q.Do)
		}
		steps = append(steps, q.Args["text"])
		return nil, nil
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(t.Context()) }()
	r.tell("xfs_repair\x1b[31m: status %d", 0)
	if err := r.ended(&exitError{status: exitTrouble}); err == nil {
		t.Error("the status is lost")
	}
	_ = r.ended(errors.New("refused"))
	server.Close()
	<-done
	if len(steps) != 2 || steps[1] != "refused" || !strings.HasPrefix(steps[0], "xfs_repair") || strings.Contains(steps[0], "\x1b") {
		t.Errorf("recorded: %q", steps)
	}

	out.Reset()
	r.tell("one")
	r.tell("two")
	said := out.String()
	if strings.Count(said, "not in the record") != 1 || !strings.HasSuffix(said, "two\n") {
		t.Errorf("without a service: %s", said)
	}
}
