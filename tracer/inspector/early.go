package inspector

import (
	"path/filepath"
	"time"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/memory"
)

// mostGuests bounds the guests that are known by their disks.
const mostGuests = 8192

// mostEarly bounds the looks at disks whose guests have not started that wait.
const mostEarly = 1024

// Recall takes in what is remembered of guests, and looks at the disks that are there
// already. The others are looked at when udev has finished with them.
func (i *Inspector) Recall() {
	if i.Memory == nil || !i.On() {
		return
	}
	guests := i.Memory.Guests()
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, m := range guests[max(0, len(guests)-mostGuests):] {
		for d := range m.Disks {
			if key := memory.Key(&m.Disks[d]); key != "" {
				i.devices[key] = append(i.devices[key], m)
			}
		}
		i.before(m)
	}
	i.dispatch()
}

// Observe takes an event of the record. It never waits.
func (i *Inspector) Observe(e *event.Event) {
	if e.Kind != event.Udev || e.Dev == nil || e.Dev.Dev == nil || e.Dev.Action == "remove" || e.Dev.Subsystem != "block" {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.devices) == 0 || !i.On() {
		return
	}
	d := event.MemoryDisk{UUID: blockdev.Identity(e.Dev)}
	if blockdev.DeviceKind(e.Dev) == blockdev.Mapping {
		d = event.MemoryDisk{UUID: e.Dev.Props["DM_UUID"], Name: e.Dev.Props["DM_NAME"]}
	}
	key := memory.Key(&d)
	if key == "" {
		return
	}
	for _, m := range i.devices[key] {
		i.before(m)
	}
	i.dispatch()
}

// before has a guest's disks looked at before it starts, where they are not just
// being looked at. Only what is known to be raw or qcow2 is: nothing is guessed from
// a disk's bytes.
func (i *Inspector) before(m *event.MemoryInfo) {
	if i.started[m.Guest] || len(i.early) >= mostEarly {
		return
	}
	l := &Look{early: m, done: make(chan struct{})}
	var disks []guest.Image
	for n := range m.Disks {
		d := &m.Disks[n]
		if d.BackingOf == "" && (d.Format == "raw" || d.Format == "qcow2") && filepath.IsAbs(d.Path) && len(disks) < mostDisks {
			disks = append(disks, guest.Image{Path: d.Path, Format: d.Format, Storage: guest.StorageFile})
		}
	}
	if len(disks) == 0 {
		return
	}
	l.of(disks)
	if known := i.recent[l.key]; known != nil && (!known.over || time.Since(known.at) < time.Second) {
		return
	}
	if !i.room(i.ownerOf(&l.owner), l) {
		return // it is looked at when its guest starts
	}
	i.recent[l.key] = l
	i.early = append(i.early, l)
}
