package tracks

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// mapping is a track of the states that a mapping went through.
func (b *builder) mapping(m *timeline.Mapping) {
	var states []Slice
	var steps []Instant
	for _, l := range m.Lives {
		states = append(states, b.states(m, l)...)
		steps = append(steps, b.steps(m, l)...)
	}
	b.add(groupOf(m), clean(m.Name), states, steps)
}

func groupOf(m *timeline.Mapping) string {
	switch m.Kind {
	case blockdev.Mapping:
		return GroupMappings
	case timeline.KindMount:
		return GroupMounts
	}
	return GroupDevices
}

// change is where a mapping's state became another.
type change struct {
	at    event.Time
	state string // empty: gone
	args  []Arg
}

func (b *builder) states(m *timeline.Mapping, l *timeline.Life) []Slice {
	changes := changesOf(m, l)
	var list []Slice
	for i, c := range changes {
		to := max(b.end, c.at)
		if i+1 < len(changes) {
			to = changes[i+1].at
		}
		if c.state == "" || to == c.at && i+1 < len(changes) {
			continue // superseded at once
		}
		s := Slice{Name: c.state, From: c.at, To: to, Args: c.args}
		s.Args = optional(s.Args, "uuid", clean(m.UUID))
		if !l.Dev.IsZero() {
			s.Args = append(s.Args, Arg{"dev", strconv.Itoa(int(l.Dev.Major)) + ":" + strconv.Itoa(int(l.Dev.Minor))})
		}
		list = append(list, s)
	}
	return list
}

// stateNames are the steps that change a device's state.
var stateNames = map[string]string{
	timeline.StepMounted: "mounted",
	timeline.StepCreated: "created, no table",
	timeline.StepLoaded:  "table loaded, not live",
	timeline.StepLive:    "live",
	timeline.StepResumed: "live",
	timeline.StepSuspend: "suspended",
	timeline.StepReady:   "ready",
	timeline.StepRemoved: "",
}

func changesOf(m *timeline.Mapping, l *timeline.Life) []change {
	var list []change
	live, ready := false, false
	for i := range l.Steps {
		s := &l.Steps[i]
		state, ok := stateNames[s.Kind]
		switch {
		case s.Kind == timeline.StepCreated && m.Kind != blockdev.Mapping:
			state = "there, not usable"
		case s.Kind == timeline.StepFound:
			state, ok = cmp.Or(clean(s.State), "found"), true
			live = s.State == timeline.StepLive
		case s.Kind == timeline.StepLoaded && live:
			ok = false // the table of before stays
		case s.Kind == timeline.StepReady:
			ready = true
		case s.Kind == timeline.StepLive, s.Kind == timeline.StepResumed:
			live = true
			if ready {
				state = "ready"
			}
		}
		if ok {
			list = append(list, change{bound(s.At), state, stepArgs(s)})
		}
	}
	return slices.CompactFunc(list, func(a, c change) bool { return a.state == c.state })
}

// steps are the instants of a mapping: all that is no state, and the moments
// at which guests could have opened it.
func (b *builder) steps(m *timeline.Mapping, l *timeline.Life) []Instant {
	var list []Instant
	for i := range l.Steps {
		s := &l.Steps[i]
		if _, ok := stateNames[s.Kind]; ok || s.Kind == timeline.StepUdev || s.Kind == timeline.StepFound {
			continue
		}
		list = append(list, Instant{Name: label(s), At: bound(s.At), Args: stepArgs(s)})
	}
	told := make(map[event.Time]bool)
	for i := range l.Paths {
		p := &l.Paths[i]
		if p.Ready == nil {
			continue
		}
		flows := b.flows[flowKey{m.ID, p.Ready.At}]
		if len(flows) == 0 || told[p.Ready.At] {
			continue
		}
		told[p.Ready.At] = true
		list = append(list, Instant{Name: "ready by " + clean(p.Path), At: bound(p.Ready.At), Args: ofInstant(p.Ready), Flows: flows})
	}
	return list
}

func label(s *timeline.Step) string {
	text := clean(s.Kind)
	if s.Detail != "" {
		text += " " + clean(s.Detail)
	}
	return text
}

func stepArgs(s *timeline.Step) []Arg {
	args := ofInstant(&s.Instant)
	args = optional(args, "detail", clean(s.Detail))
	if s.Errno != 0 {
		args = append(args, Arg{"errno", strconv.Itoa(s.Errno)})
	}
	if s.By != nil {
		args = append(args, Arg{"by", clean(cmp.Or(strings.Join(s.By.Args, " "), s.By.Comm))}, Arg{"by_pid", strconv.Itoa(s.By.PID)})
	}
	return args
}

// udev is a track of what udev did with a mapping: from the kernel's
// announcement until udev had finished with that.
func (b *builder) udev(m *timeline.Mapping) {
	var list []Slice
	for _, l := range m.Lives {
		for i := range l.Steps {
			if s := &l.Steps[i]; s.Kind == timeline.StepUdev {
				list = append(list, Slice{Name: "handles " + clean(s.Detail), From: bound(s.From), To: bound(s.At), Args: ofInstant(&timeline.Instant{At: s.At, From: s.At, Event: s.Event})})
			}
		}
	}
	b.add(GroupUdev, clean(m.Name), list, nil)
}
