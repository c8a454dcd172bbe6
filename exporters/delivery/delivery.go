// Package delivery sends the recorded boots of a host to a receiver, each as
// soon as it has settled, whatever happens to the network, the receiver and the
// host in between.
//
// What is to be sent is made of the logs and put into a spool first; from there
// it is sent, and taken away only when the receiver has it. Notes on disk say
// what was made of each boot, so that nothing is made twice. The logs are the
// source: where the spool is full or its disk fails, a boot waits in its log.
//
// It is a process of its own and not a part of the service: the service traces
// and holds, and nothing about a network may come in its way.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/bootrace/bootrace/exporters/otlp"
	"github.com/bootrace/bootrace/exporters/spool"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Sender sends one request; otlp.Client is one.
type Sender interface {
	Send(context.Context, ptrace.Traces) error
}

// Record is a boot's log, opened, and what makes timelines of it.
type Record struct {
	*timeline.Builder
	Events iter.Seq2[event.Event, error]
	io.Closer
}

// Options say what is sent where.
type Options struct {
	// Store has the recorded boots.
	Store bootlog.Store
	// Settled returns when the running boot last settled; ok is false where
	// nobody can tell, so that the log has to be read.
	Settled func(context.Context) (at event.Time, ok bool)
	// Dir is for the spool, the notes and the status.
	Dir       string
	SpoolSize int64 // bytes
	Sender    Sender
	// Open opens a boot's log.
	Open func(*bootlog.Boot) (*Record, error)
	// Every is how often it looks for news; 0 means DefaultEvery. The first
	// time that sending fails it waits for Wait, 0 means DefaultWait, then
	// twice that, up to MaxWait.
	Every, Wait, MaxWait time.Duration
	Log                  *slog.Logger
}

// The times where Options gives none.
const (
	DefaultEvery   = 10 * time.Second
	DefaultWait    = time.Second
	DefaultMaxWait = 5 * time.Minute
)

// Delivery is one run.
type Delivery struct {
	opts   Options
	spool  *spool.Spool
	status Status
	saved  *Status // as it is in the file
	// current is what is known of the running boot: nothing has to be read as
	// long as that stays.
	current struct {
		boot    string
		settled event.Time
		size    int64
	}
	ended map[string]bool // boots of which all is made
	wait  time.Duration
	after time.Time // not to send before
}

// New prepares a delivery.
func New(opts Options) (*Delivery, error) {
	for given, def := range map[*time.Duration]time.Duration{&opts.Every: DefaultEvery, &opts.Wait: DefaultWait, &opts.MaxWait: DefaultMaxWait} {
		if *given == 0 {
			*given = def
		}
	}
	s, err := spool.Open(filepath.Join(opts.Dir, "spool"), opts.SpoolSize)
	if err != nil {
		return nil, err
	}
	d := &Delivery{opts: opts, spool: s, ended: map[string]bool{}}
	if old, err := ReadStatus(opts.Dir); err == nil {
		d.status.Sent, d.status.SentAt = old.Sent, old.SentAt
	}
	return d, nil
}

// Run delivers until ctx ends.
func (d *Delivery) Run(ctx context.Context) error {
	tick := time.NewTicker(min(d.opts.Every, time.Second))
	defer tick.Stop()
	var look time.Time
	for {
		now := time.Now()
		if !now.Before(look) {
			look = now.Add(d.opts.Every)
			d.note(d.makeAll(ctx))
		}
		if !now.Before(d.after) {
			if d.sendAll(ctx) {
				look = time.Time{} // there is room again
			}
		}
		d.saveStatus()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Once makes what there is to make, and tries once to send all.
func (d *Delivery) Once(ctx context.Context) error {
	err := d.makeAll(ctx)
	d.note(err)
	d.sendAll(ctx)
	d.saveStatus()
	return err
}

// note keeps an error for the status; nil means that making went well.
func (d *Delivery) note(err error) {
	if err == nil {
		d.status.MakeError = ""
		return
	}
	if d.status.MakeError != err.Error() {
		d.opts.Log.Error("a boot waits in its log", "error", err)
	}
	d.status.MakeError = err.Error()
}

// makeAll spools what is new of all boots, the oldest first. One that can't be
// read doesn't keep the others.
func (d *Delivery) makeAll(ctx context.Context) error {
	boots, err := d.opts.Store.List()
	if err != nil {
		return err
	}
	var errs []error
	recorded := map[string]bool{}
	for i := len(boots) - 1; i >= 0 && ctx.Err() == nil; i-- {
		boot := &boots[i]
		recorded[boot.ID] = true
		if d.ended[boot.ID] || boot.Current && !d.news(ctx, boot) {
			continue
		}
		if err := d.make(boot); err != nil {
			errs = append(errs, fmt.Errorf("boot %s: %w", boot.ID, err))
			d.current.boot = "" // look again
			if errors.Is(err, spool.ErrFull) {
				break // what is older goes first
			}
		}
	}
	if errs == nil && ctx.Err() == nil {
		d.forgetGone(recorded)
	}
	return errors.Join(errs...)
}

// news reports whether the running boot may have settled since it was last
// looked at. Reading its whole log each time would cost too much.
func (d *Delivery) news(ctx context.Context, boot *bootlog.Boot) bool {
	at, known := d.opts.Settled(ctx)
	same := d.current.boot == boot.ID && d.current.settled == at
	if !known {
		same = d.current.boot == boot.ID && d.current.size == boot.Size
	}
	d.current.boot, d.current.settled, d.current.size = boot.ID, at, boot.Size
	return !same && (!known || at != 0)
}

// make spools what is new of one boot.
func (d *Delivery) make(boot *bootlog.Boot) error {
	m, err := d.loadMade(boot.ID)
	var damaged *damagedError
	if errors.As(err, &damaged) {
		d.setAside(damaged.entry, err)
		m, err = d.loadMade(boot.ID)
	}
	if err != nil {
		return err
	}
	if m.Ended {
		d.ended[boot.ID] = true
		return nil
	}
	record, err := d.opts.Open(boot)
	if errors.Is(err, bootlog.ErrEmpty) && !boot.Current {
		return nil
	}
	if err != nil {
		return err
	}
	defer record.Close()
	for stand, err := range record.Stands(record.Events, false, m.Stands) {
		if err != nil {
			return err
		}
		if err := d.makeStand(boot.ID, m, stand); err != nil {
			return err
		}
	}
	if !boot.Current {
		m.Ended, d.ended[boot.ID] = true, true
		return d.saveMade(boot.ID, m)
	}
	return nil
}

func (d *Delivery) makeStand(boot string, m *made, stand timeline.Stand) error {
	first := m.memory.Wall == nil
	requests, err := otlp.Encode(stand, m.memory)
	if err != nil {
		return err
	}
	if first && m.memory.Wall != nil {
		// The clock must stay even if this ends in the middle of the spans.
		m.Wall = m.memory.Wall
		if err := d.saveMade(boot, &made{Wall: m.Wall, Stands: m.Stands, memory: &otlp.Memory{Wall: m.Wall}}); err != nil {
			return err
		}
	}
	var failed error
	for r := range requests {
		if failed == nil {
			failed = d.add(boot, r)
		}
		if failed != nil { // it is not made, then
			for id := range spanIDs(r) {
				delete(m.memory.Spans, id)
			}
		}
	}
	if failed == nil && !stand.Ended {
		m.Stands++
	}
	return errors.Join(failed, d.saveMade(boot, m))
}

func (d *Delivery) add(boot string, r ptrace.Traces) error {
	marshal := ptrace.ProtoMarshaler{}
	data, err := marshal.MarshalTraces(r)
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	return d.spool.Add(boot, data)
}

// sendAll sends what waits, until one fails. It reports whether any was sent.
func (d *Delivery) sendAll(ctx context.Context) (sent bool) {
	for _, e := range d.spool.Entries() {
		err := d.send(ctx, e)
		switch {
		case ctx.Err() != nil:
			return sent
		case err != nil:
			d.backOff(err)
			return sent
		}
		sent = true
		d.wait = 0
		d.status.SendError = ""
	}
	return sent
}

// send sends one entry. What will never be taken is set aside, which is no
// reason to wait.
func (d *Delivery) send(ctx context.Context, e spool.Entry) error {
	traces, err := d.read(e)
	var damaged *damagedError
	if errors.As(err, &damaged) {
		d.setAside(e, err)
		return nil
	}
	if err != nil {
		return err
	}
	err = d.opts.Sender.Send(ctx, traces)
	var refused *otlp.Error
	if errors.As(err, &refused) && refused.Final {
		d.setAside(e, err)
		return nil
	}
	if err != nil {
		return err
	}
	d.status.Sent += uint64(traces.SpanCount())
	d.status.SentAt = time.Now().UTC()
	return d.spool.Done(e)
}

func (d *Delivery) setAside(e spool.Entry, why error) {
	d.opts.Log.Error("a request is set aside", "boot", e.Boot, "entry", e.Number, "error", why)
	d.status.LastRefusal = why.Error()
	if err := d.spool.Refuse(e); err != nil {
		d.opts.Log.Error("a request is not set aside", "error", err)
	}
}

// backOff waits longer each time, and not at the same time as other hosts.
func (d *Delivery) backOff(err error) {
	if d.status.SendError != err.Error() {
		d.opts.Log.Warn("not sent yet", "error", err)
	}
	d.status.SendError, d.status.FailedAt = err.Error(), time.Now().UTC()
	d.wait = min(max(2*d.wait, d.opts.Wait), d.opts.MaxWait)
	pause := d.wait/2 + rand.N(d.wait/2+1)
	var refused *otlp.Error
	if errors.As(err, &refused) {
		pause = max(pause, refused.After)
	}
	d.after = time.Now().Add(pause)
}
