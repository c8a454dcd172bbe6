package readiness

import (
	"fmt"
	"sync"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/udev"
)

// progress is how far udev is with a device.
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
	uuid      string
	name      string
}

// devices is udev's progress with each mapping, by device number. It is bounded
// by the kernel's minor numbers.
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

// announced notes a uevent of the kernel. Only a device's coming and going
// begins something new. An add of a device that is there already was asked for
// by somebody (udevadm trigger), as was one with SYNTH_UUID (Linux 4.13).
func (d *devices) announced(u *event.DevInfo, at event.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch u.Action {
	case "remove":
		*d.entry(*u.Dev) = device{progress: leaving, since: u.Seq, announced: at}
	case "add":
		_, synthetic := u.Props["SYNTH_UUID"]
		known := d.entry(*u.Dev)
		switch {
		case synthetic:
		case known.progress == unknown:
			*known = device{progress: coming, since: u.Seq, announced: at}
		case known.progress == leaving:
			known.since, known.announced = u.Seq, at
		}
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
	switch p := progressOf(u.Props, u.Links); {
	case known.progress == finished: // and stays it
	case p == finished || p == private:
		known.progress = p
	case known.progress == unknown:
		known.progress = coming
	}
	known.uuid, known.name = u.Props["DM_UUID"], u.Props["DM_NAME"]
}

// progressOf says what udev's properties of a mapping mean. Its creation is
// handled with no links and SYSTEMD_READY=0; the activation of its table says
// DM_ACTIVATION=1, and counts even with SYSTEMD_READY=0, which systemd's rules
// also set for an empty LUKS mapping. A run that was asked for later says
// neither, but keeps the links (10-dm.rules of lvm2, 99-systemd.rules).
func progressOf(props map[string]string, links []string) progress {
	refused := props["DM_UDEV_DISABLE_OTHER_RULES_FLAG"] == "1"
	if props["DM_UDEV_RULES_VSN"] == "" { // device-mapper's rules did not get far, or are not installed
		if refused || props["SYSTEMD_READY"] == "0" {
			return coming
		}
		return finished
	}
	switch {
	case props["DM_UDEV_DISABLE_DM_RULES_FLAG"] == "1":
		return finished // its creator makes the nodes: udev has nothing to do
	case refused:
		return private
	case props["DM_ACTIVATION"] == "1":
		return finished
	case len(links) > 0 && props["SYSTEMD_READY"] != "0":
		return finished
	}
	return coming
}

// isOf reports whether what udev knows is about m, and not about a mapping
// that had the number before.
func (d *device) isOf(m *devmap.Mapping) bool {
	if d.uuid != "" || m.UUID != "" {
		return d.uuid == m.UUID
	}
	return d.name == m.Name
}

// recorded returns udev's progress with m by its database: what was handled
// before the subscription, or has been while its event is still on the way.
func recorded(root string, m *devmap.Mapping) (progress, error) {
	record, err := udev.ReadRecord(root, m.Dev)
	if err != nil || record == nil {
		return coming, err
	}
	d := device{uuid: record.Props["DM_UUID"], name: record.Props["DM_NAME"]}
	p := progressOf(record.Props, record.Links)
	if record.Props["DM_UDEV_RULES_VSN"] != "" && !d.isOf(m) {
		return coming, nil
	}
	return p, nil
}

// udevProgress returns how far udev is with m, by what was seen, and where that
// does not suffice by its database. The record of a device that is leaving is
// not yet that of its successor.
func (t *Tracker) udevProgress(m *devmap.Mapping) (progress, error) {
	known := t.devices.get(m.Dev)
	switch {
	case known.progress == leaving:
		return coming, nil
	case known.progress == finished && known.isOf(m):
		return finished, nil
	}
	p, err := recorded(t.root, m)
	if err != nil {
		return p, fmt.Errorf("ask udev about %s: %w", m.Name, err)
	}
	return p, nil
}
