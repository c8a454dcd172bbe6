// Package tracks lays a timeline out the way that trace viewers want it: tracks
// of slices that never overlap, and instants. The formats for such viewers
// (packages perfetto and chrome) write the same tracks.
package tracks

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// The groups, in the order in which viewers show them.
const (
	GroupRecord   = "bootrace"
	GroupGuests   = "guests"
	GroupMappings = "device-mapper"
	GroupDevices  = "block devices" // all others
	GroupMounts   = "mounts"
	GroupUdev     = "udev"
)

// Track is one line of a viewer.
type Track struct {
	Group string
	Name  string
	// Slices are ordered by time, and each ends before the next begins.
	Slices []Slice
	// Instants are ordered by time.
	Instants []Instant
}

// Slice is something that took time.
type Slice struct {
	Name     string
	From, To event.Time
	Args     []Arg
	Flows    []uint64
}

// Instant is something that happened.
type Instant struct {
	Name  string
	At    event.Time
	Args  []Arg
	Flows []uint64
}

// Arg is a fact about either, for people: what is foreign in it is cleaned.
type Arg struct{ Name, Value string }

// Of returns the tracks of tl.
//
// A viewer shows as many guests as there is room for; a track says what was left
// out.
func Of(tl *timeline.Timeline) []Track {
	tl, left := tl.Most(words.MaxGuests)
	b := &builder{tl: tl, end: end(tl), teller: &words.Teller{Signs: words.Unicode, Name: name}, flows: make(map[flowKey][]uint64)}
	b.record()
	if said := b.teller.LeftOut(left); len(said.Words) > 0 {
		b.add(GroupRecord, "left out", nil, []Instant{{Name: said.String(), At: bound(tl.First)}})
	}
	for _, g := range tl.Guests {
		b.guest(g)
	}
	for _, m := range tl.Mappings {
		b.mapping(m)
	}
	for _, m := range tl.Mappings {
		b.udev(m)
	}
	return b.tracks
}

// name makes foreign text fit for a viewer.
func name(s string, _ int) string { return words.Clean(words.Bounded(s)) }

func clean(s string) string { return name(s, 0) }

// end is where what has not ended is cut: the end of the record.
func end(tl *timeline.Timeline) event.Time {
	last := bound(tl.Last)
	for _, g := range tl.Guests {
		last = max(last, bound(g.Exec.At))
	}
	return last
}

// bound keeps the times of a damaged log within what can be added up.
func bound(t event.Time) event.Time { return min(max(t, 0), 1<<60) }

type builder struct {
	tl     *timeline.Timeline
	end    event.Time
	teller *words.Teller
	tracks []Track
	// flows are those that end where a mapping got ready.
	flows  map[flowKey][]uint64
	flowID uint64
}

// flowKey names the moment at which a mapping got ready.
type flowKey struct {
	mapping string
	at      event.Time
}

// add adds a track, and further ones of its name for slices that overlap.
func (b *builder) add(group, name string, parts []Slice, instants []Instant) {
	slices.SortStableFunc(parts, func(a, c Slice) int { return cmp.Compare(a.From, c.From) })
	slices.SortStableFunc(instants, func(a, c Instant) int { return cmp.Compare(a.At, c.At) })
	rows := spread(parts)
	if len(rows) == 0 && len(instants) > 0 {
		rows = [][]Slice{nil}
	}
	for i, row := range rows {
		t := Track{Group: group, Name: name, Slices: row}
		if i == 0 {
			t.Instants = instants
		} else {
			t.Name += " (" + strconv.Itoa(i+1) + ")"
		}
		b.tracks = append(b.tracks, t)
	}
}

// spread puts sorted slices into as few rows as hold them without overlap.
func spread(parts []Slice) [][]Slice {
	var rows [][]Slice
	for _, s := range parts {
		s.To = max(s.To, s.From)
		i := slices.IndexFunc(rows, func(row []Slice) bool { return row[len(row)-1].To <= s.From })
		if i < 0 {
			rows = append(rows, []Slice{s})
		} else {
			rows[i] = append(rows[i], s)
		}
	}
	return rows
}

// record is what bootrace has to say: the findings, its own life, its gaps.
func (b *builder) record() {
	var findings []Instant
	for _, f := range b.tl.Findings {
		what, why := b.teller.What(f), b.teller.Why(f, true)
		args := []Arg{{"what", what.String()}, {"guest", clean(f.Guest)}, {"disk", clean(f.Disk)}}
		args = optional(args, "why", why.String())
		args = optional(args, "no_verdict", clean(f.Withheld))
		args = append(args, Arg{"race", strconv.FormatBool(f.Race && f.Withheld == "")})
		findings = append(findings, Instant{Name: clean(f.Kind) + ": " + clean(f.Guest), At: bound(f.At), Args: append(args, evidence(f.Evidence)...)})
	}
	b.add(GroupRecord, "findings", nil, findings)
	var gaps []Slice
	for _, g := range b.tl.Incomplete {
		gaps = append(gaps, Slice{Name: "record not complete", From: bound(g.From), To: min(bound(max(g.To, g.From)), max(b.end, bound(g.From))),
			Args: []Arg{{"what", clean(g.What)}, {"why", clean(g.Why)}}})
	}
	b.add(GroupRecord, "record", gaps, b.service())
}

// service is bootrace's own life.
func (b *builder) service() []Instant {
	var list []Instant
	for _, m := range b.tl.Marks {
		list = append(list, Instant{Name: clean(m.Name), At: bound(m.At), Args: optional(nil, "text", clean(m.Text))})
	}
	for _, s := range b.tl.Sources {
		list = append(list, Instant{Name: "source " + clean(s.Name) + " attached", At: bound(s.Attached)})
	}
	for _, l := range b.tl.Losses {
		args := []Arg{{"source", clean(l.Source)}, {"what", clean(l.What)}}
		if l.Count > 0 {
			args = append(args, Arg{"count", strconv.FormatUint(l.Count, 10)})
		}
		list = append(list, Instant{Name: "events lost", At: bound(l.At), Args: optional(args, "why", clean(l.Why))})
	}
	return list
}

func optional(args []Arg, name, value string) []Arg {
	if value == "" {
		return args
	}
	return append(args, Arg{name, value})
}

func evidence(ids []uint64) []Arg {
	events := make([]string, len(ids))
	for i, id := range ids {
		events[i] = strconv.FormatUint(id, 10)
	}
	return optional(nil, "events", strings.Join(events, " "))
}

// ofInstant are the facts about an instant itself.
func ofInstant(i *timeline.Instant) []Arg {
	var args []Arg
	if i.Event != 0 {
		args = append(args, Arg{"event", strconv.FormatUint(i.Event, 10)})
	}
	switch {
	case i.OrBefore:
		args = append(args, Arg{"or_before", "true"})
	case i.From < i.At:
		args = append(args, Arg{"not_before_ns", strconv.FormatInt(int64(i.From), 10)})
	}
	return args
}
