package delivery

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/trace"

	"github.com/bootrace/bootrace/exporters/otlp"
	"github.com/bootrace/bootrace/exporters/spool"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/replace"
)

// made is what has been made of one boot, in a file of its own: whatever
// happens, no span is made twice with another content.
type made struct {
	Wall *event.ClockInfo `json:"wall,omitempty"`
	// Stands is how many of the boot's stands are exported; Ended is set once
	// all of the boot is.
	Stands int  `json:"stands"`
	Ended  bool `json:"ended,omitempty"`
	// Spans are their ids, in hex.
	Spans  []string `json:"spans,omitempty"`
	memory *otlp.Memory
}

const madeSuffix = ".made.json"

func (d *Delivery) madePath(boot string) string { return filepath.Join(d.opts.Dir, boot+madeSuffix) }

// loadMade reads what was made of the boot. A crash can have come between
// spooling a request and noting it, so what is in the spool counts, too.
func (d *Delivery) loadMade(boot string) (*made, error) {
	m := &made{memory: &otlp.Memory{Spans: map[trace.SpanID]struct{}{}}}
	data, err := os.ReadFile(d.madePath(boot))
	if err == nil {
		err = json.Unmarshal(data, m)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read what was made of boot %s: %w", boot, err)
	}
	for _, text := range m.Spans {
		id, err := trace.SpanIDFromHex(text)
		if err != nil {
			return nil, fmt.Errorf("read what was made of boot %s: span id %q: %w", boot, text, err)
		}
		m.memory.Spans[id] = struct{}{}
	}
	m.memory.Wall = m.Wall
	for _, e := range d.spool.Entries() {
		if e.Boot != boot {
			continue
		}
		traces, err := d.read(e)
		if err != nil {
			return nil, err
		}
		for id := range spanIDs(traces) {
			m.memory.Spans[id] = struct{}{}
		}
	}
	return m, nil
}

// saveMade notes it, durably.
func (d *Delivery) saveMade(boot string, m *made) error {
	m.Wall = m.memory.Wall
	m.Spans = m.Spans[:0]
	for id := range m.memory.Spans {
		m.Spans = append(m.Spans, id.String())
	}
	data, err := json.Marshal(m)
	if err == nil {
		err = replace.Bytes(d.madePath(boot), data, replace.Options{Perm: 0o600, Sole: true})
	}
	if err != nil {
		return fmt.Errorf("note what was made of boot %s: %w", boot, err)
	}
	return nil
}

// forgetGone removes the notes of boots that are recorded no more, and of which
// nothing waits to be sent.
func (d *Delivery) forgetGone(recorded map[string]bool) {
	files, err := os.ReadDir(d.opts.Dir)
	if err != nil {
		return
	}
	for _, e := range d.spool.Entries() {
		recorded[e.Boot] = true
	}
	for _, f := range files {
		if boot, ok := strings.CutSuffix(f.Name(), madeSuffix); ok && !recorded[boot] {
			_ = os.Remove(d.madePath(boot))
		}
	}
}

func (d *Delivery) read(e spool.Entry) (ptrace.Traces, error) {
	data, err := d.spool.Read(e)
	if err != nil {
		return ptrace.Traces{}, err
	}
	u := ptrace.ProtoUnmarshaler{}
	traces, err := u.UnmarshalTraces(data)
	if err != nil {
		return ptrace.Traces{}, &damagedError{e, err}
	}
	return traces, nil
}

// damagedError is an entry of the spool that the disk has not kept.
type damagedError struct {
	entry spool.Entry
	err   error
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("entry %d of the spool is damaged: %v", e.entry.Number, e.err)
}

func (e *damagedError) Unwrap() error { return e.err }

func spanIDs(traces ptrace.Traces) func(func(trace.SpanID) bool) {
	return func(yield func(trace.SpanID) bool) {
		for _, rs := range traces.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					if !yield(trace.SpanID(s.SpanID())) {
						return
					}
				}
			}
		}
	}
}
