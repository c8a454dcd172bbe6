// Package otlp makes OpenTelemetry spans of a boot's timeline, one trace a
// boot, and sends them or writes them as OTLP JSON lines.
//
// The trace id is the boot id and each span's id follows from what it stands
// for, so that exporting a boot again gives the same spans. What a span says
// must not change once it was sent, since a receiver would show it twice: a
// Memory knows what was made before, and Encode makes only the rest.
//
// It uses collector's pdata and its gRPC client instead of the SDK or the
// otlptrace clients. A recorded boot needs no pipeline: spans have to arrive,
// and a batch processor drops them when its queue is full. pdata encodes and
// sends a third faster than the otlptrace clients, adds half their size to the
// program, and writes OTLP JSON as the specification wants it (ids in hex).
// Attribute keys are those of OpenTelemetry's semantic conventions where these
// have one.
package otlp

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/trace"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Memory is what has been made of one boot so far. The zero value is that of a
// boot of which nothing has.
type Memory struct {
	// Wall is the offset to wall time that all spans of the boot have: the best
	// that was known when the first of them were made.
	Wall *event.ClockInfo
	// Spans are the ids of all spans that were made.
	Spans map[trace.SpanID]struct{}
}

// EncodeAll makes all spans of a boot, from how it stood over time.
func EncodeAll(stands iter.Seq2[timeline.Stand, error]) iter.Seq2[ptrace.Traces, error] {
	return func(yield func(ptrace.Traces, error) bool) {
		memory := &Memory{}
		for tl, err := range stands {
			if err != nil {
				yield(ptrace.Traces{}, err)
				return
			}
			requests, err := Encode(tl, memory)
			if err != nil {
				yield(ptrace.Traces{}, err)
				return
			}
			for r := range requests {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// WriteJSON writes requests as OTLP JSON lines, a request a line: what Jaeger's
// upload and the collector's otlpjsonfile receiver take.
func WriteJSON(w io.Writer, requests iter.Seq2[ptrace.Traces, error]) error {
	w = words.JSONWriter(w)
	m := ptrace.JSONMarshaler{}
	for r, err := range requests {
		if err != nil {
			return err
		}
		line, err := m.MarshalTraces(r)
		if err != nil {
			return fmt.Errorf("encode OTLP JSON: %w", err)
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("write OTLP JSON: %w", err)
		}
	}
	return nil
}

// ErrNoClock is the error for a boot whose record has no wall time.
var ErrNoClock = errors.New("the record has no wall time, so its spans have no place in time")

// Encode makes the spans of tl that memory does not know, in requests that a
// receiver takes: at most 2,000 spans and 3 MiB each. They are made as they are asked
// for, and memory knows those of the requests that were.
func Encode(tl timeline.Stand, memory *Memory) (iter.Seq[ptrace.Traces], error) {
	if memory.Wall == nil {
		if tl.Clock == nil && !tl.Ended {
			return func(func(ptrace.Traces) bool) {}, nil // a clock may yet be read
		}
		if tl.Clock == nil {
			return nil, ErrNoClock
		}
		wall := *tl.Clock
		memory.Wall = &wall
	}
	if memory.Spans == nil {
		memory.Spans = make(map[trace.SpanID]struct{})
	}
	b, err := newBoot(tl, memory)
	if err != nil {
		return nil, err
	}
	shown, left := tl.Most(words.MaxGuests)
	return requests(b, func() {
		b.overview(left)
		b.tl = shown // from here on
		b.mappings()
		b.commands()
		b.guests()
	}), nil
}
