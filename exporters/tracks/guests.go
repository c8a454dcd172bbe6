package tracks

import (
	"cmp"
	"strconv"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// guest is a track of its process with its opens, and one of its holds.
func (b *builder) guest(g *timeline.Guest) {
	label := clean(cmp.Or(g.Name, g.Identity, g.UUID, "pid "+strconv.Itoa(g.PID)))
	b.add(GroupGuests, label, []Slice{b.run(g)}, b.opens(g))
	var holds []Slice
	for i := range g.Holds {
		holds = append(holds, b.hold(&g.Holds[i]))
	}
	b.add(GroupGuests, label+": start held", holds, nil)
}

func (b *builder) run(g *timeline.Guest) Slice {
	s := Slice{Name: "runs", From: bound(g.Exec.At), To: max(b.end, bound(g.Exec.At)), Args: []Arg{{"pid", strconv.Itoa(g.PID)}}}
	s.Args = optional(s.Args, "binary", clean(g.Binary))
	s.Args = optional(s.Args, "uuid", clean(g.UUID))
	s.Args = append(s.Args, ofInstant(&g.Exec)...)
	switch {
	case g.Backfilled:
		s.Name = "runs (before tracing began)"
	case g.Unstarted:
		s.Name, s.To = "never ran", s.From
	}
	if e := g.Exit; e != nil {
		s.To = bound(e.At)
		s.Args = append(s.Args, Arg{"exit_status", strconv.Itoa(e.Status)})
		if e.Signal != 0 {
			s.Args = append(s.Args, Arg{"exit_signal", strconv.Itoa(e.Signal)})
		}
	}
	return s
}

func (b *builder) hold(h *timeline.Hold) Slice {
	s := Slice{Name: "held", From: bound(h.At), To: max(b.end, bound(h.At)), Args: ofInstant(&h.Instant)}
	if h.Released != nil {
		s.To = bound(h.Released.At)
	} else {
		s.Name = "held, not released in this record"
	}
	s.Args = optional(s.Args, "reason", clean(string(h.Reason)))
	s.Args = optional(s.Args, "outcome", clean(string(h.Outcome)))
	for _, blocker := range h.Blockers {
		s.Args = append(s.Args, Arg{"waits_for", clean(blocker)})
	}
	return s
}

// opens are a guest's opens of its disks. Each is tied to the moment at which
// the mapping behind it got ready.
func (b *builder) opens(g *timeline.Guest) []Instant {
	var list []Instant
	for i := range g.Disks {
		d := &g.Disks[i]
		for j := range d.Uses {
			list = append(list, b.open(d, &d.Uses[j]))
		}
	}
	return list
}

func (b *builder) open(d *timeline.Disk, u *timeline.Use) Instant {
	i := Instant{Name: "open " + clean(d.Path), At: bound(u.At), Args: append([]Arg{{"path", clean(d.Path)}}, ofInstant(&u.Instant)...)}
	if u.Errno != 0 {
		i.Name = "open failed: " + clean(d.Path)
		i.Args = append(i.Args, Arg{"error", clean(cmp.Or(u.Error, strconv.Itoa(u.Errno)))})
	}
	i.Args = optional(i.Args, "backing_of", clean(d.BackingOf))
	if u.Margin != nil {
		i.Args = append(i.Args, Arg{"margin", b.teller.Margin(u.Margin, words.Plain).Long}, Arg{"margin_ns", strconv.FormatInt(int64(u.NS), 10)})
	}
	if u.Ready != nil && u.Mapping != "" {
		b.flowID++
		key := flowKey{u.Mapping, u.Ready.At}
		b.flows[key] = append(b.flows[key], b.flowID)
		i.Flows = []uint64{b.flowID}
	}
	return i
}
