package readiness

import (
	"fmt"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/udev"
)

// progress is how far udev is with a device, as far as its events tell.
type progress uint8

const (
	unknown progress = iota // nothing was seen since the subscription
	leaving                 // its removal was announced, and udev has not handled that
	coming                  // it was announced, and udev has not made it ready
	private                 // udev was told to leave it alone
	finished
)

// device is what was seen of a device number since the subscription.
type device struct {
	progress progress
	// since is the sequence number of the announcement that began this life of
	// the number: what udev says about earlier ones is about another device.
	since uint64
	// announced is the earliest time of that announcement; 0: it was not seen.
	announced event.Time
	// empty is set while the latest event says that nothing is behind it.
	// belied is when it was first found to have something all the same, 0: not.
	empty  bool
	belied event.Time
	// outdated is set where udev's record can be of the time in which nothing was
	// behind the device, or something else.
	outdated bool
	uuid     string // of a mapping
	name     string
}

// devices is udev's progress with each block device, by its number. It is
// bounded by the numbers that the kernel gives.
type devices struct {
	mu sync.Mutex
	of map[event.Dev]*device
}

// forget makes everything unknown again, after messages were lost.
func (d *devices) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.of = make(map[event.Dev]*device)
}

// get returns a copy of what is known.
func (d *devices) get(dev event.Dev) device {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.of[dev]; known != nil {
		return *known
	}
	return device{}
}

func (d *devices) entry(dev event.Dev) *device {
	known := d.of[dev]
	if known == nil {
		known = &device{}
		d.of[dev] = known
	}
	return known
}

// announced notes a uevent of the kernel. A device's coming and going begins
// something new, and that something is behind it now. An add of a device that
// is there already was asked for by somebody (udevadm trigger).
func (d *devices) announced(u *event.DevInfo, at event.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.entry(*u.Dev)
	switch {
	case u.Action == "remove":
		*known = device{progress: leaving, since: u.Seq, announced: at}
		return
	case u.Action != "add" || !blockdev.Announces(u):
	case known.progress == unknown:
		*known = device{progress: coming, since: u.Seq, announced: at}
	case known.progress == leaving:
		known.since, known.announced = u.Seq, at
	}
	switch usable := blockdev.UsableBy(u); {
	case usable == blockdev.Empty:
		known.takeBack()
	case usable == blockdev.InUse && known.empty:
		known.empty, known.outdated, known.since, known.announced = false, true, u.Seq, at
	}
}

// takeBack notes that nothing is behind the device: what udev has handled
// before does not count for what will be.
func (d *device) takeBack() {
	d.empty, d.belied = true, 0
	if d.progress != leaving {
		d.progress = coming
	}
}

// handled notes that udev has finished with an announcement.
func (d *devices) handled(u *event.DevInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.entry(*u.Dev)
	if u.Action == "remove" {
		if known.progress == leaving {
			known.progress = coming
		}
		return
	}
	if u.Seq < known.since {
		return
	}
	if known.progress == leaving { // udev works in order: it has handled the removal, too
		known.progress = coming
	}
	if blockdev.UsableBy(u) == blockdev.Empty {
		known.takeBack()
		return
	}
	known.empty, known.outdated = false, false
	switch p := blockdev.UdevProgress(u); {
	case known.progress == finished: // and stays it
	case p == blockdev.Finished:
		known.progress = finished
	case p == blockdev.Private:
		known.progress = private
	case known.progress == unknown:
		known.progress = coming
	}
	known.uuid, known.name = u.Props["DM_UUID"], u.Props["DM_NAME"]
}

// isOf reports whether what udev knows is about m, and not about a mapping
// that had the number before.
func (d *device) isOf(m *devmap.Mapping) bool {
	if d.uuid != "" || m.UUID != "" {
		return d.uuid == m.UUID
	}
	return d.name == m.Name
}

// described is a device as udev's record tells of it.
func described(name string, dev event.Dev, record *udev.Record) *event.DevInfo {
	return &event.DevInfo{Subsystem: "block", Name: name, Dev: &dev, Props: record.Props, Links: record.Links}
}

// mappingName is a mapping's kernel name.
func mappingName(dev event.Dev) string { return fmt.Sprintf("dm-%d", dev.Minor) }

// recorded returns udev's progress with m by its database: what was handled
// before the subscription, or has been while its event is still on the way.
func (t *Tracker) recorded(m *devmap.Mapping) (blockdev.Progress, error) {
	record, err := t.host.Record(m.Dev)
	if err != nil || record == nil {
		return blockdev.Coming, err
	}
	d := device{uuid: record.Props["DM_UUID"], name: record.Props["DM_NAME"]}
	if record.Props["DM_UDEV_RULES_VSN"] != "" && !d.isOf(m) {
		return blockdev.Coming, nil
	}
	return blockdev.UdevProgress(described(mappingName(m.Dev), m.Dev, record)), nil
}

// udevProgress returns how far udev is with m, by what was seen, and where that
// does not suffice by its database. The record of a device that is leaving is
// not yet that of its successor.
func (t *Tracker) udevProgress(m *devmap.Mapping) (blockdev.Progress, error) {
	known := t.devices.get(m.Dev)
	switch {
	case known.progress == leaving:
		return blockdev.Coming, nil
	case known.progress == finished && known.isOf(m):
		return blockdev.Finished, nil
	}
	p, err := t.recorded(m)
	if err != nil {
		return p, fmt.Errorf("ask udev about %s: %w", m.Name, err)
	}
	return p, nil
}

// unspoken is how long a device that can be used waits for the kernel to
// announce that. Not all kinds on all kernels do.
const unspoken = 3 * time.Second

// udevFinished reports whether udev has finished with a device that is no
// mapping, and that can be used.
func (t *Tracker) udevFinished(d *event.DevInfo) (bool, error) {
	known := t.devices.get(*d.Dev)
	switch {
	case known.progress == leaving:
		return false, nil
	case known.progress == finished:
		return true, nil
	case known.empty:
		return t.devices.belie(*d.Dev, t.host.Now()), nil
	case known.outdated:
		return false, nil
	}
	record, err := t.host.Record(*d.Dev)
	if err != nil {
		return false, fmt.Errorf("ask udev about %s: %w", d.Name, err)
	}
	if record == nil {
		return false, nil
	}
	by := described(d.Name, *d.Dev, record)
	return blockdev.UsableBy(by) != blockdev.Empty && blockdev.UdevProgress(by) == blockdev.Finished, nil
}

// belie notes that a device whose latest event said that nothing is behind it can
// be used, and reports whether that has been so for long enough.
func (d *devices) belie(dev event.Dev, now event.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.entry(dev)
	if known.belied == 0 {
		known.belied = now
	}
	return now.Sub(known.belied) >= unspoken
}
