// Package udev listens to the kernel's uevents and to udev's own events of
// block devices, and reads udev's database.
//
// A uevent says that the kernel announced a device; the udev event with the
// same sequence number says that udev has run its rules for it, made its links
// and stored its properties. Both come over netlink; github.com/pilebones/go-udev
// connects and parses, and this package adds what it lacks: messages of other
// subsystems are refused in the kernel, senders are checked, losses are seen
// and survived, and a context ends the reading.
//
// # What counts as lost
//
// The kernel tells a listener whose queue was full with ENOBUFS, and counts
// each dropped message in the socket's Drops column of /proc/net/netlink
// (netlink_overrun, net/netlink/af_netlink.c). That is the only way in which a
// message for us can be lost, so it alone makes a loss event. A message that the
// socket's filter refuses is neither: do_one_broadcast leaves the socket out
// before it looks at the queue (3.10 to 7.2).
//
// A gap in SEQNUM proves nothing. The counter is one for the whole kernel, and
// most numbers belong to subsystems that the filter refuses; a uevent of a
// network device in another network namespace goes to that namespace only
// (kobj_bcast_filter since 2.6.35, uevent_net_broadcast since 4.18), as do those
// that another user namespace injects. Numbers may also arrive out of order:
// since the counter became atomic (Linux 6.11) nothing orders it with the
// broadcast.
package udev

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/pilebones/go-udev/netlink"

	"github.com/bootrace/bootrace/tracer/event"
)

// Names of the two sources.
const (
	KernelSource = "uevent"
	UdevSource   = "udev"
)

// IsDeviceMapperModule reports whether e is the kernel's announcement that
// dm_mod was loaded: only from then on do its functions exist to be probed.
// It is the one uevent this package emits that is not of a block device.
func IsDeviceMapperModule(e *event.Event) bool {
	return e.Kind == event.Uevent && e.Dev != nil && isDeviceMapperModule(e.Dev)
}

// deviceMapperModule is dm_mod's devpath.
const deviceMapperModule = "/module/dm_mod"

func isDeviceMapperModule(d *event.DevInfo) bool {
	return d.Subsystem == "module" && d.Action == string(netlink.ADD) && d.Path == deviceMapperModule
}

// wanted says which announcements become events.
func wanted(d *event.DevInfo) bool {
	return d.Subsystem == "block" || isDeviceMapperModule(d)
}

// keptPrefixes and kept are the properties that explain whether a device is
// ready, and what it is. Everything else stays out of the log.
var keptPrefixes = []string{
	"DM_",         // name, UUID, cookie, activation, DM_UDEV_*_FLAG
	"LVM_",        // which unit activates which volume group, and when
	"MD_",         // of mdadm: UUID, name, level, whether the array was started
	"SYSTEMD_",    // SYSTEMD_READY=0 keeps device units back
	"ID_PART_",    // partition tables, PARTUUID
	"SCSI_IDENT_", // of sg3_utils' rules, where they take the place of scsi_id
}

var kept = map[string]bool{
	"DISKSEQ": true, "DISK_RO": true, "DISK_MEDIA_CHANGE": true, "RESIZE": true, // kernel, with change
	"ID_BUS": true, "ID_MODEL": true, "ID_PATH": true,
	"ID_SERIAL": true, "ID_SERIAL_SHORT": true, "ID_SCSI_SERIAL": true,
	"ID_WWN": true, "ID_WWN_WITH_EXTENSION": true, "ID_NSID": true, // nsid of an NVMe disk
	"ID_FS_TYPE": true, "ID_FS_USAGE": true, "ID_FS_UUID": true, "ID_FS_VERSION": true,
	"ID_BTRFS_READY": true,                 // 0: more of its devices are to come
	"RESOURCE":       true, "VOLUME": true, // of DRBD (drbdadm sh-udev)
	"PARTN": true, "PARTUUID": true, "SYNTH_UUID": true, "UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG": true,
}

func keep(key string) bool {
	if kept[key] {
		return true
	}
	for _, prefix := range keptPrefixes {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// errNoDevice is the error of a message that announces no device.
var errNoDevice = errors.New("no DEVPATH or SUBSYSTEM")

// deviceInfo turns the properties of a message into a DevInfo. Clock is
// CLOCK_BOOTTIME - CLOCK_MONOTONIC.
func deviceInfo(u *netlink.UEvent, clock event.Duration) (*event.DevInfo, error) {
	env := u.Env
	d := &event.DevInfo{
		Action:    string(u.Action),
		Path:      env["DEVPATH"],
		Subsystem: env["SUBSYSTEM"],
		Name:      strings.TrimPrefix(env["DEVNAME"], "/dev/"),
		Type:      env["DEVTYPE"],
		Links:     links(strings.Fields(env["DEVLINKS"])),
	}
	if d.Path == "" || d.Subsystem == "" {
		return nil, errNoDevice
	}
	var err error
	if d.Seq, err = number(env, "SEQNUM", 64); err != nil {
		return nil, err
	}
	if d.Dev, err = devNumber(env); err != nil {
		return nil, err
	}
	since, err := number(env, "USEC_INITIALIZED", 53) // in ns it still fits into 63 bits
	if err != nil {
		return nil, err
	}
	d.Initialized = boottime(since, clock)
	d.Props = properties(env)
	return d, nil
}

func properties(env map[string]string) map[string]string {
	var props map[string]string
	for key, value := range env {
		if keep(key) {
			if props == nil {
				props = make(map[string]string)
			}
			props[key] = value
		}
	}
	return props
}

func devNumber(env map[string]string) (*event.Dev, error) {
	if env["MAJOR"] == "" {
		return nil, nil
	}
	major, err := number(env, "MAJOR", 32)
	if err != nil {
		return nil, err
	}
	minor, err := number(env, "MINOR", 32)
	if err != nil {
		return nil, err
	}
	return &event.Dev{Major: uint32(major), Minor: uint32(minor)}, nil
}

// number reads a property, 0 where it is not there.
func number(env map[string]string, key string, bits int) (uint64, error) {
	text, ok := env[key]
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("property %s: %w", key, err)
	}
	return n, nil
}

// boottime converts udev's stamp: microseconds of CLOCK_MONOTONIC, 0 unknown.
func boottime(usec uint64, clock event.Duration) event.Time {
	if usec == 0 {
		return 0
	}
	return event.Time(usec * 1000).Add(clock)
}

// links makes paths below /dev absolute: the database stores them relative.
func links(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	list := make([]string, len(names))
	for i, name := range names {
		if !path.IsAbs(name) {
			name = "/dev/" + name
		}
		list[i] = name
	}
	return list
}
