package bootlog

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/bootrace/bootrace/tracer/event"
)

// tailWindow is how much of a log's end is looked at a time, in bytes. It is
// larger than the longest line.
const tailWindow = 2 * maxLine

// lastEvent finds the last line that is an event in the size bytes of r from
// body on. end is the offset behind that line, terminated tells whether its
// line break is there; without an event, end is body.
func lastEvent(r io.ReaderAt, body, size int64) (last event.Event, end int64, terminated bool, err error) {
	d := new(event.Decoder)
	// The end alone is nearly always enough.
	for window := int64(64 << 10); size > body; window = tailWindow {
		from := max(body, size-window)
		text := make([]byte, size-from)
		if n, err := r.ReadAt(text, from); err != nil && (err != io.EOF || n < len(text)) {
			return event.Event{}, 0, false, err
		}
		rest := text
		for len(rest) > 0 {
			start := bytes.LastIndexByte(rest[:len(rest)-1], '\n') + 1
			if start == 0 && from > body {
				break // the line's beginning is outside
			}
			line := rest[start:]
			if d.Decode(line, &last) == nil && last.ID > 0 && last.Kind != "" {
				return last, from + int64(len(rest)), line[len(line)-1] == '\n', nil
			}
			rest = rest[:start]
		}
		switch {
		case len(rest) < len(text):
			size = from + int64(len(rest))
		case window == tailWindow:
			size = from // longer than any line
		}
	}
	return event.Event{}, body, true, nil
}

// firstAfter returns the offset of the first event in r with an id above id,
// or where r ends.
func firstAfter(r io.Reader, id uint64) (int64, error) {
	d := new(event.Decoder)
	b := bufio.NewReaderSize(r, 1<<20)
	var line []byte
	var offset int64
	for {
		piece, err := b.ReadSlice('\n')
		line = append(line, piece...)
		if errors.Is(err, bufio.ErrBufferFull) && len(line) <= maxLine {
			continue
		}
		if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
			return 0, err
		}
		var e event.Event
		if d.Decode(line, &e) == nil && e.ID > id {
			return offset, nil
		}
		offset += int64(len(line))
		if line = line[:0]; err == io.EOF {
			return offset, nil
		}
	}
}
