package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/service"
)

// The JSON form of `status` is a service.Status.
func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "the running service: mode, sources, losses",
		Flags: []cli.Flag{formatFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			var st service.Status
			if err := control.Call(c.Context, control.Socket, control.Request{Do: control.Status}, &st); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.App.Writer, st)
			}
			return writeStatus(c.App.Writer, &st)
		},
	}
}

// writeStatus writes a few lines that answer: does it run, since when, does it
// see everything.
func writeStatus(w io.Writer, st *service.Status) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "mode\t%s\n", st.Mode)
	fmt.Fprintf(out, "service\tprocess %d, bootrace %s, %s\n", st.PID, st.Version, sinceWhen(st))
	fmt.Fprintf(out, "log\t%s, %s\n", st.Log, countEvents(st.Events))
	if st.LogErr != "" {
		fmt.Fprintf(out, "\tcan't be written: %s\n", st.LogErr)
	}
	for _, src := range st.Sources {
		fmt.Fprintf(out, "%s\t%s\n", src.Name, src.State)
		for _, a := range src.Abilities {
			if !a.OK {
				fmt.Fprintf(out, "\tnot %s: %s\n", a.Name, a.Why)
			}
		}
	}
	fmt.Fprintf(out, "lost\t%s\n", countLost(st.Lost))
	return out.Flush()
}

func sinceWhen(st *service.Status) string {
	when := fmt.Sprintf("since %.3f s after the boot", st.Start.Seconds())
	if st.Early {
		return when + ", in the initramfs; no service has taken over yet"
	}
	if st.Ready == 0 {
		return when + ", not ready yet"
	}
	return fmt.Sprintf("%s, attached %s later", when, st.Ready.Sub(st.Start).Round(time.Millisecond))
}

func countEvents(events map[event.Kind]uint64) string {
	var all uint64
	for _, n := range events {
		all += n
	}
	return humanize.Comma(int64(all)) + " events"
}

func countLost(lost map[string]uint64) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(lost)) {
		if n := lost[what]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	if parts == nil {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
