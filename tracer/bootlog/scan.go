package bootlog

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	"github.com/bootrace/bootrace/tracer/event"
)

const (
	chunkSize  = 256 << 10 // bytes of text that are decoded at a time
	maxWorkers = 4
)

// chunk is a run of whole lines and, once decoded, their events. It is used
// again and again; events are copied out of it.
type chunk struct {
	offset int64 // of data in the text
	data   []byte
	// The first line began before data and is known to be too long.
	continued bool
	// The text ends here, properly or with an unfinished line.
	last bool

	events   []event.Event
	payloads *event.Payloads // of events, nil where they are the reader's to keep
	damage   []damage
	ready    chan struct{}
}

// damage is a stretch that is no event, before the chunk's event of that index.
type damage struct {
	before        int
	offset, bytes int64
	why           string
	tail          bool // an unfinished last line, or text whose rest is gone
}

// scan decodes the events on all cores and hands them over chunk by chunk, in
// order. No goroutine is left behind when it returns. With lend, what the events
// point to is used again once tell has returned.
func (p *part) scan(lend bool, tell func(*chunk) error) error {
	text, closeText, err := p.text(true)
	if err != nil {
		return err
	}
	defer closeText()
	if _, err := io.CopyN(io.Discard, text, p.body); err != nil {
		return err
	}
	workers := min(runtime.GOMAXPROCS(0), maxWorkers)
	s := &scan{
		work:  make(chan *chunk, workers),
		order: make(chan *chunk, workers),
		free:  make(chan *chunk, 2*workers+2),
		stop:  make(chan struct{}),
		lend:  lend,
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer close(s.stop)
	running.Go(func() { s.split(text, p.body, p.compressed) })
	for range workers {
		running.Go(func() {
			d := new(event.Decoder)
			for c := range s.work {
				c.decode(d)
				c.ready <- struct{}{}
			}
		})
	}
	for c := range s.order {
		<-c.ready
		if err := tell(c); err != nil {
			return err
		}
		select {
		case s.free <- c:
		default:
		}
	}
	return s.err
}

type scan struct {
	work, order, free chan *chunk
	stop              chan struct{}
	lend              bool
	err               error // valid once order is closed
}

func (s *scan) chunk() *chunk {
	select {
	case c := <-s.free:
		*c = chunk{data: c.data[:0], events: c.events[:0], payloads: c.payloads, damage: c.damage[:0], ready: c.ready}
		return c
	default:
		c := &chunk{ready: make(chan struct{}, 1)}
		if s.lend {
			c.payloads = new(event.Payloads)
		}
		return c
	}
}

// send hands c to a worker and to the one who waits for it.
func (s *scan) send(c *chunk) bool {
	select {
	case s.work <- c:
	case <-s.stop:
		return false
	}
	select {
	case s.order <- c:
		return true
	case <-s.stop:
		return false
	}
}

// split cuts the text at line ends.
func (s *scan) split(text io.Reader, offset int64, compressed bool) {
	defer close(s.order)
	defer close(s.work)
	var rest []byte
	var tooLong bool
	for {
		c := s.chunk()
		c.offset, c.continued = offset, tooLong
		c.data = append(c.data, rest...)
		var err error
		c.data, err = fill(text, c.data, chunkSize)
		end := bytes.LastIndexByte(c.data, '\n') + 1
		switch {
		case err != nil:
			end = len(c.data)
			c.last = true
		case end == 0 && len(c.data) > maxLine:
			end = len(c.data)
			tooLong = true
		case end > 0:
			tooLong = false
		}
		rest = append(rest[:0], c.data[end:]...)
		c.data = c.data[:end]
		offset += int64(end)
		if compressed && isCorruption(err) {
			c.damage = append(c.damage, damage{before: -1, offset: offset, why: "the rest of the compressed log cannot be read: " + err.Error(), tail: true})
			err = io.EOF
		}
		if !s.send(c) || err != nil {
			if !errors.Is(err, io.EOF) {
				s.err = err
			}
			return
		}
	}
}

// isCorruption tells errors of the decompressor from those of the disk.
func isCorruption(err error) bool {
	var disk *fs.PathError
	return err != nil && !errors.Is(err, io.EOF) && !errors.As(err, &disk)
}

// fill appends up to n bytes. Fewer come with the reader's error: what
// io.ReadFull returns does not tell a text that ended from one that was cut.
func fill(r io.Reader, b []byte, n int) ([]byte, error) {
	b = slices.Grow(b, n)
	for full := len(b) + n; len(b) < full; {
		m, err := r.Read(b[len(b):full])
		b = b[:len(b)+m]
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

// decode finds the chunk's events and its damage.
func (c *chunk) decode(d *event.Decoder) {
	if c.payloads != nil {
		c.payloads.Reset()
		d.Use(c.payloads)
	}
	cut := c.damage // at most one, known before: the text's end is gone
	c.damage = c.damage[:0:0]
	for pos := 0; pos < len(c.data); {
		line, end := c.data[pos:], len(c.data)
		n := bytes.IndexByte(line, '\n')
		if n >= 0 {
			line, end = line[:n], pos+n+1
		}
		switch {
		case pos == 0 && c.continued || len(bytes.TrimRight(line, "\x00")) > maxLine:
			why := "a line is too long"
			if len(bytes.Trim(line, "\x00")) == 0 {
				why = zeros
			}
			c.bad(pos, end, why, false)
		case len(line) > 0:
			c.line(d, pos, end, line, n < 0 && c.last && len(cut) == 0)
		}
		pos = end
	}
	for _, known := range cut {
		known.before = len(c.events)
		c.damage = append(c.damage, known)
	}
}

func (c *chunk) bad(from, to int, why string, tail bool) {
	// Millions of short lines that are no events are one stretch.
	if n := len(c.damage); n > 0 {
		if last := &c.damage[n-1]; last.before == len(c.events) && last.why == why && last.tail == tail && last.offset+last.bytes == c.offset+int64(from) {
			last.bytes += int64(to - from)
			return
		}
	}
	c.damage = append(c.damage, damage{len(c.events), c.offset + int64(from), int64(to - from), why, tail})
}

// zeros is why a stretch of a log can't be read that has nothing in it.
const zeros = "there are only zeros, as a power cut leaves them"

// line decodes one line, which ends at end with its line break. Where it is
// no event it may still end with one: a line was cut off, and the next one
// written right behind it.
func (c *chunk) line(d *event.Decoder, pos, end int, line []byte, tail bool) {
	if c.event(d, line) {
		return
	}
	// A file system that has given a file its length, and not yet its content,
	// shows zeros there after a power cut (ext4, XFS).
	if text := bytes.TrimRight(line, "\x00"); len(text) < len(line) {
		if len(text) > 0 {
			c.line(d, pos, pos+len(text), text, tail)
		}
		c.bad(pos+len(text), end, zeros, tail)
		return
	}
	why := "a line is not an event"
	if tail {
		why = "the log ends in the middle of a line"
	}
	if i := bytes.LastIndex(line, []byte(`{"id":`)); i > 0 {
		c.bad(pos, pos+i, why, false)
		if c.event(d, line[i:]) {
			return
		}
		pos += i
	}
	c.bad(pos, end, why, tail)
}

func (c *chunk) event(d *event.Decoder, line []byte) bool {
	n := len(c.events)
	c.events = slices.Grow(c.events, 1)[:n+1]
	if e := &c.events[n]; d.Decode(line, e) == nil && e.ID > 0 && e.Kind != "" {
		return true
	}
	c.events = c.events[:n]
	return false
}
