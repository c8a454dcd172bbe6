package twin

import (
	"cmp"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// Times says when the disks of a boot came, and when its first guest started. A host and
// its twin are compared by it. The zero value has seen nothing.
type Times struct {
	Came  map[string]event.Time // when the kernel announced a disk, by its name
	Done  map[string]event.Time // when udev had handled that
	Guest event.Time            // the first start of a guest, 0 for none
}

// Observe takes an event of the boot, in the order of the record.
func (t *Times) Observe(e *event.Event) {
	if t.Came == nil {
		t.Came, t.Done = map[string]event.Time{}, map[string]event.Time{}
	}
	switch {
	case e.Dev != nil && e.Dev.Type == "disk":
		_, came := t.Came[e.Dev.Name]
		if !came && (e.Kind == event.Uevent && e.Dev.Action == "add" || e.Kind == event.Backfill) {
			t.Came[e.Dev.Name] = cmp.Or(e.Dev.Initialized, e.At)
		}
		if _, done := t.Done[e.Dev.Name]; !done && e.Kind == event.Udev {
			t.Done[e.Dev.Name] = e.At
		}
	case e.Kind == event.Exec && e.Exec != nil && t.Guest == 0:
		if g := guest.Parse(e.Exec.Args); g.IsGuest {
			t.Guest = e.At
		}
	}
}

// First is when the first of these disks came, 0 where none did.
func (t *Times) First(disks []Disk) event.Time {
	var first event.Time
	for i := range disks {
		if at, ok := t.Came[disks[i].Name]; ok && (first == 0 || at < first) {
			first = at
		}
	}
	return first
}
