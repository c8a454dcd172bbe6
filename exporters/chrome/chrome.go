// Package chrome writes a timeline as JSON in Chrome's trace event format: the
// old form, which every trace viewer reads. Slices of one track never overlap.
// Perfetto's own form (package perfetto) says more.
//
// https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
package chrome

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/bootrace/bootrace/exporters/tracks"
	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// traceEvent is one event. Times are microseconds, with the nanoseconds as
// decimals: a JSON number is written as text to keep all of them.
type traceEvent struct {
	Name     string            `json:"name"`
	Category string            `json:"cat,omitempty"`
	Phase    string            `json:"ph"`
	Time     json.Number       `json:"ts"`
	Duration json.Number       `json:"dur,omitempty"`
	Scope    string            `json:"s,omitempty"`
	PID      int               `json:"pid"`
	TID      int               `json:"tid"`
	Args     map[string]string `json:"args,omitempty"`
}

// header is all but the events.
type header struct {
	Unit  string            `json:"displayTimeUnit"`
	Other map[string]string `json:"otherData"`
}

// Write writes tl.
func Write(w io.Writer, tl *timeline.Timeline) error {
	out := bufio.NewWriter(words.JSONWriter(w))
	if err := write(out, tl); err != nil {
		return fmt.Errorf("write the trace: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the trace: %w", err)
	}
	return nil
}

func write(out *bufio.Writer, tl *timeline.Timeline) error {
	head, err := json.Marshal(header{"ns", about(tl)})
	if err != nil {
		return err
	}
	_, _ = out.Write(head[:len(head)-1])
	_, _ = out.WriteString(`,"traceEvents":[`)
	separator := "\n"
	emit := func(e *traceEvent) error {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, _ = out.WriteString(separator)
		separator = ",\n"
		_, err = out.Write(line)
		return err
	}
	groups := make(map[string]int)
	for i, t := range tracks.Of(tl) {
		pid, known := groups[t.Group]
		if !known {
			pid = len(groups) + 1
			groups[t.Group] = pid
			if err := emit(named("process_name", t.Group, pid, 0)); err != nil {
				return err
			}
		}
		if err := writeTrack(emit, &t, pid, i+1); err != nil {
			return err
		}
	}
	_, err = out.WriteString("\n]}\n")
	return err
}

func writeTrack(emit func(*traceEvent) error, t *tracks.Track, pid, tid int) error {
	if err := emit(named("thread_name", t.Name, pid, tid)); err != nil {
		return err
	}
	for _, s := range t.Slices {
		e := &traceEvent{Name: s.Name, Category: t.Group, Phase: "X", Time: micros(s.From), Duration: micros(s.To - s.From), PID: pid, TID: tid, Args: args(s.Args)}
		if err := emit(e); err != nil {
			return err
		}
	}
	for _, i := range t.Instants {
		e := &traceEvent{Name: i.Name, Category: t.Group, Phase: "i", Time: micros(i.At), Scope: "t", PID: pid, TID: tid, Args: args(i.Args)}
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}

func named(what, name string, pid, tid int) *traceEvent {
	return &traceEvent{Name: what, Phase: "M", Time: "0", PID: pid, TID: tid, Args: map[string]string{"name": name}}
}

func args(list []tracks.Arg) map[string]string {
	if len(list) == 0 {
		return nil
	}
	m := make(map[string]string, len(list))
	for _, a := range list {
		if before, ok := m[a.Name]; ok {
			a.Value = before + ", " + a.Value
		}
		m[a.Name] = a.Value
	}
	return m
}

func micros(t event.Time) json.Number {
	return json.Number(strconv.FormatInt(int64(t/1000), 10) + "." + fmt.Sprintf("%03d", t%1000))
}

// about says which boot this is.
func about(tl *timeline.Timeline) map[string]string {
	m := map[string]string{
		"boot_id": tl.BootID, "host": tl.Host.Name, "kernel": tl.Kernel, "os": tl.Host.OS,
		"clock": "nanoseconds since boot, CLOCK_BOOTTIME", "record_complete": strconv.FormatBool(tl.Complete),
	}
	for k, v := range m {
		if v == "" {
			delete(m, k)
		}
	}
	return m
}
