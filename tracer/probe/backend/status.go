package backend

import (
	"slices"

	"github.com/bootrace/bootrace/tracer/event"
)

// The states of a source, as in event.SourceInfo.State.
const (
	Attached = "attached" // it sees what its abilities say
	Upgraded = "upgraded" // its abilities are other ones from now on
	Ended    = "ended"    // it sees nothing more
)

// Status is what a backend says of itself: its abilities, and the events with which
// it tells of them. Abilities change while Run is busy elsewhere (dm_mod is loaded),
// so what is to be told waits here until Run takes it. It has no lock of its own: the
// backend's guards it.
type Status struct {
	Source    string // the backend, as in event.Event.Src
	Abilities []event.Ability
	untold    []event.Event
}

// Info is the status in a state.
func (s *Status) Info(state string) event.SourceInfo {
	return event.SourceInfo{Name: s.Source, State: state, Abilities: slices.Clone(s.Abilities)}
}

// Event is the event that tells of a state that began between from and at; from 0: at
// the instant at.
func (s *Status) Event(state string, at, from event.Time) event.Event {
	info := s.Info(state)
	return event.Event{At: at, From: from, Kind: event.Source, Src: s.Source, Source: &info}
}

// Ability returns the ability of that name, which the backend has reported.
func (s *Status) Ability(name string) *event.Ability {
	return &s.Abilities[slices.IndexFunc(s.Abilities, func(a event.Ability) bool { return a.Name == name })]
}

// Tell leaves an event for Run to deliver.
func (s *Status) Tell(e event.Event) { s.untold = append(s.untold, e) }

// Upgrade leaves the event that the abilities are as they are from now on.
func (s *Status) Upgrade(now event.Time) { s.Tell(s.Event(Upgraded, now, 0)) }

// Take returns what is to be told, once.
func (s *Status) Take() []event.Event {
	untold := s.untold
	s.untold = nil
	return untold
}

// decisive are the abilities without which verdicts are not possible.
var decisive = []string{AbilityExec, AbilityExit, AbilityDM, AbilityOpen}

// NotSeen returns the names of what a backend with these abilities cannot see, empty if
// nothing that a verdict needs.
func NotSeen(abilities []event.Ability) []string {
	var missing []string
	for _, name := range decisive {
		if !slices.ContainsFunc(abilities, func(a event.Ability) bool { return a.Name == name && a.OK }) {
			missing = append(missing, name)
		}
	}
	return missing
}
