package blockdev

import "github.com/bootrace/bootrace/tracer/event"

// Progress is how far udev is with a device.
type Progress uint8

// The stages. What a follower of events knows beyond that, such as that a
// removal is under way, is its own.
const (
	Coming   Progress = iota // udev has not made it ready
	Private                  // udev was told to leave it alone: a layer of a volume, or one in the making
	Finished                 // its rules have run, and its links are made
)

// UdevProgress says what an event that udev has finished with, or its record in
// udev's database, means for the device.
//
// A mapping's creation is handled with no links and SYSTEMD_READY=0; the
// activation of its table says DM_ACTIVATION=1, and counts even with
// SYSTEMD_READY=0, which systemd's rules also set for an empty LUKS mapping. A
// run that was asked for later says neither, but keeps the links (10-dm.rules of
// lvm2, 99-systemd.rules). Where device-mapper's rules did not get far, or are
// not installed, there is no DM_UDEV_RULES_VSN.
//
// With other devices udev is finished when an event is: whether something is
// behind them is for UsableBy to say.
func UdevProgress(d *event.DevInfo) Progress {
	props := d.Props
	refused := props["DM_UDEV_DISABLE_OTHER_RULES_FLAG"] == "1"
	unready := props["SYSTEMD_READY"] == "0"
	switch {
	case DeviceKind(d) != Mapping:
		return Finished
	case props["DM_UDEV_DISABLE_DM_RULES_FLAG"] == "1":
		return Finished // its creator makes the nodes: udev has nothing to do
	case refused && props["DM_UDEV_RULES_VSN"] != "":
		return Private
	case refused: // so are all at their creation, before device-mapper's rules know of a table
		return Coming
	case props["DM_ACTIVATION"] == "1":
		return Finished
	case unready:
		return Coming
	case len(d.Links) > 0, props["DM_UDEV_RULES_VSN"] == "":
		return Finished
	}
	return Coming
}
