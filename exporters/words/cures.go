package words

import (
	"fmt"
	"time"

	"github.com/bootrace/bootrace/tracer/timeline"
)

// cureWords say what to do.
type cureWords struct {
	// text is a template in which {volume} is VG/LV, and {group} its VG.
	text string
	// commands can be pasted into root's shell as they are. deadline is one that is
	// enough for all holds that are too short. Nil where a person has to decide or to
	// find out something first.
	commands func(v *timeline.Verdict, c *timeline.Cause, deadline time.Duration) []string
}

// cures has an entry for each cure.
var cures = map[string]cureWords{
	timeline.CureHold: {
		text:     "keep its start back until the disk is ready: set `mode: enforce`[, if `bootrace check` finds that this kernel lets a start be held as long as that takes{?untried}]; where something looks for the disk before it starts the guest, have it run `bootrace wait` first",
		commands: func(_ *timeline.Verdict, c *timeline.Cause, _ time.Duration) []string { return startHolding(c.Hold) },
	},
	timeline.CureLongerHold: {
		text: "keep its start back until the disk is ready: [set `mode: enforce` with{?trace} ]a `deadline` above[ {wait},] what that takes[ ({deadline} is not enough)][, if `bootrace check` finds that this kernel lets a start be held so long{?untried}], in general or in `enforce.guests`; and have what starts the guest wait as long",
		commands: func(_ *timeline.Verdict, c *timeline.Cause, deadline time.Duration) []string {
			return longerHold(c.Hold, deadline)
		},
	},
	timeline.CureHoldProgram: {text: "keep its start back until the disk is ready: add its program[, {program},] to `enforce.binaries`[, and set `mode: enforce`{?trace}]"},
	timeline.CureWait:        {text: "have what starts it run `bootrace wait` first: on this kernel no start is held for longer than {deadline}"},
	timeline.CureOrder: {
		text:     "let what starts guests run after what activates their volumes[, here {by}]",
		commands: func(_ *timeline.Verdict, c *timeline.Cause, _ time.Duration) []string { return order(c) },
	},
	timeline.CureAutoActivation: {
		text:     "lvchange --setautoactivation y {volume} (or vgchange, if the group has it off), unless something else is meant to activate it",
		commands: eachVolume("lvchange --setautoactivation y %s"),
	},
	timeline.CureSkip: {
		text:     "lvchange --setactivationskip n {volume}",
		commands: eachVolume("lvchange --setactivationskip n %s"),
	},
	timeline.CureAutoList:        {text: "add {volume} to activation/auto_activation_volume_list in lvm.conf, and rebuild the initramfs"},
	timeline.CureVolumeList:      {text: "add {volume} to activation/volume_list in lvm.conf, and rebuild the initramfs"},
	timeline.CureEventActivation: {text: "set global/event_activation=1 in lvm.conf, or have a unit run vgchange -aay before guests start"},
	timeline.CureMissingPV:       {text: "bring the missing physical volume of {group} back (pvs and vgs -o +vg_missing_pv_count name it); look at the devices file (lvmdevices) and at filters"},
	timeline.CureWaitForDevice:   {text: "order the start after the device that comes late, or what is beneath it (After= its .device unit)"},
	timeline.CureThinCheck:       {text: "the thin pool's metadata is checked at each activation: give it time, or look why it takes so long (thin_check)"},
	timeline.CureUdev:            {text: "look for a slow udev rule or a flood of devices (udevadm monitor --property)"},
	timeline.CureRepair:          {text: "only if that shows damage, and after a copy of the disks: lvconvert --repair {repairable}"},
	timeline.CureImport:          {text: "vgimport {group}, if it is not meant for another host"},
	timeline.CureLockStart:       {text: "start lvmlockd and the group's locks (vgchange --lockstart {group}) before guests"},
	timeline.CureRecreate:        {text: "find out what makes this mapping: a container is opened by /etc/crypttab, a multipath map by multipathd; one that was made with dmsetup is not made again after a reboot unless a unit does it"},
	timeline.CureUnlock:          {text: "open the encrypted container before guests start: by its line in /etc/crypttab (systemctl status 'systemd-cryptsetup@*')"},
	timeline.CureFindVolume:      {text: "look where the volume went: renamed, removed, or in another group (lvs -a)"},
	timeline.CureFindRemover:     {text: "find out what took it away and why, or order that before what makes it ready"},
	timeline.CureLinks: {
		text: "make the links again: udevadm trigger --settle --subsystem-match=block, or vgmknodes",
		commands: func(*timeline.Verdict, *timeline.Cause, time.Duration) []string {
			return []string{"udevadm trigger --settle --subsystem-match=block"}
		},
	},
	timeline.CureRefresh: {
		text:     "lvchange --refresh or dmsetup resume, and find out what stopped half way",
		commands: eachVolume("lvchange --refresh %s"),
	},
	timeline.CureExtend: {
		text:     "somebody made the volume smaller: give it its size back (lvextend {volume}) before the guest writes",
		commands: extendCommand,
	},
	timeline.CureNoFallback: {text: "what starts the guest must not take another path when the right one is not there"},
	timeline.CureGrow:       {text: "somebody made the device smaller: give it its size back before the guest writes"},
	timeline.CureFindDisk:   {text: "find the disk that it ran on (lsblk -o NAME,SIZE,SERIAL,WWN), and what the path is made of: a name such as sdb is another disk's in the next boot"},
	timeline.CureMount:      {text: "mount the file system of the image before the guest starts, and let nothing lie below the mount point"},
	timeline.CureRename:     {text: "change the guest's configuration to {nowpath}, or give the disk its old name back"},
	timeline.CureBringBack:  {text: "bring the disk back, and stop and start the guest: what it has open stays dead"},
	timeline.CureAccept: {
		text:     "if the new disk is right, `bootrace accept {guest}`: the alarm stays until then, or until the old disk is back",
		commands: acceptCommand,
	},
	timeline.CureRemoveFile: {text: "remove the file, and make the device's node again (udevadm trigger, vgmknodes)"},
	timeline.CureRelease:    {text: "stop the other user of the disk, or wait for it"},
	timeline.CurePermission: {text: "set the owner and mode of the device in a udev rule; look whether it is read-only (blockdev --getro), and where the error is EPERM, whether the cgroup allows it (DeviceAllow=)"},
	timeline.CureFileRights: {text: "it is a file: look at its owner and mode, at those of its folders, and at what AppArmor or SELinux denied (journalctl -k, ausearch -m avc)"},
	timeline.CureFill:       {text: "find what gives the device its content: losetup, nbd-client, the session or the controller behind it; the kernel announced it empty"},
	timeline.CureAttach:     {text: "find out why the device did not appear: its cable, driver, target or session (journalctl -k); nothing in this boot announced it"},
	timeline.CureAssemble:   {text: "assemble the array (mdadm --assemble --scan), and look at mdadm.conf, also the copy in the initramfs"},
	timeline.CureZvol:       {text: "look whether the pool was imported (zpool status), and order the guests after zfs-volume-wait.service, which waits for the links"},
	timeline.CureDRBD:       {text: "bring the resource up (drbdadm up) before guests start: drbd.service, or what manages the cluster"},
	timeline.CurePromote:    {text: "look whether the DRBD resource is secondary here (drbdadm status), and have it promoted before the guest starts (drbdadm primary), unless the guest runs on the other node"},
	timeline.CureRBD:        {text: "map the image before guests start: rbdmap.service and /etc/ceph/rbdmap, or what starts the guest"},
	timeline.CureFindFile:   {text: "look for the file: it was moved, renamed or deleted, or the command line names another one"},
	timeline.CurePath:       {text: "find what makes that file or link: a mount that did not come, or what starts the guest and links its disks"},
	timeline.CureMultipath:  {text: "look why multipathd did not make the map (multipath -ll, multipath.conf)"},
	timeline.CureErrorLog:   {text: "look at what the kernel says of the device or the file system (journalctl -k), and at what the guest's program printed and logged"},
	timeline.CureLookInside: {text: "look at what the guest's program printed and logged, and inside the guest"},
	timeline.CureLauncher:   {text: "make the disk come sooner, or let what starts the guest wait longer than the hold lasts"},
	timeline.CureAskAgain: {
		text:     "ask LVM: lvs -o +lv_skip_activation {volume}, and from LVM 2.03.12 on lvs -o +lv_autoactivation,vg_autoactivation {volume}; the running service asks by itself some time after the boot",
		commands: eachVolume("lvs -o +lv_skip_activation %s"),
	},
	timeline.CureActivate: {
		text:     "look at what lvchange -ay {volume} says; if that works, nothing at boot activates it: have a unit do so before guests start",
		commands: eachVolume("lvchange -ay %s"),
	},
	timeline.CureFindGroup:   {text: "look whether the disks of {group} are there (lsblk, blkid), and whether LVM sees them (pvs -a)"},
	timeline.CureFilter:      {text: "look whether that filter in lvm.conf hides the disks of {group}; the initramfs has its own copy"},
	timeline.CureDevicesFile: {text: "look whether the devices file lists the disks of {group} (lvmdevices; lvmdevices --adddev DISK)"},
	timeline.CureFilterLinks: {text: "write the filter with names that are there when the disk appears (/dev/sd.*), or have a unit run vgchange -aay {group} before guests start; an order alone does not help"},
	timeline.CureUdevRule:    {text: "look why udev does not say so (udevadm test, blkid -p, rules that reset ID_FS_TYPE), or have a unit run vgchange -aay {group} before guests start; an order alone does not help"},
	timeline.CureSystemID:    {text: "start the guest on that host; vgchange --systemid only if no other host uses {group} any more"},
	timeline.CureCluster:     {text: "start clvmd before guests, or make {group} a shared one as lvmlockd(8) says; with LVM 2.03 there is no clvmd"},
	timeline.CureRenameGroup: {text: "rename one of the groups by its UUID (vgs -o +vg_uuid; vgrename UUID NAME)"},
	timeline.CureDuplicate:   {text: "find out what the second disk is (pvs -a -o +pv_duplicate): another path to the same one needs multipath, a copy has to be hidden by a filter, or to get names of its own (vgimportclone)"},
	timeline.CureMetadata:    {text: "look at what vgs and pvck say of that disk before anything is written to it"},
	timeline.CureHealth:      {text: "look what is wrong (lvs -a -o +lv_health_status,devices {group}, the kernel's log)"},
	timeline.CurePoolMessage: {text: "look at what lvchange -ay {pool} says"},
	timeline.CureHoldInside:  {text: "keep such a start back: `mode: enforce` with `enforce.filesystem: hold`"},
	timeline.CureGiveBack:    {text: "give the device back what is missing before the guest starts again: activate or extend the volume, or make the table again that it had. Nothing inside needs repair, and no repair can help before"},
	timeline.CureFindPart:    {text: "keep the guest from starting, and find out what the disk was made of: `bootrace show` has the tables of earlier boots"},
	timeline.CureGuestRepair: {text: "copy the disk or take a snapshot, then repair what is damaged with its own tools, but only where no part of the device is missing: a file system from the guest's rescue system (xfs_repair, e2fsck -p, btrfs check, chkdsk), a partition table with gdisk or sfdisk, a qcow2 with qemu-img check -r; `bootrace inspect {guest}` says more"},
	timeline.CureGuestCheck:  {text: "copy the disk or take a snapshot, and have the guest check the file system before it is mounted"},
	timeline.CureWhichCopy:   {text: "if no snapshot was restored on purpose, find out which copy of the disk is the right one before the guest writes more"},
	timeline.CureLeaveAlone:  {text: "change nothing on its disks: the guest goes on from there, and what it remembers of them would be wrong"},
	timeline.CurePoolPart:    {text: "lvchange -an {part}, then lvchange -ay {volume}"},
}

// commands are those of a cause's cures, in the order of the cures.
func commands(v *timeline.Verdict, c *timeline.Cause, deadline time.Duration) []string {
	var list []string
	for _, cure := range c.Cures {
		if of := cures[cure].commands; of != nil {
			list = append(list, of(v, c, deadline)...)
		}
	}
	return list
}

// eachVolume does the same to each volume that a cause is about.
func eachVolume(form string) func(*timeline.Verdict, *timeline.Cause, time.Duration) []string {
	return func(_ *timeline.Verdict, c *timeline.Cause, _ time.Duration) []string {
		var list []string
		for _, disk := range c.Disks {
			if vol, ok := plainVolume(disk); ok {
				list = append(list, fmt.Sprintf(form, vol))
			}
		}
		return list
	}
}

func acceptCommand(v *timeline.Verdict, _ *timeline.Cause, _ time.Duration) []string {
	if !plainName.MatchString(v.Guest) {
		return nil
	}
	return []string{"bootrace accept " + v.Guest}
}

func extendCommand(_ *timeline.Verdict, c *timeline.Cause, _ time.Duration) []string {
	vol, ok := plainVolume(first(c.Disks))
	if !ok || c.Last == nil || c.Last.Size <= 0 {
		return nil
	}
	return []string{fmt.Sprintf("lvextend -L %db %s", c.Last.Size, vol)}
}
