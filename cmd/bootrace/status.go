package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/cmd/internal/version"
	"github.com/bootrace/bootrace/exporters/delivery"
	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/hold"
	"github.com/bootrace/bootrace/tracer/service"
	"github.com/bootrace/bootrace/tracer/snapshot"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// fullStatus is what `status --format json` prints: the service's status, and
// how sending its boots stands, null where they are not sent.
type fullStatus struct {
	service.Status
	Export *delivery.Status `json:"export"`
}

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
			var st fullStatus
			if err := askStatus(c.Context, control.Socket, statusLimit, &st.Status); err != nil {
				return err
			}
			if export, err := delivery.ReadStatus(filepath.Join(service.StateDir, deliveryDir)); err == nil {
				st.Export = &export
			}
			if asJSON {
				err = writeJSON(c.App.Writer, st)
			} else {
				err = writeStatus(c.App.Writer, &st)
			}
			if err != nil {
				return err
			}
			return outcome(st.sees())
		},
	}
}

// errNoAnswer says that the service is there, and does not say what it does.
var errNoAnswer = errors.New("the service does not answer: `systemctl status bootrace` says how it stands, and `systemctl restart bootrace` starts it anew; starts that it holds go on then")

// askStatus asks the service at that socket what it does, for limit at the most.
func askStatus(ctx context.Context, socket string, limit time.Duration, st *service.Status) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := control.Call(ctx, socket, control.Request{Do: control.Status}, st)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errNoAnswer
	}
	return err
}

// sees says whether the service records all that there is: what it lost, can't
// write or does not see is not known.
func (st *fullStatus) sees() timeline.Outcome {
	lost := slices.ContainsFunc(slices.Collect(maps.Values(st.Lost)), func(n uint64) bool { return n > 0 })
	ended := slices.ContainsFunc(st.Sources, func(s event.SourceInfo) bool { return s.State == "ended" && !ends(s.Name) })
	if st.ConfigErr != "" { // it does not do what it was asked for
		return timeline.OutcomeFailed
	}
	// What a user's programs look for that are no guests is his business.
	own := slices.ContainsFunc(st.OverShare, func(l event.LossInfo) bool { return l.What != "look" || l.UID == 0 })
	if lost || own || ended || st.LogErr != "" || st.LogRefused != "" {
		return timeline.OutcomeUnknown
	}
	return timeline.OutcomeFine
}

// ends reports whether a source is done while the service goes on: what existed
// before is looked at once, and holds end with enforce mode.
func ends(source string) bool { return source == snapshot.SourceName || source == hold.Source }

// writeStatus writes a few lines that answer: does it run, since when, does it
// see everything.
func writeStatus(w io.Writer, st *fullStatus) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "mode\t%s\n", st.Mode)
	if st.ConfigErr != "" {
		fmt.Fprintf(out, "config\tNOT USED: %s\n", st.ConfigErr)
		fmt.Fprintf(out, "\tto do: correct it, then `systemctl reload bootrace`\n")
	}
	fmt.Fprintf(out, "service\tprocess %d, bootrace %s, %s\n", st.PID, st.Version, sinceWhen(&st.Status))
	for _, what := range outdated(&st.Status, version.String()) {
		fmt.Fprintf(out, "\tOLDER: %s\n", what)
	}
	fmt.Fprintf(out, "log\t%s, %s\n", st.Log, countEvents(st.Events))
	if st.LogErr != "" {
		fmt.Fprintf(out, "\tcan't be written: %s\n", st.LogErr)
	}
	if st.LogRefused != "" {
		fmt.Fprintf(out, "\t%s\n", st.LogRefused)
	}
	if st.LogRestored > 0 {
		fmt.Fprintf(out, "\tremoved while it was being written, and put back: %d times\n", st.LogRestored)
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
	writeShares(out, st.OverShare)
	writeHolds(out, &st.Status)
	if st.Export != nil {
		writeExport(out, st.Export)
	}
	return out.Flush()
}

// mostShares is how many lines say who used up a share.
const mostShares = 8

func writeShares(w io.Writer, shares []event.LossInfo) {
	for i, l := range shares {
		if i == mostShares {
			fmt.Fprintf(w, "\tand %d more: see --format json\n", len(shares)-i)
			return
		}
		whose := fmt.Sprintf("of user %d alone", l.UID)
		if l.PID != 0 {
			whose = fmt.Sprintf("of the guest of process %d alone", l.PID)
		}
		fmt.Fprintf(w, "\t%s: %d %s (%s), more than the share of one\n", whose, l.Count, l.What, l.Source)
	}
}

// outdated says what of bootrace runs that is not the version that is installed, and
// what to do.
func outdated(st *service.Status, installed string) []string {
	var list []string
	service, initramfs := stale(st, installed)
	if service {
		list = append(list, installed+" is installed: `systemctl restart bootrace` starts it; starts that are held go on then")
	}
	if initramfs {
		have := cmp.Or(st.InitramfsVersion, st.Version)
		list = append(list, fmt.Sprintf("the initramfs has %s: `update-initramfs -u`, or `dracut --force`, puts the installed one in", have))
	}
	return list
}

// stale reports whether the service that runs, and the copy in the initramfs, are
// another version than the one that is installed. Nobody knows what an initramfs has
// that did not start the service in this boot.
func stale(st *service.Status, installed string) (service, initramfs bool) {
	service = st.Version != installed
	return service, st.InitramfsVersion != "" || service && st.FromInitramfs
}

func writeExport(w io.Writer, st *delivery.Status) {
	waiting := "nothing waits"
	if st.Waiting > 0 {
		waiting = fmt.Sprintf("%d requests wait, %s", st.Waiting, humanize.IBytes(uint64(st.WaitingBytes)))
	}
	fmt.Fprintf(w, "export\t%s spans sent, %s\n", humanize.Comma(int64(st.Sent)), waiting)
	for _, why := range []string{st.SendError, st.MakeError} {
		if why != "" {
			fmt.Fprintf(w, "\t%s\n", oneLine(errors.New(why)))
		}
	}
	if st.Refused > 0 {
		fmt.Fprintf(w, "\t%d requests set aside: %s\n", st.Refused, st.LastRefusal)
	}
}

func sinceWhen(st *service.Status) string {
	when := fmt.Sprintf("since %.3f s after the boot", st.Start.Seconds())
	if st.Early {
		return when + ", in the initramfs; no service has taken over yet"
	}
	if st.Ready == 0 {
		return when + ", not ready yet"
	}
	return fmt.Sprintf("%s, attached %s later", when, words.Unicode.Duration(st.Ready.Sub(st.Start).Round(time.Millisecond)))
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
