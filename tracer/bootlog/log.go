package bootlog

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"slices"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// Log is the record of one boot. It may be read several times, by one
// goroutine at a time, also while it is being written: a reading then ends
// where the log ended at that moment.
type Log struct {
	header Header
	parts  []*part
	damage []Damage
}

// Damage is a stretch of a log that could not be read.
type Damage struct {
	Path string
	// Offset and Bytes say where in the log's text, which for a compressed log
	// is not the place in the file. Bytes is 0 where its length is not known.
	Offset, Bytes int64
	Why           string
}

// Open opens a log, plain or compressed. The further files continue it: what
// is left where a log was being moved from one folder to another. Events that
// they have in common are read once.
func Open(path string, more ...string) (*Log, error) {
	l := new(Log)
	for _, path := range append([]string{path}, more...) {
		p, err := openPart(path)
		if errors.Is(err, ErrEmpty) && len(more) > 0 {
			continue
		}
		if err != nil {
			l.Close()
			return nil, err
		}
		l.parts = append(l.parts, p)
		if len(l.parts) == 1 {
			l.header = p.header
		} else if p.header.BootID != l.header.BootID {
			l.Close()
			return nil, fmt.Errorf("open boot log %s: it is of boot %s, not of boot %s as %s", path, p.header.BootID, l.header.BootID, l.parts[0].path)
		}
	}
	if len(l.parts) == 0 {
		return nil, fmt.Errorf("open boot log %s: %w", path, ErrEmpty)
	}
	return l, nil
}

// Close closes the log's files.
func (l *Log) Close() error {
	var err error
	for _, p := range l.parts {
		err = errors.Join(err, p.file.Close())
	}
	return err
}

// Header returns what the log says about its boot: what stands near its
// beginning, and after Events all of it.
func (l *Log) Header() Header {
	h := l.header
	h.Sources = slices.Clone(h.Sources)
	return h
}

// Damage returns the stretches that the last Events could not read.
func (l *Log) Damage() []Damage { return slices.Clone(l.damage) }

// Events returns the events in the order of their ids. Where some are missing,
// because of damage or because somebody took them out, a loss event with id 0
// from source "log" stands in their place, so that whoever sees the events
// knows that they are not all. An error ends the events: the disk could not be
// read.
func (l *Log) Events() iter.Seq2[event.Event, error] { return l.events(false) }

// Lend returns the events as Events does, for a reader that keeps nothing that an
// event points to: it is used again for others as soon as the reader asks for the
// next one. That saves a third of the time.
func (l *Log) Lend() iter.Seq2[event.Event, error] { return l.events(true) }

func (l *Log) events(lend bool) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		l.damage = nil
		t := teller{log: l, yield: yield}
		for i, p := range l.parts {
			t.begin(p, i > 0)
			if err := p.scan(lend, t.chunk); err != nil {
				if !errors.Is(err, errStop) {
					yield(event.Event{}, fmt.Errorf("read boot log %s: %w", p.path, err))
				}
				return
			}
		}
		t.end()
	}
}

// errStop ends a scan whose reader wants no more.
var errStop = errors.New("stop")

// teller tells a log's events to yield, in order and with their losses.
type teller struct {
	log   *Log
	yield func(event.Event, error) bool

	part      *part
	continued bool // skip what earlier parts had
	floor     uint64

	last   event.Event // the last event that was told
	broken int64       // bytes of damage since then
	torn   string      // why the log has no proper end
}

func (t *teller) begin(p *part, continued bool) {
	t.part, t.continued, t.floor, t.torn = p, continued, t.last.ID, ""
}

// chunk tells the events of c.
func (t *teller) chunk(c *chunk) error {
	damage := c.damage
	for i := range c.events {
		for len(damage) > 0 && damage[0].before <= i {
			t.damaged(damage[0])
			damage = damage[1:]
		}
		if !t.event(&c.events[i]) {
			return errStop
		}
	}
	for _, d := range damage {
		t.damaged(d)
	}
	return nil
}

func (t *teller) event(e *event.Event) bool {
	if t.continued && e.ID <= t.floor {
		return true
	}
	if e.ID > t.last.ID+1 && !t.yield(t.missing(e), nil) {
		return false
	}
	t.broken, t.torn = 0, ""
	t.log.header.Fold(e)
	t.last = event.Event{ID: e.ID, At: e.At}
	return t.yield(*e, nil)
}

// missing is the loss of the events between the last one and next.
func (t *teller) missing(next *event.Event) event.Event {
	count := next.ID - t.last.ID - 1
	why := "events are missing in the log"
	if t.broken > 0 {
		why = fmt.Sprintf("%d bytes of the log cannot be read", t.broken)
	}
	at := max(t.last.At, next.Earliest())
	return event.Event{
		At: at, From: t.last.At, Kind: event.Loss, Src: Source,
		Loss: &event.LossInfo{Source: Source, What: "any", Count: count, Why: why},
	}
}

// damaged notes d, which may go on where the damage before it ended.
func (t *teller) damaged(d damage) {
	if d.tail && !t.part.compressed && beingWritten(t.part.file) {
		return // the rest of the line is on its way
	}
	t.broken += d.bytes
	if t.torn = ""; d.tail {
		t.torn = d.why
	}
	if n := len(t.log.damage); n > 0 {
		if have := &t.log.damage[n-1]; have.Path == t.part.path && have.Offset+have.Bytes == d.offset && have.Bytes > 0 {
			have.Bytes += d.bytes
			return
		}
	}
	t.log.damage = append(t.log.damage, Damage{Path: t.part.path, Offset: d.offset, Bytes: d.bytes, Why: d.why})
}

// end tells that the log's end is missing, if it is.
func (t *teller) end() {
	if t.broken == 0 && t.torn == "" {
		return
	}
	why := t.torn
	if why == "" {
		why = fmt.Sprintf("the last %d bytes of the log cannot be read", t.broken)
	}
	t.yield(event.Event{
		At: t.last.At, Kind: event.Loss, Src: Source,
		Loss: &event.LossInfo{Source: Source, What: "any", Why: why},
	}, nil)
}

// part is one file of a log.
type part struct {
	path       string
	file       *os.File
	compressed bool
	header     Header
	body       int64    // offset of the first event in the text
	summary    *summary // of a log that a Store compressed
}

// peekBytes is how much of a log's text is looked at when it is opened: the
// header, and the first events, which say most about the host.
const peekBytes = maxHeader + 64<<10

func openPart(path string) (*part, error) {
	// Opening a pipe that nobody writes would wait for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open boot log: %w", err)
	}
	p := &part{path: path, file: f}
	if err := p.peek(); err != nil {
		f.Close()
		var version *VersionError
		if errors.As(err, &version) {
			return nil, err
		}
		return nil, fmt.Errorf("open boot log %s: %w", path, err)
	}
	return p, nil
}

// peek reads the header and the first events.
func (p *part) peek() error {
	if info, err := p.file.Stat(); err != nil {
		return err
	} else if info.IsDir() {
		return errors.New("it is a folder: name a log file in it, or a boot")
	} else if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file: copy the log into one")
	}
	if err := p.detect(); err != nil {
		return err
	}
	text, closeText, err := p.text(false)
	if err != nil {
		return err
	}
	defer closeText()
	start, err := io.ReadAll(io.LimitReader(text, peekBytes))
	if len(start) == 0 && err != nil {
		return err
	}
	if len(start) == 0 {
		return ErrEmpty
	}
	end := bytes.IndexByte(start, '\n')
	if end < 0 || end > maxHeader {
		if end < 0 && len(start) < maxHeader && start[0] == '{' {
			return fmt.Errorf("%w: its header is torn", ErrEmpty)
		}
		return errNoHeader
	}
	if p.header, err = parseHeader(start[:end], p.path); err != nil {
		return err
	}
	p.body = int64(end) + 1
	foldLines(&p.header, start[end+1:])
	if p.summary != nil {
		p.summary.fold(&p.header)
	}
	return nil
}

// foldLines folds those lines of text that are events.
func foldLines(h *Header, text []byte) {
	d := new(event.Decoder)
	for line := range bytes.Lines(text) {
		var e event.Event
		if d.Decode(line, &e) == nil {
			h.Fold(&e)
		}
	}
}

// detect tells compressed logs by their first bytes, not by their names.
func (p *part) detect() error {
	var magic [4]byte
	if _, err := p.file.ReadAt(magic[:], 0); err == io.EOF {
		return nil
	} else if err != nil {
		return err
	}
	const zstdFrame, skippable = 0xfd2fb528, 0x184d2a50
	m := binary.LittleEndian.Uint32(magic[:])
	p.compressed = m == zstdFrame || m&^0xf == skippable
	if m == summaryMagic {
		p.summary = readSummary(p.file)
	}
	return nil
}

// text returns the log's text from its start. Reading all of it is faster when
// a compressed log is decompressed ahead; for a glance that is a waste.
func (p *part) text(all bool) (io.Reader, func(), error) {
	raw := io.NewSectionReader(p.file, 0, math.MaxInt64)
	if !p.compressed {
		return raw, func() {}, nil
	}
	// A log that somebody compressed by hand may have a larger window than
	// ours, but not ask for any amount of memory.
	ahead := 1
	if all {
		ahead = 2
	}
	d, err := zstd.NewReader(bufio.NewReaderSize(raw, 64<<10), zstd.WithDecoderConcurrency(ahead),
		zstd.WithDecoderLowmem(!all), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return nil, nil, err
	}
	info, err := p.file.Stat()
	if err != nil {
		d.Close()
		return nil, nil, err
	}
	limit := max(minText, maxRatio*info.Size())
	return &boundedText{d, limit, limit}, d.Close, nil
}

// The text of a compressed log is read up to minText bytes, or to maxRatio times
// the file. An event has a number and a time that the one before it has not, so
// that real logs come to 10 to 350 times (350: of lines of 4 KiB). 64 KiB of
// zstd can stand for 2 GiB of zeros.
const (
	minText  = 64 << 20
	maxRatio = 500
)

// boundedText ends with an error where a text is longer than a log can be.
type boundedText struct {
	text        io.Reader
	limit, left int64
}

func (b *boundedText) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, fmt.Errorf("it goes on after %d MiB of text, which no log of this size does", b.limit>>20)
	}
	n, err := b.text.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// summary is what a compressed log says about itself before its text, in a
// frame that zstd skips: a list of boots can be made without decompressing.
type summary struct {
	Events uint64           `json:"events"`
	Bytes  int64            `json:"bytes"` // of the text
	Wall   *event.ClockInfo `json:"wall,omitempty"`
	Host   event.HostInfo   `json:"host"`
}

// summaryMagic is one of the sixteen numbers of frames that zstd skips
// (RFC 8878, 3.1.2).
const summaryMagic = 0x184d2a5b

func (s *summary) fold(h *Header) {
	if s.Wall != nil {
		h.Wall = s.Wall
	}
	if s.Host != (event.HostInfo{}) {
		h.Host = s.Host
	}
}

// frame returns the summary as a skippable frame.
func (s *summary) frame() ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode log summary: %w", err)
	}
	frame := binary.LittleEndian.AppendUint32(nil, summaryMagic)
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(text)))
	return append(frame, text...), nil
}

// readSummary returns nil where the frame is not ours: it is a convenience.
func readSummary(r io.ReaderAt) *summary {
	var head [8]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil
	}
	text := make([]byte, min(binary.LittleEndian.Uint32(head[4:]), maxHeader))
	if _, err := r.ReadAt(text, 8); err != nil && err != io.EOF {
		return nil
	}
	s := new(summary)
	if json.Unmarshal(text, s) != nil {
		return nil
	}
	return s
}
