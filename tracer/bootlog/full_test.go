package bootlog

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
)

// activations are events that only the host can cause: no part of the log bounds them.
func activations(n int) []event.Event {
	list := opens(n)
	for i := range list {
		list[i].Kind, list[i].Open = event.DMCreate, nil
		list[i].DM = &event.DMInfo{Name: fmt.Sprintf("vg-volume%d", i)}
	}
	return list
}

// fillLog appends copies of events and returns how many were stored.
func fillLog(w *Writer, events []event.Event) (kept int) {
	for _, e := range events {
		e.ID = 0
		if w.Append(&e); e.ID > 0 {
			kept++
		}
	}
	return kept
}

func sizeOf(t *testing.T, f folders) int64 {
	t.Helper()
	info, err := os.Stat(f.paths()[0])
	check(t, err)
	return info.Size()
}

func TestMaxSize(t *testing.T) {
	const limit = 64 << 10
	f := newFolders(t)
	o := f.options(nil)
	o.MaxSize = limit
	w := newWriter(t, o)
	events := activations(1000)
	kept := fillLog(w, events)
	if kept == 0 || kept == len(events) || w.Dropped() != uint64(len(events)-kept) {
		t.Fatalf("%d kept, %d dropped", kept, w.Dropped())
	}
	if full := new(FullError); !errors.As(w.Err(), &full) || full.MaxSize != limit || !strings.Contains(full.Error(), "64 KiB: raise max-log-size") {
		t.Errorf("err %v", w.Err())
	}
	check(t, w.Sync(t.Context()))
	// A power cut now must not leave a log that looks whole.
	before := f.read(t)
	if first := before.events[kept]; len(before.events) != kept+1 || first.Kind != event.Loss || first.From != events[kept].From || first.Loss.Count != 0 {
		t.Errorf("before the end: %d events, %+v", len(before.events), first)
	}
	check(t, w.MoveTo(t.Context(), f.durable))
	fillLog(w, events[:1])
	check(t, w.Close())

	got := f.read(t)
	wantEvents(t, got.events[:kept], events[:kept])
	last := got.events[len(got.events)-1]
	if len(got.events) != kept+2 || last.Loss.Count != uint64(len(events)-kept+1) || last.From != events[0].From || last.At != events[999].At ||
		!strings.Contains(last.Loss.Why, "limit of 64 KiB") {
		t.Errorf("%d events, the last %+v %+v", len(got.events), last, last.Loss)
	}
	if size := sizeOf(t, f); size > limit || size < limit-2*reserve {
		t.Errorf("%d bytes, of at most %d", size, limit)
	}
}

// A service that is restarted again and again must not pass the limit either.
func TestMaxSizeOverRestarts(t *testing.T) {
	const limit = 20 << 10
	f := newFolders(t)
	o := f.options(nil)
	o.MaxSize = limit
	for range 30 {
		w, err := NewWriter(o)
		check(t, err)
		fillLog(w, activations(100))
		check(t, w.Close())
	}
	if size := sizeOf(t, f); size > limit {
		t.Errorf("%d bytes, of at most %d", size, limit)
	}
	if got := f.read(t); len(got.damage) > 0 || len(got.losses) > 0 {
		t.Errorf("damage %v, losses %v", got.damage, got.losses)
	}
}

func TestSetMaxSize(t *testing.T) {
	f := newFolders(t)
	o := f.options(nil)
	o.MaxSize = 20 << 10
	w := newWriter(t, o)
	kept := fillLog(w, activations(200))
	w.SetMaxSize(0)
	if w.Err() != nil {
		t.Errorf("err %v", w.Err())
	}
	last := openEvent(201)
	w.Append(&last)
	check(t, w.Close())
	got := f.read(t)
	// The loss stands where it happened, then the log goes on.
	if n := len(got.events); n != kept+3 || got.events[n-2].Loss.Count != uint64(200-kept) || got.events[n-1].Kind != event.Open {
		t.Errorf("%d kept, %d events", kept, n)
	}
}
