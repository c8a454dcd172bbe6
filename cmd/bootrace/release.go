package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/hold"
	"github.com/bootrace/bootrace/tracer/service"
)

// releaseJSON is what `release --format json` prints.
type releaseJSON struct {
	Released []string `json:"released"` // the guests whose holds ended
}

func releaseCommand() *cli.Command {
	return &cli.Command{
		Name:      "release",
		Usage:     "end one hold by hand: the guest starts as its disks are",
		ArgsUsage: "GUEST",
		Description: "GUEST is a name, a uuid, or a process id, as `bootrace status` shows them. Without\n" +
			"bootrace running nothing is held.",
		Flags: []cli.Flag{formatFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 || c.Args().First() == "" {
				return usageError("release takes one guest: its name, uuid, or process id")
			}
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			released := []string{}
			request := control.Request{Do: control.Release, Args: map[string]string{"guest": c.Args().First()}}
			if err := control.Call(c.Context, control.Socket, request, &released); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.App.Writer, releaseJSON{released})
			}
			for _, guest := range released {
				fmt.Fprintf(c.App.Writer, "released %s\n", words.Clean(guest))
			}
			return nil
		},
	}
}

// writeHolds says who is held, and for what; and who was refused, and what to
// do.
func writeHolds(w io.Writer, st *service.Status) {
	if st.HoldErr != "" {
		fmt.Fprintf(w, "holds\tnone, and none will be: %s\n", st.HoldErr)
	}
	if st.Hold == nil {
		return
	}
	fmt.Fprintf(w, "programs\t%s\n", listOrNone(st.Hold.Programs))
	fmt.Fprintf(w, "starts\t%s\n", countStarts(&st.Hold.Counts))
	for i := range st.Hold.Holds {
		writeHeld(w, &st.Hold.Holds[i])
	}
	if more := st.Hold.Counts.Holding - uint64(len(st.Hold.Holds)); more > 0 {
		fmt.Fprintf(w, "\tand %d more\n", more)
	}
	for i := range st.Hold.Refused {
		r := &st.Hold.Refused[i]
		fmt.Fprintf(w, "denied\t%s, process %d, at %.3f s: %s\n", words.Clean(r.Guest), r.PID, r.At.Seconds(), r.Why)
		writeReasons(w, r.Details, r.More)
		fmt.Fprintf(w, "\t  to do: %s\n", r.Remedy)
	}
}

func writeHeld(w io.Writer, h *hold.Held) {
	where := ""
	if h.Hook {
		where = " (libvirt's hook)"
	}
	fmt.Fprintf(w, "held\t%s, process %d%s, for %s; in %s: %s\n", words.Clean(h.Guest), h.PID, where, age(h.Age), age(h.Left), h.OnTimeout)
	var reasons []string
	for i := range h.Blockers {
		reasons = append(reasons, h.Blockers[i].String())
	}
	for i := range h.Doubts {
		reasons = append(reasons, h.Doubts[i].Text)
	}
	writeReasons(w, reasons, h.More)
	if h.Remedy != "" {
		fmt.Fprintf(w, "\t  to do: %s\n", h.Remedy)
	}
}

func writeReasons(w io.Writer, reasons []string, more int) {
	for _, reason := range reasons {
		fmt.Fprintf(w, "\t  %s\n", words.Clean(reason))
	}
	if more > 0 {
		fmt.Fprintf(w, "\t  and %d more\n", more)
	}
}

func age(d event.Duration) string { return words.Unicode.Round(max(d.Round(time.Second/10), 0)) }

func listOrNone(list []string) string {
	if len(list) == 0 {
		return "none found: no start is held"
	}
	return words.Clean(strings.Join(list, ", "))
}

func countStarts(c *hold.Counts) string {
	parts := []string{fmt.Sprintf("%d looked at: %d held now, %d were held, %d went on at once", c.Seen, c.Holding, c.Held, c.Passed)}
	if c.Passed > 0 {
		parts[0] += fmt.Sprintf(" (after %s at the most)", words.Unicode.Duration(c.SlowestPass))
	}
	for _, more := range []struct {
		n    uint64
		what string
	}{
		{c.Denied, "denied"}, {c.Gone, "killed while held"},
		{c.Unread, "with arguments that could not be read"}, {c.Overflows, "times more than the kernel queues"},
		{c.Unseen, "not looked at, as there were too many at a time"}, {uint64(c.Hanging), "threads hang on arguments that never come"},
	} {
		if more.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", more.n, more.what))
		}
	}
	return strings.Join(parts, ", ")
}
