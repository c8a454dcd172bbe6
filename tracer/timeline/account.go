package timeline

import (
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
)

// accounts explains why a mapping was ready no sooner than it was.
type accounts struct {
	disks map[event.Dev]*diskFact
	names *symbols
	h     *history
}

// StepDisk is the step of an Account at which the last device beneath the
// mapping appeared.
const StepDisk = "disk"

// of follows l from the last device beneath it to ready: each step lasts from
// the one before. Steps that were not seen are part of the next one.
func (a *accounts) of(l *life, ready stamp) *Account {
	out := &Account{}
	now := event.Time(0)
	add := func(kind, detail string, s stamp) {
		if s.at < now || s.orBefore {
			return
		}
		out.Steps = append(out.Steps, AccountStep{Kind: kind, Detail: detail, From: now, To: s.at, Event: s.id})
		now = s.at
	}
	if d := a.beneath(l, map[*life]bool{}); d != nil {
		add(StepDisk, "/dev/"+a.names.get(d.name), d.first)
	}
	for _, s := range l.out.Steps {
		if s.At >= ready.at {
			break
		}
		if a.counts(l, &s) {
			add(s.Kind, s.Detail, stamp{from: s.From, at: s.At, id: s.Event, orBefore: s.OrBefore})
		}
	}
	kind, detail := a.last(l, ready)
	add(kind, detail, ready)
	for i, s := range out.Steps {
		if s.To-s.From > out.Steps[out.Longest].To-out.Steps[out.Longest].From {
			out.Longest = i
		}
	}
	if len(out.Steps) == 0 {
		return nil
	}
	return out
}

// counts picks the steps on the way to readiness.
func (a *accounts) counts(l *life, s *Step) bool {
	switch s.Kind {
	case StepCreated, StepLoaded, StepLive:
		return true
	case StepUevent:
		return s.Detail == "change" && l.live != nil && s.At >= l.live.from
	}
	return false
}

// last names the step that completed the readiness.
func (a *accounts) last(l *life, ready stamp) (kind, detail string) {
	for _, s := range l.out.Steps {
		if s.Event == ready.id && s.At == ready.at && s.Kind != StepReady {
			return s.Kind, s.Detail
		}
	}
	return StepReady, ""
}

// beneath returns the device at the bottom of l's table that came last, if it
// came before l was created.
func (a *accounts) beneath(l *life, seen map[*life]bool) *diskFact {
	if seen[l] {
		return nil // a table cannot lead to itself, a broken log can
	}
	seen[l] = true
	var last *diskFact
	for _, dev := range tableDevices(l.out.Table) {
		d := a.disks[dev]
		if under := a.h.lifeByMinor(dev.Minor, l.start); d == nil && under != nil && under.out.Dev == dev {
			d = a.beneath(under, seen)
		}
		if d != nil && (last == nil || d.first.compare(&last.first) > 0) {
			last = d
		}
	}
	return last
}

// tableDevices returns the devices that the lines of a table name: each target
// writes them as MAJOR:MINOR.
func tableDevices(table []string) []event.Dev {
	var out []event.Dev
	for _, line := range table {
		fields := strings.Fields(line)
		for _, field := range fields[min(3, len(fields)):] {
			major, minor, ok := strings.Cut(field, ":")
			if !ok {
				continue
			}
			ma, err1 := strconv.ParseUint(major, 10, 32)
			mi, err2 := strconv.ParseUint(minor, 10, 32)
			if err1 == nil && err2 == nil {
				out = append(out, event.Dev{Major: uint32(ma), Minor: uint32(mi)})
			}
		}
	}
	return out
}
