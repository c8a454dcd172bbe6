package timeline

import (
	"cmp"
	"slices"
)

// Left counts what Most left out of a timeline.
type Left struct{ Guests, Findings, Mappings int }

// Any reports whether anything was left out.
func (l Left) Any() bool { return l != Left{} }

// findingsPerGuest and mappingsPerGuest are how many of them Most keeps, in all,
// for each guest that there is room for.
const findingsPerGuest, mappingsPerGuest = 4, 4

// Most returns the most important of t for an output that has room for so many
// starts of guests, and what it left out. Who runs guests as one user can't take
// the room of another's: the worst of each user come first, then the second worst
// of each, and so on; a guest's findings share their room in the same way. The
// summary counts all of them. t itself is returned where all have room.
func (t *Timeline) Most(guests int) (*Timeline, Left) {
	if len(t.Guests) <= guests && len(t.Findings) <= findingsPerGuest*guests && len(t.Mappings) <= mappingsPerGuest*guests {
		return t, Left{}
	}
	out := *t
	outcomes := make(map[string]int, len(t.Verdicts))
	for _, v := range t.Verdicts {
		outcomes[v.GuestID] = slices.Index(Outcomes(), v.Outcome)
	}
	worst := func(g *Guest) int {
		if rank, judged := outcomes[g.ID]; judged {
			return rank
		}
		return len(Outcomes())
	}
	out.Guests = share(t.Guests, guests, func(g *Guest) uint32 { return g.UID }, worst)
	kept := make(map[string]bool, len(out.Guests))
	used := map[string]bool{}
	for _, g := range out.Guests {
		kept[g.ID] = true
		for i := range g.Disks {
			used[g.Disks[i].Mapping] = true
		}
	}
	// What is of no guest, such as a disk that somebody looked for, is its own.
	whose := func(f *Finding) string { return cmp.Or(f.GuestID, f.Guest, f.Disk) }
	out.Findings = slices.DeleteFunc(slices.Clone(t.Findings), func(f *Finding) bool { return f.GuestID != "" && !kept[f.GuestID] })
	out.Findings = share(out.Findings, findingsPerGuest*guests, whose, func(f *Finding) int { return 0 })
	out.Mappings = share(t.Mappings, mappingsPerGuest*guests, func(m *Mapping) bool { return used[m.ID] }, func(m *Mapping) int { return 0 })
	out.Verdicts = []*Verdict{}
	place := map[int]int{}
	for i, v := range t.Verdicts {
		if kept[v.GuestID] || v.GuestID == "" && len(out.Verdicts) < 2*guests {
			place[i] = len(out.Verdicts)
			out.Verdicts = append(out.Verdicts, v)
		}
	}
	out.Summary = t.Summary.only(place)
	out.Summary.Outcome, out.Summary.Counts = t.Summary.Outcome, t.Summary.Counts
	return &out, Left{len(t.Guests) - len(out.Guests), len(t.Findings) - len(out.Findings), len(t.Mappings) - len(out.Mappings)}
}

// share keeps room of list, in its order: the first of each owner, then the second
// of each, and so on. The first of an owner are those of the lowest rank.
func share[T any, O comparable](list []T, room int, owner func(T) O, rank func(T) int) []T {
	if len(list) <= room {
		return list
	}
	type item struct{ at, rank, turn int }
	items := make([]item, len(list))
	for i, v := range list {
		items[i] = item{at: i, rank: rank(v)}
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Or(a.rank-b.rank, a.at-b.at) })
	turns := map[O]int{}
	for i := range items {
		o := owner(list[items[i].at])
		items[i].turn = turns[o]
		turns[o]++
	}
	slices.SortStableFunc(items, func(a, b item) int { return a.turn - b.turn })
	items = items[:room]
	slices.SortFunc(items, func(a, b item) int { return a.at - b.at })
	out := make([]T, room)
	for i, it := range items {
		out[i] = list[it.at]
	}
	return out
}
