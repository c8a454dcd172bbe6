package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name:      "events",
		Usage:     "the events of a boot: those that a finding names, or those of a guest or a device",
		ArgsUsage: "[BOOT] [NUMBER...]",
		Description: "A NUMBER is an event's place in the record, as findings name it; 20-27 is all from\n" +
			"20 to 27. Without one all events are printed. With --format json they are lines as\n" +
			"the log has them.",
		Flags: readFlags(
			&cli.StringFlag{Name: "guest", Usage: "only those of the guest with this `NAME` or uuid, and of its findings"},
			&cli.StringFlag{Name: "device", Usage: "only those that name this `DEVICE`: a path, a volume's or a mapping's name"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with those that come, until it is stopped"},
			timeFlag(),
		),
		Action: func(c *cli.Context) error {
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			ref, numbers, err := eventArgs(c)
			if err != nil {
				return err
			}
			if _, err := wantWall(c); err != nil {
				return err
			}
			spendMemory()
			syncLog(c.Context)
			store := bootStore(c)
			boot, err := findLog(c, &store, ref)
			if err != nil {
				return err
			}
			wanted, err := eventFilter(c, &boot, numbers)
			if err != nil {
				return err
			}
			if asJSON || c.Bool("follow") {
				return printEvents(c, c.App.Writer, &boot, asJSON, wanted)
			}
			return paged(c, func(w io.Writer) error { return printEvents(c, w, &boot, asJSON, wanted) })
		},
	}
}

// eventArgs tells numbers of events from the boot: a boot id that is all digits has to
// be given in full, with its dashes.
func eventArgs(c *cli.Context) (ref string, numbers []eventRange, err error) {
	ref = "0"
	for i, arg := range c.Args().Slice() {
		r, ok := parseRange(arg)
		switch {
		case ok:
			numbers = append(numbers, r)
		case i == 0:
			ref = arg
		default:
			return "", nil, usageError("events: %q is no number of an event, such as 20 or 20-27; the boot comes first", arg)
		}
	}
	return ref, numbers, nil
}

// eventRange is from one number to another, both included.
type eventRange struct{ from, to uint64 }

func parseRange(arg string) (r eventRange, ok bool) {
	from, to, isRange := strings.Cut(strings.TrimSuffix(arg, ","), "-")
	var err error
	if r.from, err = strconv.ParseUint(from, 10, 64); err != nil || r.from == 0 {
		return r, false
	}
	if r.to = r.from; isRange {
		r.to, err = strconv.ParseUint(to, 10, 64)
	}
	return r, err == nil && r.from <= r.to
}

// eventFilter is what the arguments and flags ask for: an event has to be all of it.
func eventFilter(c *cli.Context, boot *bootlog.Boot, numbers []eventRange) (func(*event.Event) bool, error) {
	var all []func(*event.Event) bool
	if len(numbers) > 0 {
		all = append(all, func(e *event.Event) bool {
			return slices.ContainsFunc(numbers, func(r eventRange) bool { return r.from <= e.ID && e.ID <= r.to })
		})
	}
	if c.IsSet("guest") {
		threshold, err := nearMiss(c)
		if err != nil {
			return nil, err
		}
		of, err := eventsOfGuest(boot, threshold, c.String("guest"))
		if err != nil {
			return nil, err
		}
		all = append(all, of)
	}
	if c.IsSet("device") {
		all = append(all, eventsOfDevice(c.String("device")))
	}
	return func(e *event.Event) bool {
		return !slices.ContainsFunc(all, func(f func(*event.Event) bool) bool { return !f(e) })
	}, nil
}

// eventsOfGuest are those of the guest's process while it ran, and those that its
// findings name.
func eventsOfGuest(boot *bootlog.Boot, threshold time.Duration, name string) (func(*event.Event) bool, error) {
	tl, err := buildTimeline(boot, threshold)
	if err != nil {
		return nil, err
	}
	id := words.ShortID(tl.BootID)
	if tl = tl.Only(name); tl == nil {
		return nil, fmt.Errorf("events: no guest %q in boot %s: `bootrace show --all` lists its guests", name, id)
	}
	evidence := map[uint64]bool{}
	for _, f := range tl.Findings {
		for _, n := range f.Evidence {
			evidence[n] = true
		}
	}
	return func(e *event.Event) bool {
		return evidence[e.ID] || e.Proc != nil && slices.ContainsFunc(tl.Guests, func(g *timeline.Guest) bool {
			return g.PID == e.Proc.PID && e.At >= g.Exec.From && (g.Exit == nil || e.At <= g.Exit.At)
		})
	}, nil
}

// eventsOfDevice are those with a text that is the device by one of its names.
func eventsOfDevice(device string) func(*event.Event) bool {
	names := map[string]bool{device: true, "/dev/" + device: true, "/dev/mapper/" + device: true, path.Base(device): true}
	if dir, lv := path.Split(strings.TrimPrefix(device, "/dev/")); lv != "" && dir != "" && strings.Count(dir, "/") == 1 && dir != "mapper/" {
		// device-mapper's name of a volume: VG-LV, with dashes within doubled.
		double := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
		mapping := double(strings.TrimSuffix(dir, "/")) + "-" + double(lv)
		names[mapping], names["/dev/mapper/"+mapping] = true, true
		delete(names, path.Base(device)) // web-a alone may be anything
	}
	return func(e *event.Event) bool {
		data, err := json.Marshal(e)
		if err != nil {
			return false
		}
		var v any
		return json.Unmarshal(data, &v) == nil && hasText(v, names)
	}
}

// hasText reports whether one of the texts in v is one of names.
func hasText(v any, names map[string]bool) bool {
	switch v := v.(type) {
	case string:
		return names[v]
	case []any:
		return slices.ContainsFunc(v, func(v any) bool { return hasText(v, names) })
	case map[string]any:
		for _, inner := range v {
			if hasText(inner, names) {
				return true
			}
		}
	}
	return false
}

func printEvents(c *cli.Context, w io.Writer, boot *bootlog.Boot, asJSON bool, wanted func(*event.Event) bool) error {
	var last uint64
	for {
		began := time.Now()
		size, err := printNewEvents(c, w, boot, asJSON, wanted, &last)
		if err != nil || !c.Bool("follow") {
			return err
		}
		// To read a long log takes a while: no more than a twentieth of a processor.
		if !grown(c.Context, boot, size, max(500*time.Millisecond, 20*time.Since(began))) {
			return nil
		}
	}
}

// printNewEvents prints those after last, and returns how large the log was before.
func printNewEvents(c *cli.Context, w io.Writer, boot *bootlog.Boot, asJSON bool, wanted func(*event.Event) bool, last *uint64) (size int64, err error) {
	size = logSize(boot)
	log, err := boot.Open()
	if err != nil {
		return size, err
	}
	defer log.Close()
	out := bufio.NewWriterSize(w, 64<<10)
	write, err := eventWriter(c, log, out, asJSON)
	if err != nil {
		return size, err
	}
	for e, err := range log.Lend() {
		if err != nil {
			return size, err
		}
		// What the log lost has no number: told once, where it is.
		if e.ID <= *last && (e.ID != 0 || *last > 0) || !wanted(&e) {
			*last = max(*last, e.ID)
			continue
		}
		*last = max(*last, e.ID)
		if err := write(&e); err != nil {
			return size, err
		}
	}
	return size, out.Flush()
}

func eventWriter(c *cli.Context, log *bootlog.Log, out io.Writer, asJSON bool) (func(*event.Event) error, error) {
	if asJSON {
		lines := json.NewEncoder(out)
		lines.SetEscapeHTML(false)
		return func(e *event.Event) error { return lines.Encode(e) }, nil
	}
	wall := int64(0)
	if c.String("time") == "wall" {
		header := log.Header()
		start, ok := header.WallTime(0)
		if !ok {
			return nil, errNoClock(c)
		}
		wall = start.UnixNano()
	}
	return text.NewEvents(out, output(c), wall).Write, nil
}

func logSize(boot *bootlog.Boot) (size int64) {
	for _, path := range boot.Paths {
		if info, err := os.Stat(path); err == nil {
			size += info.Size()
		}
	}
	return size
}

// grown waits until the log is longer than it was; false where it was told to stop.
func grown(ctx context.Context, boot *bootlog.Boot, size int64, every time.Duration) bool {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for logSize(boot) <= size {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
			syncLog(ctx)
		}
	}
	return true
}
