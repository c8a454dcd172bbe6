package service

import (
	"sync/atomic"
	"time"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/event"
)

// settling finds out when the boot has settled: nothing that a timeline is
// about has happened for a while. What starts later makes it settle once more.
type settling struct {
	active atomic.Int64 // when something last happened
	since  event.Time   // when the first thing did after it last settled, 0: nothing has
	last   atomic.Int64 // when it last settled, 0: not yet
	times  int64
}

// isActivity tells what a boot consists of from what goes on all the time.
func isActivity(e *event.Event) bool {
	switch e.Kind {
	case event.Exec, event.Exit, event.Hold, event.Release,
		event.DMCreate, event.DMLoad, event.DMResume, event.DMRemove, event.DMRename:
		return true
	case event.Open:
		return e.Open != nil && e.Open.Errno != 0
	}
	return false
}

func (s *settling) observe(e *event.Event) {
	if isActivity(e) {
		s.active.Store(max(s.active.Load(), int64(e.At)))
	}
}

// settleEvery is how often the service looks whether the boot has settled.
const settleEvery = 2 * time.Second

// Limits of settling.
const (
	mostActive = 10 // times the quiet: a guest that starts over and over must not keep it back
	maxBetween = time.Hour
)

// settled reports whether the boot has settled, now that it is now. Late starts
// settle the less often the more there were: each time the whole boot is looked
// at once more.
func (s *settling) settled(now event.Time, quiet time.Duration, clockTrusted bool) bool {
	active, last := event.Time(s.active.Load()), event.Time(s.last.Load())
	if last != 0 && active <= last {
		return false
	}
	if s.since == 0 {
		s.since = now
	}
	calm := now.Sub(active) >= quiet && clockTrusted
	if !calm && now.Sub(s.since) < mostActive*quiet {
		return false
	}
	if between := min(time.Duration(s.times)*quiet, maxBetween); last != 0 && now.Sub(last) < between {
		return false
	}
	s.times++
	s.since = 0
	s.last.Store(int64(now))
	return true
}

// settle records that the boot has settled, once it has. The first time it also
// records which boot came before, so that a boot is known without the others.
func (s *Service) settle() {
	if s.isEarly() || !s.settling.settled(event.Now(), s.config().Export.Settle, event.ClockSynchronized()) {
		return
	}
	if s.settling.times == 1 {
		s.recordClock()
		if before := s.previousBoot(); before != "" {
			s.rec.Record(mark(event.MarkPrevious, before))
		}
	}
	s.rec.Record(mark(event.MarkSettled, ""))
}

// previousBoot is the id of the boot before this one, as far as it is recorded.
func (s *Service) previousBoot() string {
	store := bootlog.Store{Dirs: []string{s.opts.StateDir, s.opts.RunDir}, Current: s.bootID}
	boots, err := store.List()
	if err != nil {
		s.log.Warn("the boot before is not known", "error", err)
		return ""
	}
	for i := range boots {
		if !boots[i].Current {
			return boots[i].ID
		}
	}
	return ""
}
