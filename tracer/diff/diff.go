// Package diff compares two boots: what came and went, what changed its size,
// its number or its place in the order, which margins grew or shrank, and which
// findings are new.
//
// Like the timelines that it takes, it is pure: no clock, no file, no kernel.
package diff

import (
	"cmp"
	"slices"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Diff is what differs between two boots. Its JSON form is part of the
// program's interface: exporters/json/schema.json describes it.
type Diff struct {
	Before Boot `json:"before"`
	After  Boot `json:"after"`
	// Mappings and Guests are in the order of the second boot, those that went
	// at the end. What is equal in both is listed, too: its Changes are empty.
	Mappings []Mapping `json:"mappings"`
	Guests   []Guest   `json:"guests"`
	Findings []Finding `json:"findings"`
}

// Boot names one of the two.
type Boot struct {
	BootID string `json:"boot_id"`
	Host   string `json:"host,omitempty"`
	Kernel string `json:"kernel,omitempty"`
	// Complete is set where nothing is missing in the record: without it, what
	// seems to have gone may only not have been seen.
	Complete bool `json:"complete"`
}

// What can have changed.
const (
	Came      = "came"
	Went      = "went"
	Name      = "name"
	Minor     = "minor"
	Size      = "size"
	Table     = "table"
	Order     = "order"   // its place among those that are in both boots
	Ready     = "ready"   // became ready in one boot only
	MappingOf = "mapping" // of a disk: another one
	Margin    = "margin"  // of a disk: its sign, or whether there is one
	Error     = "error"   // of a disk: its first open's outcome
	Exit      = "exit"    // of a guest: how it ended
)

// Mapping is one mapping in both boots, nil where it did not exist.
type Mapping struct {
	Name    string       `json:"name"` // the later one
	UUID    string       `json:"uuid,omitempty"`
	Before  *MappingSide `json:"before,omitempty"`
	After   *MappingSide `json:"after,omitempty"`
	Changes []string     `json:"changes"`
}

// MappingSide is a mapping in one boot: in its last life.
type MappingSide struct {
	Name string    `json:"name"`
	Dev  event.Dev `json:"dev"`
	Size int64     `json:"size"` // bytes
	// Table has the names of mappings in the place of their numbers.
	Table []string `json:"table,omitempty"`
	// Place is its place in the order in which mappings became ready, from 1.
	Place int `json:"place"`
	// Ready is when it first was, nil if never.
	Ready *event.Time `json:"ready_ns,omitempty"`
}

// Guest is one guest in both boots, by its identity.
type Guest struct {
	Guest    string     `json:"guest"`
	Identity string     `json:"identity,omitempty"`
	Before   *GuestSide `json:"before,omitempty"`
	After    *GuestSide `json:"after,omitempty"`
	Changes  []string   `json:"changes"`
	Disks    []Disk     `json:"disks"`
}

// GuestSide is a guest's first run in one boot.
type GuestSide struct {
	Place int            `json:"place"` // in the order of starts, from 1
	Runs  int            `json:"runs"`
	Exec  event.Time     `json:"exec_ns"`
	Exit  *timeline.Exit `json:"exit,omitempty"`
}

// Disk is one disk of a guest in both boots, by its path.
type Disk struct {
	Path    string    `json:"path"`
	Before  *DiskSide `json:"before,omitempty"`
	After   *DiskSide `json:"after,omitempty"`
	Changes []string  `json:"changes"`
}

// DiskSide is a disk in one boot: its first open.
type DiskSide struct {
	Mapping string `json:"mapping,omitempty"` // its name
	Size    int64  `json:"size"`              // bytes at the open, -1 if not known
	Error   string `json:"error,omitempty"`
	*timeline.Margin
}

// Finding is a finding that is in one of the boots, or in both.
type Finding struct {
	Kind   string `json:"kind"`
	Guest  string `json:"guest,omitempty"`
	Disk   string `json:"disk"`
	Before bool   `json:"before"`
	After  bool   `json:"after"`
}

// Compare tells what is different in after.
func Compare(before, after *timeline.Timeline) *Diff {
	d := &Diff{
		Before: bootOf(before), After: bootOf(after),
		Mappings: []Mapping{}, Guests: []Guest{}, Findings: []Finding{},
	}
	b, a := mappingsOf(before), mappingsOf(after)
	for _, key := range keys(a.order, b.order) {
		d.Mappings = append(d.Mappings, compareMapping(key, b.sides[key], a.sides[key]))
	}
	mark(d.Mappings, moved(b.order, a.order), a.order)
	bg, ag := guestsOf(before), guestsOf(after)
	for _, key := range keys(ag.order, bg.order) {
		d.Guests = append(d.Guests, compareGuest(bg.sides[key], ag.sides[key]))
	}
	markGuests(d.Guests, moved(bg.order, ag.order), ag.order)
	d.Findings = findings(before, after)
	return d
}

// Same reports whether nothing of consequence differs.
func (d *Diff) Same() bool {
	return !slices.ContainsFunc(d.Mappings, func(m Mapping) bool { return len(m.Changes) > 0 }) &&
		!slices.ContainsFunc(d.Guests, Guest.Changed) &&
		!slices.ContainsFunc(d.Findings, func(f Finding) bool { return f.Before != f.After })
}

// Changed reports whether anything differs about the guest or one of its disks.
func (g Guest) Changed() bool {
	return len(g.Changes) > 0 || slices.ContainsFunc(g.Disks, func(d Disk) bool { return len(d.Changes) > 0 })
}

func bootOf(tl *timeline.Timeline) Boot {
	return Boot{BootID: tl.BootID, Host: tl.Host.Name, Kernel: tl.Kernel, Complete: tl.Complete}
}

// keys lists what is in the first, then what is in the second only.
func keys(first, second []string) []string {
	out := slices.Clone(first)
	seen := map[string]bool{}
	for _, k := range first {
		seen[k] = true
	}
	for _, k := range second {
		if !seen[k] {
			out = append(out, k)
		}
	}
	return out
}

// mark notes which of the mappings changed their place; the first of list are
// those of order.
func mark(list []Mapping, out map[string]bool, order []string) {
	for i, key := range order {
		if out[key] {
			list[i].Changes = append(list[i].Changes, Order)
		}
	}
}

func markGuests(list []Guest, out map[string]bool, order []string) {
	for i, key := range order {
		if out[key] {
			list[i].Changes = append(list[i].Changes, Order)
		}
	}
}

// moved returns the keys in both lists that left their place: the fewest that
// have to be taken out until the rest is in the same order.
func moved(before, after []string) map[string]bool {
	at := make(map[string]int, len(before))
	for i, k := range before {
		at[k] = i
	}
	var common []string
	for _, k := range after {
		if _, ok := at[k]; ok {
			common = append(common, k)
		}
	}
	out := make(map[string]bool, len(common))
	for _, k := range common {
		out[k] = true
	}
	for _, k := range longestRising(common, at) {
		delete(out, k)
	}
	return out
}

// longestRising is a longest subsequence of keys whose places rise, found by
// patience sorting.
func longestRising(keys []string, at map[string]int) []string {
	var tails []int // by length: the index of the key that ends it lowest
	before := make([]int, len(keys))
	for i, k := range keys {
		n, _ := slices.BinarySearchFunc(tails, at[k], func(j, place int) int { return cmp.Compare(at[keys[j]], place) })
		before[i] = -1
		if n > 0 {
			before[i] = tails[n-1]
		}
		if n == len(tails) {
			tails = append(tails, i)
		} else {
			tails[n] = i
		}
	}
	var out []string
	if len(tails) > 0 {
		for i := tails[len(tails)-1]; i >= 0; i = before[i] {
			out = append(out, keys[i])
		}
	}
	return out
}
