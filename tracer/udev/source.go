package udev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/pilebones/go-udev/netlink"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
)

// DefaultReceiveBuffer is the size of each socket's queue in bytes: more than
// 10^4 uevents of a host's coldplug, with the kernel's bookkeeping.
const DefaultReceiveBuffer = 16 << 20

// Options configure a Source. The zero value is ready.
type Options struct {
	// ReceiveBuffer is the size of each socket's queue in bytes; 0 means
	// DefaultReceiveBuffer.
	ReceiveBuffer int
	// Resync, if set, is called in Run's goroutine when messages were lost and
	// the queue flows again: the time for a snapshot. It must not wait for one.
	Resync func()
	// Stored, if set, is called in the goroutine that reads when udev has stored
	// a block device's record: its rules have run and its links are made, but
	// its event is still to come. What the kernel announced before has been
	// passed on by then. See FollowStores.
	Stored func(event.Dev)
	// Log may be nil.
	Log *slog.Logger
}

// Stats are counters since Open.
type Stats struct {
	Kernel     uint64 // uevents received: what the socket's filter passed
	Udev       uint64 // udev events received, likewise
	Lost       uint64 // messages dropped by a full queue, as far as the kernel tells
	Overruns   uint64 // times that a queue was full
	Unparsable uint64
	Foreign    uint64 // messages of other senders, ignored
}

// Source receives uevents and udev events.
type Source struct {
	kernel, udev *socket
	sysfs        *blockdev.Sysfs // nil where there is none
	noSysfs      error           // why
	stores       *stores         // nil where nobody asked for them, or there is no inotify to be had
	wake         int             // eventfd that ends Run's waiting
	options      Options
	log          *slog.Logger
	clock        event.Duration // CLOCK_BOOTTIME - CLOCK_MONOTONIC
	opened       event.Time

	// reading is held while messages are read: by Run, and by CatchUp.
	reading sync.Mutex
	emit    func(event.Event) // Run's; nil before and after
	pairs   pairs
	count   struct{ kernel, udev, lost, overruns, unparsable, foreign atomic.Uint64 }
}

// Open binds the sockets: from then on events wait for Run.
func Open(options Options) (*Source, error) {
	if options.ReceiveBuffer == 0 {
		options.ReceiveBuffer = DefaultReceiveBuffer
	}
	s := &Source{options: options, log: options.Log, clock: event.MonotonicOffset(), wake: -1}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.opened = event.Now()
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Source) open() (err error) {
	size := s.options.ReceiveBuffer
	if s.kernel, err = openSocket(KernelSource, netlink.KernelEvent, kernelFilter(), size); err != nil {
		return err
	}
	if s.udev, err = openSocket(UdevSource, netlink.UdevEvent, udevFilter(), size); err != nil {
		return err
	}
	for _, socket := range []*socket{s.kernel, s.udev} {
		if socket.unfiltered != nil {
			s.log.Info("events of all subsystems will be read, which takes more time",
				"source", socket.source, "error", socket.unfiltered)
		}
	}
	if s.sysfs, s.noSysfs = blockdev.OpenSysfs("/"); s.noSysfs != nil {
		s.log.Warn("devices are recorded without their attributes", "error", s.noSysfs)
	}
	if s.options.Stored != nil {
		if s.stores, err = openStores("/"); err != nil {
			s.log.Warn("udev's records are not followed, only its events", "error", err)
		}
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("create eventfd: %w", err)
	}
	return nil
}

// Close closes the sockets. Run must have returned.
func (s *Source) Close() error {
	var errs []error
	for _, socket := range []*socket{s.kernel, s.udev} {
		if socket != nil {
			errs = append(errs, socket.close())
		}
	}
	if s.stores != nil {
		errs = append(errs, s.stores.close())
	}
	if s.sysfs != nil {
		errs = append(errs, s.sysfs.Close())
	}
	if s.wake >= 0 {
		errs = append(errs, unix.Close(s.wake))
	}
	s.kernel, s.udev, s.stores, s.sysfs, s.wake = nil, nil, nil, nil, -1
	return errors.Join(errs...)
}

// Info describes the two sources, attached since Open.
func (s *Source) Info() []event.SourceInfo {
	list := []event.SourceInfo{info(s.kernel), info(s.udev)}
	if s.noSysfs != nil {
		list[0].Abilities = append(list[0].Abilities, event.Ability{Name: "attributes", Why: s.noSysfs.Error()})
	}
	return list
}

func info(socket *socket) event.SourceInfo {
	ability := event.Ability{Name: socket.source, OK: true}
	if !socket.forced {
		ability.Why = "the receive buffer could not be raised (needs CAP_NET_ADMIN): losses are likelier"
	}
	return event.SourceInfo{Name: socket.source, State: "attached", Abilities: []event.Ability{ability}}
}

// Stats returns the counters. It may be called at any time.
func (s *Source) Stats() Stats {
	c := &s.count
	return Stats{
		Kernel: c.kernel.Load(), Udev: c.udev.Load(), Lost: c.lost.Load(), Overruns: c.overruns.Load(),
		Unparsable: c.unparsable.Load(), Foreign: c.foreign.Load(),
	}
}

// Run reads until ctx is done, which is no error. It calls emit one event at a
// time; a uevent always comes before its udev event. A loss is an event; any
// other error of a socket ends Run.
//
// Event.At is the receipt. A uevent's From is when its queue was last seen
// empty, or when the reader woke up for it; the scheduler may have taken its time
// to wake it, so DevInfo.Since is the certain bound. A udev event's From is its uevent's, because
// udev did its work somewhere between, or Open where that was not seen.
func (s *Source) Run(ctx context.Context, emit func(event.Event)) error {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		s.interrupt()
	})
	defer func() {
		if !stop() {
			<-interrupted // it writes to what Close closes
		}
	}()
	s.setEmit(emit)
	defer s.setEmit(nil)
	for ctx.Err() == nil {
		if err := s.drainLocked(ctx, emit); err != nil {
			return err
		}
		// Whoever was woken by what was passed on goes first. Where the program
		// has one processor, it would otherwise stay with this goroutine's
		// system call until the runtime looks for it, 10 ms later.
		runtime.Gosched()
		if err := s.wait(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Source) setEmit(emit func(event.Event)) {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.emit = emit
}

func (s *Source) drainLocked(ctx context.Context, emit func(event.Event)) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	return s.drainAll(ctx, emit)
}

// CatchUp reads what has been queued so far, in the caller's goroutine: when it
// returns, Run's emit has been called for everything that the kernel announced
// before. It does nothing where Run does not run. Emit must not call it.
func (s *Source) CatchUp(ctx context.Context) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.emit == nil {
		return nil
	}
	return s.drainAll(ctx, s.emit)
}

// drainAll reads the notices of stored records first and passes them on last:
// what was announced before a record was stored is known by then.
func (s *Source) drainAll(ctx context.Context, emit func(event.Event)) error {
	var stored []event.Dev
	if s.stores != nil {
		var err error
		if stored, err = s.stores.read(); err != nil {
			s.log.Warn("udev's records are noticed late", "error", err)
		}
	}
	if err := s.drain(ctx, emit); err != nil {
		return err
	}
	for _, dev := range stored {
		s.options.Stored(dev)
	}
	return nil
}

// FollowStores begins or ends the calls of Options.Stored, which must be set.
// Not to follow what nobody waits for saves a wake-up for each device of the
// host.
func (s *Source) FollowStores(on bool) error {
	if s.stores == nil {
		return nil
	}
	return s.stores.want(on)
}

func (s *Source) interrupt() {
	if _, err := unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		s.log.Error("cannot wake the reader of uevents", "error", err)
	}
}

// wait returns when a socket has something, or Run is to end.
func (s *Source) wait() error {
	fds := []unix.PollFd{
		{Fd: int32(s.kernel.conn.Fd), Events: unix.POLLIN},
		{Fd: int32(s.udev.conn.Fd), Events: unix.POLLIN},
		{Fd: int32(s.wake), Events: unix.POLLIN},
		{Fd: -1, Events: unix.POLLIN}, // ignored
	}
	if s.stores != nil {
		fds[3].Fd = int32(s.stores.fd)
	}
	if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for uevents: %w", err)
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	now := event.Now()
	s.kernel.since, s.udev.since = now, now
	return nil
}

// drain reads both sockets until they are empty. The kernel's socket is emptied
// after each udev message and before that is passed on: the kernel has queued
// a uevent here before udev could answer it, so a pair is never turned around.
func (s *Source) drain(ctx context.Context, emit func(event.Event)) error {
	for ctx.Err() == nil {
		if err := s.drainKernel(ctx, emit); err != nil {
			return err
		}
		message, err := s.next(s.udev, emit)
		if message == nil || err != nil {
			return err
		}
		if err := s.drainKernel(ctx, emit); err != nil {
			return err
		}
		s.handleUdev(message, emit)
	}
	return nil
}

func (s *Source) drainKernel(ctx context.Context, emit func(event.Event)) error {
	for ctx.Err() == nil {
		message, err := s.next(s.kernel, emit)
		if message == nil || err != nil {
			return err
		}
		s.handleKernel(message, emit)
	}
	return nil
}

// next returns the next message that can be used, nil where there is none now.
func (s *Source) next(from *socket, emit func(event.Event)) ([]byte, error) {
	for {
		last, before := from.last, event.Now()
		message, err := from.receive()
		switch {
		case err == nil:
			return message, nil
		case errors.Is(err, unix.EAGAIN):
			from.since, from.empty = event.Now(), before
			s.endOverrun(from, emit)
			return nil, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			if from.overrun == 0 {
				from.overrun = last
			}
		case errors.Is(err, errForeign):
			s.count.foreign.Add(1)
			s.log.Debug("ignored a message", "source", from.source, "reason", err)
		case errors.Is(err, errTruncated):
			s.unusable(from, err, emit)
		default:
			return nil, fmt.Errorf("read %s messages: %w", from.source, err)
		}
	}
}

// endOverrun reports a loss once the queue is empty. The kernel says ENOBUFS
// once, before it hands out what was queued earlier, and then drops everything
// until the queue has been emptied (NETLINK_S_CONGESTED): only here is the
// loss over, and a snapshot sees all that was missed.
func (s *Source) endOverrun(from *socket, emit func(event.Event)) {
	if from.overrun == 0 {
		return
	}
	lost := from.newDrops()
	s.count.overruns.Add(1)
	s.count.lost.Add(lost)
	s.log.Warn("messages were lost: the receive queue was full", "source", from.source, "count", lost)
	emit(event.Event{
		Kind: event.Loss, Src: from.source, From: from.overrun, At: event.Now(),
		Loss: &event.LossInfo{Source: from.source, What: from.source, Count: lost, Why: "the receive queue was full (ENOBUFS)"},
	})
	from.overrun = 0
	if s.options.Resync != nil {
		s.options.Resync()
	}
}

// unusable reports a message that cannot be read.
func (s *Source) unusable(from *socket, why error, emit func(event.Event)) {
	s.count.unparsable.Add(1)
	s.log.Warn("cannot read a message", "source", from.source, "error", why)
	emit(event.Event{
		Kind: event.Loss, Src: from.source, From: from.empty, At: event.Now(),
		Loss: &event.LossInfo{Source: from.source, What: from.source, Count: 1, Why: why.Error()},
	})
}

func (s *Source) handleKernel(message []byte, emit func(event.Event)) {
	s.count.kernel.Add(1)
	at := s.kernel.last
	parsed, err := parseKernel(message)
	var dev *event.DevInfo
	if err == nil {
		dev, err = deviceInfo(parsed, s.clock)
	}
	if err != nil {
		if mayMatter(message) {
			s.unusable(s.kernel, err, emit)
		}
		return
	}
	if !wanted(dev) {
		return
	}
	dev.Since = s.kernel.empty
	e := event.Event{Kind: event.Uevent, Src: KernelSource, From: s.kernel.since, At: at, Dev: dev}
	s.pairs.put(dev.Seq, e.Earliest(), dev.Since)
	s.attributes(dev)
	emit(e)
}

// attributes adds what sysfs has of a device right now.
func (s *Source) attributes(dev *event.DevInfo) {
	if s.sysfs == nil || dev.Subsystem != "block" {
		return
	}
	if err := s.sysfs.Fill(dev); err != nil {
		s.log.Debug("a device is recorded without its attributes", "error", err)
	}
}

func (s *Source) handleUdev(message []byte, emit func(event.Event)) {
	s.count.udev.Add(1)
	at := event.Now()
	parsed, err := parseUdev(message)
	var dev *event.DevInfo
	if err == nil {
		dev, err = deviceInfo(parsed, s.clock)
	}
	if err != nil {
		if mayMatter(message) {
			s.unusable(s.udev, err, emit)
		}
		return
	}
	if dev.Subsystem != "block" {
		return
	}
	var from event.Time
	if from, dev.Since = s.pairs.get(dev.Seq); from == 0 {
		from = s.opened
	}
	s.attributes(dev)
	emit(event.Event{Kind: event.Udev, Src: UdevSource, From: from, At: at, Dev: dev})
}

// mayMatter tells whether a message that could not be parsed may have been
// about a block device.
func mayMatter(message []byte) bool {
	return bytes.Contains(message, []byte("\x00SUBSYSTEM=block\x00")) ||
		!bytes.Contains(message, []byte("SUBSYSTEM="))
}
