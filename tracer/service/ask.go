package service

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/lvm"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// asker decides when LVM is asked about the volumes that somebody looked for in
// vain. Never while the host is busy coming up: what it would say does not
// change, and every look at the disks is in somebody's way. Where nobody looked
// in vain, LVM is not asked at all.
type asker struct {
	mu      sync.Mutex
	known   map[lvm.Volume]bool // asked about, or to be
	of      map[uint32]int      // how many of them were looked for by each user other than root first
	pending []lvm.Volume
	since   event.Time // of the first that is pending
	touched event.Time // when device-mapper was last changed
	asking  bool
	tries   map[lvm.Volume]int // how often LVM gave no answer
}

// maxVolumes bounds what is asked about in one boot, maxVolumesOfUser what a user
// other than root looked for first: else one could have LVM asked about nothing but
// what he made up.
const (
	maxVolumes       = 4096
	maxVolumesOfUser = maxVolumes / 8
)

// patience is how many times the usual delay LVM is asked after at the latest,
// on a host where mappings are made all the time.
const patience = 10

// observe notes what is looked for in vain.
func (a *asker) observe(e *event.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch e.Kind {
	case event.DMCreate, event.DMResume, event.DMRemove:
		a.touched = max(a.touched, e.At)
	case event.Open:
		v, ok := vainly(e)
		if !ok || a.known[v] || len(a.known) >= maxVolumes {
			return
		}
		uid := event.UserOf(e.Proc.UID)
		if uid != 0 && a.of[uid] >= maxVolumesOfUser {
			return
		}
		if a.known == nil {
			a.known, a.of = map[lvm.Volume]bool{}, map[uint32]int{}
		}
		a.of[uid]++
		a.known[v] = true
		if len(a.pending) == 0 {
			a.since = e.At
		}
		a.pending = append(a.pending, v)
	}
}

// vainly returns the volume that an open was meant for, if it failed because
// that was not there.
func vainly(e *event.Event) (v lvm.Volume, ok bool) {
	switch unix.Errno(e.Open.Errno) {
	case unix.ENOENT, unix.ENXIO, unix.ENODEV:
	default:
		return v, false
	}
	if e.Proc == nil || timeline.Housekeeper(e.Proc) {
		return v, false
	}
	v.VG, v.LV, ok = devmap.Volume(e.Open.Path)
	return v, ok
}

// due returns the volumes to ask about now, none if it is not the time. after is
// how long the first has to have been missed, and device-mapper to have been
// quiet.
func (a *asker) due(now event.Time, after event.Duration) []lvm.Volume {
	a.mu.Lock()
	defer a.mu.Unlock()
	waited := now.Sub(a.since)
	if a.asking || after == 0 || len(a.pending) == 0 || waited < after {
		return nil
	}
	if now.Sub(a.touched) < after && waited < patience*after {
		return nil
	}
	volumes := a.pending
	a.pending, a.asking = nil, true
	return volumes
}

// maxTries is how often LVM is asked about a volume: one that waits for a dead
// disk does not answer.
const maxTries = 3

// done ends the asking; unanswered are to be asked about again later.
func (a *asker) done(now event.Time, unanswered []lvm.Volume) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asking = false
	if a.tries == nil {
		a.tries = map[lvm.Volume]int{}
	}
	for _, v := range unanswered {
		if a.tries[v]++; a.tries[v] < maxTries {
			a.pending, a.since = append(a.pending, v), now
		}
	}
}

// askLVM records what LVM says of volumes that somebody looked for in vain, if
// it is the time.
func (s *Service) askLVM(ctx context.Context) {
	if s.isEarly() {
		return // the initramfs has other things to do, and another lvm.conf
	}
	volumes := s.asker.due(event.Now(), s.config().AskLVMAfter)
	if len(volumes) == 0 {
		return
	}
	go func() {
		var unanswered []lvm.Volume
		defer func() { s.asker.done(event.Now(), unanswered) }()
		from := event.Now()
		answers := lvm.Ask(ctx, lvm.Command{}, volumes)
		for i := range answers {
			s.rec.Record(event.Event{At: event.Now(), From: from, Kind: event.LVM, Src: "lvm", LVM: &answers[i]})
			if a := &answers[i]; a.Why != "" && a.LV != "" {
				unanswered = append(unanswered, lvm.Volume{VG: a.VG, LV: a.LV})
			}
		}
		s.log.Info("asked LVM about volumes that were looked for in vain", "volumes", len(volumes), "took", event.Now().Sub(from))
	}()
}
