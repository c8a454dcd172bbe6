package diff

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// side is what one boot has, by key, and in which order.
type side[T any] struct {
	order []string
	sides map[string]*T
}

type mapping struct {
	uuid string
	MappingSide
}

// mappingsOf lists the mappings of a boot by when they became ready, those that
// never did by when they were made, at the end. LVM's private layers are left
// out: a guest cannot run on them.
func mappingsOf(tl *timeline.Timeline) side[mapping] {
	names := map[event.Dev]string{}
	for _, m := range tl.Mappings {
		for _, l := range m.Lives {
			names[l.Dev] = m.Name
		}
	}
	out := side[mapping]{sides: map[string]*mapping{}}
	ready := map[string]event.Time{}
	for _, m := range tl.Mappings {
		if m.Layer != "" {
			continue
		}
		last := m.Lives[len(m.Lives)-1]
		key := cmp.Or(m.UUID, m.Name)
		s := &mapping{m.UUID, MappingSide{Name: m.Name, Dev: last.Dev, Size: last.Size, Table: named(last.Table, names)}}
		s.Ready = firstReady(m)
		if _, known := out.sides[key]; !known {
			out.order = append(out.order, key)
		}
		out.sides[key] = s
		ready[key] = 1<<63 - 1
		if s.Ready != nil {
			ready[key] = *s.Ready
		}
	}
	slices.SortStableFunc(out.order, func(a, b string) int { return cmp.Compare(ready[a], ready[b]) })
	for i, key := range out.order {
		out.sides[key].Place = i + 1
	}
	return out
}

func firstReady(m *timeline.Mapping) *event.Time {
	for _, l := range m.Lives {
		var at *event.Time
		for i := range l.Paths {
			if r := l.Paths[i].Ready; r != nil && (at == nil || r.At < *at) {
				at = &r.At
			}
		}
		if at != nil {
			return at
		}
	}
	return nil
}

// named puts names in the place of the numbers of mappings: these change from
// boot to boot.
func named(table []string, names map[event.Dev]string) []string {
	var out []string
	for _, line := range table {
		fields := strings.Fields(line)
		for i, f := range fields {
			var dev event.Dev
			if n, err := fmt.Sscanf(f, "%d:%d", &dev.Major, &dev.Minor); n == 2 && err == nil && names[dev] != "" {
				fields[i] = names[dev]
			}
		}
		out = append(out, strings.Join(fields, " "))
	}
	return out
}

func compareMapping(key string, before, after *mapping) Mapping {
	m := Mapping{Changes: []string{}}
	if before != nil {
		m.Name, m.UUID, m.Before = before.Name, before.uuid, &before.MappingSide
	}
	if after != nil {
		m.Name, m.UUID, m.After = after.Name, after.uuid, &after.MappingSide
	}
	m.Name = cmp.Or(m.Name, key)
	switch {
	case before == nil:
		m.Changes = append(m.Changes, Came)
		return m
	case after == nil:
		m.Changes = append(m.Changes, Went)
		return m
	}
	for _, c := range []struct {
		what string
		is   bool
	}{
		{Name, before.Name != after.Name},
		{Minor, before.Dev != after.Dev},
		{Size, before.Size != after.Size},
		{Table, before.Table != nil && after.Table != nil && !slices.Equal(before.Table, after.Table)},
		{Ready, (before.Ready == nil) != (after.Ready == nil)},
	} {
		if c.is {
			m.Changes = append(m.Changes, c.what)
		}
	}
	return m
}

type guest struct {
	name, identity string
	GuestSide
	disks []string
	byway map[string]*DiskSide
}

// guestsOf lists the guests of a boot by their first start.
func guestsOf(tl *timeline.Timeline) side[guest] {
	names := map[string]string{}
	for _, m := range tl.Mappings {
		names[m.ID] = m.Name
	}
	out := side[guest]{sides: map[string]*guest{}}
	for _, g := range tl.Guests {
		key := cmp.Or(g.Identity, g.Name)
		if key == "" {
			continue // nothing to know it again by
		}
		if known := out.sides[key]; known != nil {
			known.Runs++
			continue
		}
		one := &guest{
			name: cmp.Or(g.Name, g.Identity), identity: g.Identity, byway: map[string]*DiskSide{},
			GuestSide: GuestSide{Place: len(out.order) + 1, Runs: 1, Exec: g.Exec.At, Exit: g.Exit},
		}
		for i := range g.Disks {
			one.addDisk(&g.Disks[i], names)
		}
		out.order = append(out.order, key)
		out.sides[key] = one
	}
	return out
}

func (g *guest) addDisk(d *timeline.Disk, names map[string]string) {
	if len(d.Uses) == 0 && d.Mapping == "" || g.byway[d.Path] != nil {
		return
	}
	s := &DiskSide{Mapping: names[d.Mapping], Size: -1}
	if len(d.Uses) > 0 {
		u := &d.Uses[0]
		s.Mapping, s.Size, s.Error, s.Margin = names[u.Mapping], u.Size, u.Error, u.Margin
	}
	g.disks = append(g.disks, d.Path)
	g.byway[d.Path] = s
}

func compareGuest(before, after *guest) Guest {
	g := Guest{Changes: []string{}, Disks: []Disk{}}
	var disksBefore, disksAfter []string
	waysBefore, waysAfter := map[string]*DiskSide{}, map[string]*DiskSide{}
	if before != nil {
		g.Guest, g.Identity, g.Before = before.name, before.identity, &before.GuestSide
		disksBefore, waysBefore = before.disks, before.byway
	}
	if after != nil {
		g.Guest, g.Identity, g.After = after.name, after.identity, &after.GuestSide
		disksAfter, waysAfter = after.disks, after.byway
	}
	switch {
	case before == nil:
		g.Changes = append(g.Changes, Came)
	case after == nil:
		g.Changes = append(g.Changes, Went)
	case ending(before.Exit) != ending(after.Exit):
		g.Changes = append(g.Changes, Exit)
	}
	for _, path := range keys(disksAfter, disksBefore) {
		d := Disk{Path: path, Before: waysBefore[path], After: waysAfter[path], Changes: []string{}}
		if before != nil && after != nil {
			d.Changes = append(d.Changes, diskChanges(d.Before, d.After)...)
		}
		g.Disks = append(g.Disks, d)
	}
	return g
}

// ending is how a guest ended; one that runs on and one that was stopped in
// order are equal.
func ending(e *timeline.Exit) timelineExit {
	if e == nil {
		return timelineExit{}
	}
	return timelineExit{e.Status, e.Signal}
}

type timelineExit struct{ status, signal int }

func diskChanges(before, after *DiskSide) []string {
	switch {
	case before == nil:
		return []string{Came}
	case after == nil:
		return []string{Went}
	}
	var out []string
	if before.Mapping != after.Mapping {
		out = append(out, MappingOf)
	}
	if before.Size != after.Size && before.Size >= 0 && after.Size >= 0 {
		out = append(out, Size)
	}
	if before.Error != after.Error {
		out = append(out, Error)
	}
	if sign(before.Margin) != sign(after.Margin) {
		out = append(out, Margin)
	}
	return out
}

// sign is -1 for a guest that certainly came first, 1 for one that certainly
// did not, 0 for what the record does not tell.
func sign(m *timeline.Margin) int {
	switch {
	case m.Negative():
		return -1
	case m.Positive():
		return 1
	}
	return 0
}

func findings(before, after *timeline.Timeline) []Finding {
	type key struct{ kind, guest, disk string }
	seen := map[key]*Finding{}
	var order []key
	note := func(list []*timeline.Finding, where func(*Finding)) {
		for _, f := range list {
			if f.Withheld != "" {
				continue
			}
			k := key{f.Kind, f.Guest, f.Disk}
			if seen[k] == nil {
				seen[k] = &Finding{Kind: f.Kind, Guest: f.Guest, Disk: f.Disk}
				order = append(order, k)
			}
			where(seen[k])
		}
	}
	note(after.Findings, func(f *Finding) { f.After = true })
	note(before.Findings, func(f *Finding) { f.Before = true })
	out := []Finding{}
	for _, k := range order {
		out = append(out, *seen[k])
	}
	return out
}
