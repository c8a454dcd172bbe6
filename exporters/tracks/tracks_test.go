package tracks

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/bootrace/bootrace/exporters/internal/samples"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// check checks what viewers rely on.
func check(t *testing.T, list []Track) {
	t.Helper()
	for _, track := range list {
		var last event.Time
		for _, s := range track.Slices {
			if s.From < last || s.To < s.From {
				t.Errorf("%s, %s: %q from %d to %d, after one that ended at %d", track.Group, track.Name, s.Name, s.From, s.To, last)
			}
			last = s.To
		}
		if !slices.IsSortedFunc(track.Instants, func(a, b Instant) int { return int(a.At - b.At) }) {
			t.Errorf("%s, %s: instants are not in order", track.Group, track.Name)
		}
	}
}

func TestOf(t *testing.T) {
	for _, name := range []string{"demo", "held", "hostile", "incomplete", "kinds", "large", "empty", "verdicts", "neverstarted", "queue", "shrunk"} {
		t.Run(name, func(t *testing.T) {
			tl := samples.Load(t, name)
			list := Of(tl)
			check(t, list)
			findings, guests := 0, 0
			for _, track := range list {
				switch {
				case track.Group == GroupRecord && track.Name == "findings":
					findings = len(track.Instants)
				case track.Group == GroupGuests && len(track.Slices) == 1 && track.Slices[0].Name != "held":
					guests++
				}
			}
			if findings != len(tl.Findings) || guests < len(tl.Guests) {
				t.Errorf("%d findings and %d guests, want %d and %d", findings, guests, len(tl.Findings), len(tl.Guests))
			}
		})
	}
}

func find(t *testing.T, list []Track, group, name string) *Track {
	t.Helper()
	i := slices.IndexFunc(list, func(x Track) bool { return x.Group == group && x.Name == name })
	if i < 0 {
		t.Fatalf("there is no track %s, %s", group, name)
	}
	return &list[i]
}

// TestLate checks what the demo's late disk shows.
func TestLate(t *testing.T) {
	list := Of(samples.Load(t, "demo"))
	a := find(t, list, GroupMappings, "vg0-a")
	var states []string
	for _, s := range a.Slices {
		states = append(states, s.Name)
	}
	if !slices.Contains(states, "live") {
		t.Errorf("the states are %q", states)
	}
	guest := find(t, list, GroupGuests, "a")
	if guest.Slices[0].To != 14_228_000_000 {
		t.Errorf("the guest runs from %d to %d", guest.Slices[0].From, guest.Slices[0].To)
	}
	open := guest.Instants[0]
	if open.Name != "open failed: /dev/vg0/a" || len(open.Flows) != 1 {
		t.Fatalf("the open is %+v", open)
	}
	i := slices.IndexFunc(a.Instants, func(i Instant) bool { return slices.Contains(i.Flows, open.Flows[0]) })
	if i < 0 || a.Instants[i].At != 16_871_000_000 {
		t.Errorf("no arrow leads from the open to where the disk got ready: %+v", a.Instants)
	}
}

func TestHeld(t *testing.T) {
	held := find(t, Of(samples.Load(t, "held")), GroupGuests, "a: start held")
	if len(held.Slices) != 1 || held.Slices[0].To <= held.Slices[0].From {
		t.Errorf("the hold is %+v", held.Slices)
	}
}

func TestSpread(t *testing.T) {
	s := func(from, to event.Time) Slice { return Slice{From: from, To: to} }
	for name, c := range map[string]struct {
		in   []Slice
		rows int
	}{
		"none":          {nil, 0},
		"one after one": {[]Slice{s(1, 2), s(2, 3), s(3, 3), s(3, 9)}, 1},
		"overlap":       {[]Slice{s(1, 3), s(2, 4), s(3, 5), s(4, 5)}, 2},
		"nested":        {[]Slice{s(1, 9), s(2, 3), s(4, 5)}, 2},
		"backwards":     {[]Slice{s(5, 1), s(5, 6)}, 1},
	} {
		if got := spread(c.in); len(got) != c.rows {
			t.Errorf("%s: %d rows, want %d", name, len(got), c.rows)
		}
	}
}

func FuzzOf(f *testing.F) {
	for _, name := range []string{"demo", "held", "incomplete", "kinds", "verdicts"} {
		content, err := os.ReadFile(filepath.Join("..", "text", "testdata", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		tl := new(timeline.Timeline)
		if json.Unmarshal(content, tl) != nil || holes(tl) {
			t.Skip()
		}
		check(t, Of(tl))
	})
}

// holes reports whether a list has null where a timeline never has.
func holes(tl *timeline.Timeline) bool {
	return slices.Contains(tl.Guests, nil) || slices.Contains(tl.Findings, nil) || slices.ContainsFunc(tl.Mappings, func(m *timeline.Mapping) bool {
		return m == nil || slices.Contains(m.Lives, nil)
	})
}
