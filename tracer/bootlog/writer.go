package bootlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/bootrace/bootrace/tracer/event"
)

const (
	// linger is how long an event waits for others before it is written.
	linger = 20 * time.Millisecond
	// flushSize is how much, in bytes, is written without waiting.
	flushSize = 64 << 10
	// syncSize is how much is written, in bytes, before it is made durable
	// without waiting.
	syncSize = 8 << 20
	// reserve is the part of MaxSize, in bytes, that only losses use.
	reserve = 4 << 10
	// mostLine is the longest line, in bytes, whose memory is kept for the next.
	mostLine = 64 << 10
	// retryAfter is the pause after an attempt that failed.
	retryAfter = time.Second
)

// WriterOptions say how to write a boot's log.
type WriterOptions struct {
	// Header begins a new log. An existing one keeps its own.
	Header Header
	// Dirs are the folders where this boot's log may be, the most durable
	// first. It is continued where it is; a new one begins in the last.
	Dirs []string
	// SyncWithin bounds how long an event is not safe from a power cut, as far
	// as the disk keeps up. 0 means 500 ms.
	SyncWithin time.Duration
	// MaxPending bounds what is kept in memory until the disk has it, in
	// bytes. 0 means 32 MiB. More is dropped, and counted.
	MaxPending int
	// MaxSize bounds the log in bytes, 0: it has no bound. What does not fit is
	// dropped, and counted; a loss event says since when, and at Close another
	// one how much. Within it each user and guest has a part: see OwnLosses.
	MaxSize int64
	// Readers is the group that may read the log, 0: none. See Share.
	Readers int
	Logger  *slog.Logger

	disk disk
}

// Recovery is what NewWriter found in the log that it continues.
type Recovery struct {
	// LastID and LastAt are those of the last event, 0 in a new log.
	LastID uint64
	LastAt event.Time
	// Cut is the number of bytes of an unfinished event that were cut off. The
	// caller records their loss.
	Cut int64
}

// Writer appends to the log of the running boot. Append never waits for the
// disk; a goroutine writes. All methods may be called concurrently.
type Writer struct {
	opts      WriterOptions
	name      string // of the log's file
	recovered Recovery

	wake     chan struct{}
	requests chan request
	done     chan struct{}

	mu sync.Mutex
	// buf is everything that is not known to be durable: what a failed sync
	// may have lost can be written again. The first written bytes are in the file.
	buf     backlog
	written int
	line    []byte    // the last event that was added, or was not
	since   time.Time // an event at or after the first in buf came then
	size    int64     // of the log with all that is in buf
	lastID  uint64
	// full is set once an event did not fit into MaxSize, fullTold when the log
	// says so.
	full, fullTold bool

	budget  *budget
	drops   drops
	dropped uint64
	err     error
	closed  bool

	// The writing goroutine's own, but that dir is changed with mu held.
	file    file
	dir     string
	synced  int64 // offset of buf in the file
	retryAt time.Time
}

// drops are the events that were dropped and are not yet told of in the log.
type drops struct {
	count    uint64
	from, to event.Time
	why      string
}

type request struct {
	do   func() error
	done chan error
}

// NewWriter begins the log of a boot, or continues it. It fails where the
// log is locked by another process, was written by a newer program, or where
// the last folder cannot be made.
func NewWriter(o WriterOptions) (*Writer, error) {
	o.SyncWithin = orElse(o.SyncWithin, 500*time.Millisecond)
	o.MaxPending = orElse(o.MaxPending, 32<<20)
	o.disk = orElse(o.disk, disk(osDisk{}))
	if !bootIDs.MatchString(o.Header.BootID) {
		return nil, fmt.Errorf("write boot log: %q is not a boot id", o.Header.BootID)
	}
	if len(o.Dirs) == 0 || o.Logger == nil {
		return nil, errors.New("write boot log: no folder or no logger was given")
	}
	w := &Writer{
		opts:     o,
		name:     o.Header.BootID + plainSuffix,
		wake:     make(chan struct{}, 1),
		requests: make(chan request),
		done:     make(chan struct{}),
		budget:   newBudget(),
	}
	if err := w.open(); err != nil {
		return nil, err
	}
	go w.run()
	return w, nil
}

func orElse[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}

// Recovered returns what was found in a log that is continued.
func (w *Writer) Recovered() Recovery { return w.recovered }

// Append gives e the next id and records it. Where e is dropped, because the
// disk fails and memory is used up, the log is full, or its user or guest has used
// up its part of that, its id becomes 0; a loss event tells of it
// as soon as there is room. e is not kept.
func (w *Writer) Append(e *event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.budget.begins(e)
	defer w.budget.ends(e)
	if w.drops.count > 0 && !w.tellDrops() {
		w.drop(e, w.reason())
		return
	}
	if reason := w.add(e); reason != "" {
		w.drop(e, reason)
	}
	w.tellOwners(w.budget.due(e.At, false))
	if w.full && !w.fullTold {
		w.tellFull()
	}
}

// add appends e to buf, or says why not.
func (w *Writer) add(e *event.Event) (reason string) {
	if w.closed {
		return "the log was closed"
	}
	e.ID = w.lastID + 1
	w.line = append(e.AppendJSON(w.line[:0]), '\n')
	line, size, before := w.line, len(w.line), w.buf.size
	if size > mostLine {
		w.line = nil
	}
	switch {
	case size > maxLine:
		return "an event is too long"
	case before > 0 && before+size > w.opts.MaxPending:
		return w.reason()
	}
	if w.overflows(e, size) {
		w.full = true
		return w.reason()
	}
	owners, uid := w.budget.ownersOf(e)
	if over, is := w.budget.over(owners, int64(size), w.room()); is && w.opts.MaxSize > 0 {
		w.loseOwn(e, over)
		return ""
	}
	w.budget.take(owners, uid, int64(size))
	w.buf.add(line)
	w.size += int64(size)
	w.lastID = e.ID
	if before == 0 {
		w.since = time.Now()
	}
	pending := w.buf.size - w.written
	if pending == size || pending/flushSize != (pending-size)/flushSize {
		w.poke()
	}
	return ""
}

func (w *Writer) room() room { return w.budget.room(w.opts.MaxSize, w.size) }

// loseOwn drops an event whose owner has used up its part.
func (w *Writer) loseOwn(e *event.Event, o owner) {
	e.ID = 0
	l := w.budget.lost(e, o)
	if l.all == 1 {
		w.opts.Logger.Warn("a user's events are no longer recorded: his part of the log of this boot is used up",
			"log", w.name, "uid", o.uid, "pid", o.pid, "what", e.Kind, "remedy", "raise max-log-size if they are wanted")
	}
}

// tellOwners records what owners have lost.
func (w *Writer) tellOwners(losses []event.Event) {
	for _, loss := range losses {
		if reason := w.add(&loss); reason != "" {
			w.drop(&loss, reason)
		}
	}
}

// OwnLosses returns what single users and guests lost so far, for having used up their
// parts of the log: the most first, 64 entries at most. An entry with UID and PID 0 is of
// root's programs that are no known guests.
func (w *Writer) OwnLosses() []event.LossInfo {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.budget.ownLosses()
}

// overflows reports whether e, of size bytes, is more than MaxSize allows.
func (w *Writer) overflows(e *event.Event, size int) bool {
	if w.opts.MaxSize == 0 {
		return false
	}
	room := w.opts.MaxSize - w.size
	if e.Kind != event.Loss || e.Src != Source {
		room -= reserve
	}
	return int64(size) > room
}

// SetMaxSize changes the bound on the log; see WriterOptions. A log that had
// reached it goes on if there is room now.
func (w *Writer) SetMaxSize(bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.opts.MaxSize = bytes; bytes == 0 || w.size+reserve < bytes {
		w.full, w.fullTold = false, false
	}
}

func (w *Writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// FullError says that a log has reached its WriterOptions.MaxSize.
type FullError struct{ MaxSize int64 } // bytes

func (e *FullError) Error() string {
	return fmt.Sprintf("the log of this boot has reached its limit of %s: raise max-log-size", humanize.IBytes(uint64(e.MaxSize)))
}

// reason says why the log takes no more.
func (w *Writer) reason() string {
	if w.full {
		return (&FullError{w.opts.MaxSize}).Error()
	}
	if w.err != nil {
		return "the log could not be written: " + w.err.Error()
	}
	return "the log could not be written fast enough"
}

func (w *Writer) drop(e *event.Event, why string) {
	e.ID = 0
	w.dropped++
	d := &w.drops
	if d.count++; d.count == 1 {
		d.from, d.to, d.why = e.Earliest(), e.At, why
		w.opts.Logger.Warn("events are lost", "log", w.name, "reason", why)
	}
	d.from, d.to = min(d.from, e.Earliest()), max(d.to, e.At)
}

// tellDrops records that events were dropped, if there is room. Until it has,
// nothing else is recorded, so that the loss stands where it happened.
func (w *Writer) tellDrops() bool {
	// Without some room the next event would be dropped again, and the log
	// would fill with losses.
	if w.closed || w.full || w.buf.size > w.opts.MaxPending*3/4 {
		return false
	}
	return w.addDrops()
}

func (w *Writer) addDrops() bool {
	d := w.drops
	loss := event.Event{
		At: d.to, From: d.from, Kind: event.Loss, Src: Source,
		Loss: &event.LossInfo{Source: Source, What: "any", Count: d.count, Why: d.why},
	}
	if w.add(&loss) != "" {
		return false
	}
	w.drops = drops{}
	return true
}

// tellFull records at once that nothing follows: the count, which is not
// known yet, may never be written.
func (w *Writer) tellFull() {
	loss := event.Event{
		At: w.drops.to, From: w.drops.from, Kind: event.Loss, Src: Source,
		Loss: &event.LossInfo{Source: Source, What: "any", Why: w.reason()},
	}
	w.fullTold = w.add(&loss) == ""
}

// Err returns why the log cannot be written at the moment, nil if it can: a
// failure of the disk, or a *FullError.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && w.full {
		return &FullError{w.opts.MaxSize}
	}
	return w.err
}

// Dropped returns the number of events that were dropped so far.
func (w *Writer) Dropped() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped
}

// Sync makes durable what was appended before. When ctx ends first, the
// attempt goes on without the caller.
func (w *Writer) Sync(ctx context.Context) error {
	w.mu.Lock()
	w.tellOwners(w.budget.flush(event.Now()))
	w.mu.Unlock()
	return w.request(ctx, func() error {
		err := w.write()
		if err == nil {
			err = w.sync()
		}
		w.report(err)
		return err
	})
}

// MoveTo moves the log into dir, which is made if need be. Events can be
// appended all the while. Whatever happens, power cuts included, each event is
// then in one of the two places or in both, and Open and NewWriter know the
// latter. After an error the log goes on where it was.
func (w *Writer) MoveTo(ctx context.Context, dir string) error {
	return w.request(ctx, func() error {
		if err := w.move(filepath.Clean(dir)); err != nil {
			return fmt.Errorf("move boot log from %s to %s: %w", w.dir, dir, err)
		}
		return nil
	})
}

// Share lets a group read the log, wherever it is from now on; 0 changes nothing.
func (w *Writer) Share(ctx context.Context, gid int) error {
	return w.request(ctx, func() error {
		w.opts.Readers = gid
		return w.share(w.file)
	})
}

// share lets the readers read f.
func (w *Writer) share(f file) error {
	if w.opts.Readers == 0 {
		return nil
	}
	if err := f.Share(w.opts.Readers); err != nil {
		return fmt.Errorf("let group %d read the boot log: %w", w.opts.Readers, err)
	}
	return nil
}

// Path returns the file in which the log is now, empty once it is closed. It waits for
// no disk.
func (w *Writer) Path() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ""
	}
	return w.path()
}

// Close makes everything durable, if the disk allows, and ends writing.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.tellOwners(w.budget.due(0, true))
	switch {
	case w.drops.count > 0 && w.full:
		w.addDrops() // into the reserve
	case w.drops.count > 0:
		w.tellDrops()
	}
	w.closed = true
	w.mu.Unlock()
	err := w.Sync(context.Background())
	close(w.done)
	w.requests <- request{} // the goroutine has ended its work
	return errors.Join(err, w.file.Close())
}

// request has the writing goroutine do something.
func (w *Writer) request(ctx context.Context, do func() error) error {
	r := request{do, make(chan error, 1)}
	select {
	case w.requests <- r:
	case <-w.done:
		return errors.New("the boot log is closed")
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run writes until the log is closed.
func (w *Writer) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if wait, any := w.wait(); any {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-w.wake:
		case <-timer.C:
			w.work()
		case r := <-w.requests:
			if r.do == nil {
				return
			}
			r.done <- r.do()
		}
	}
}

// wait returns how long the goroutine may sleep; any is false where there is
// nothing to do at all.
func (w *Writer) wait() (wait time.Duration, any bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	pending := w.buf.size - w.written
	switch {
	case w.buf.size == 0:
		return 0, false
	case w.err != nil:
		return w.retryAt.Sub(now), true
	case pending >= flushSize || w.written >= syncSize:
		return 0, true
	case pending > 0:
		return min(linger, w.untilSync(now)), true
	}
	return w.untilSync(now), true
}

// untilSync leaves the disk half of the time that is allowed.
func (w *Writer) untilSync(now time.Time) time.Duration {
	return w.since.Add(w.opts.SyncWithin / 2).Sub(now)
}

// work writes, and makes durable what is due.
func (w *Writer) work() {
	err := w.write()
	w.mu.Lock()
	due := w.written >= syncSize || w.untilSync(time.Now()) <= 0
	w.mu.Unlock()
	if err == nil && due {
		err = w.sync()
	}
	w.report(err)
}

// report keeps the state that Err tells, and tells the operator of changes.
func (w *Writer) report(err error) {
	w.mu.Lock()
	before := w.err
	w.err = err
	w.mu.Unlock()
	switch {
	case err != nil:
		w.retryAt = time.Now().Add(retryAfter)
		if before == nil {
			w.opts.Logger.Error("the boot log cannot be written; events wait in memory", "error", err)
		}
	case before != nil:
		w.opts.Logger.Info("the boot log can be written again", "log", w.path())
	}
}

func (w *Writer) path() string { return filepath.Join(w.dir, w.name) }

// write writes what is pending. What a full disk takes of it stays written;
// the next attempt goes on from there.
func (w *Writer) write() error {
	w.mu.Lock()
	// Append only adds behind these pieces, so they can be read without the lock.
	pending, at := w.buf.from(w.written), w.synced+int64(w.written)
	w.mu.Unlock()
	for _, piece := range pending {
		n, err := w.file.WriteAt(piece, at)
		at += int64(n)
		w.mu.Lock()
		w.written += n
		w.mu.Unlock()
		if err != nil {
			return fmt.Errorf("write boot log: %w", err)
		}
	}
	return nil
}

// sync makes durable what is written. After a failure the kernel may have
// thrown the bytes away and call the next sync a success (fsync(2), since
// Linux 4.13 reported once), so they are written again.
func (w *Writer) sync() error {
	begun := time.Now()
	w.mu.Lock()
	n := w.written
	w.mu.Unlock()
	if n == 0 {
		return nil
	}
	err := w.file.Sync()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.written = 0
		return fmt.Errorf("make boot log %s durable: %w", w.path(), err)
	}
	w.durable(n, begun)
	if w.drops.count > 0 {
		w.tellDrops()
	}
	return nil
}

// durable forgets the first n bytes of buf: they are safe since the instant
// begun, and all that came before it with them.
func (w *Writer) durable(n int, begun time.Time) {
	w.synced += int64(n)
	w.buf.drop(n)
	w.written = max(0, w.written-n)
	w.since = begun
}
