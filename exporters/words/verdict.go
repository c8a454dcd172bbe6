package words

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// wasOn is what the guest last ran on.
const wasOn = "[; in boot {lastboot} it was {last}][ by {lastpath}][, {lastsize}]"

// causeTexts tell a cause, after "guest NAME".
var causeTexts = map[string]string{
	timeline.CauseTooLate:        "too late. It looked for {disks} before {it} {was} ready[; {why}].[ {taken}.][ It was held before that for {held}, in vain.]",
	timeline.CauseNeverActivated: "never activated. Nothing made {disks} ready in this boot.",
	timeline.CauseHalfActivated:  "never finished. {disks} {was} made in this boot, but never got so far that a guest can use it[ (by {by})].",
	timeline.CauseLinkMissing:    "no path. Its device was there, and {disks} did not lead to it: something removed the link, or udev did not make it again.",
	timeline.CauseDeactivated:    "deactivated again. {disks} had been ready, and was taken away before the guest came[, by {by}].",
	timeline.CauseAnotherDevice:  "another device[, and a shorter one{shorter}]. {disks} led to something else than this guest should run on[: {now}][, {size}]" + wasOn + ".[ What lay beyond the end{shorter} is not there for the guest: a file system that reaches that far is broken{unproved}.] [Inside, {layer} needs {needs} and has {has}: short by {short}.]",
	timeline.CauseShorterDevice:  "a shorter device. {disks} {was} smaller than what this guest should run on[: {size}][ instead of {lastsize}]. [What lay beyond the end is not there for the guest: a file system that reaches that far is broken{unproved}.] [Inside, {layer} needs {needs} and has {has}: short by {short}.]",
	timeline.CauseTruncated:      "truncated. Inside {disks}, {layer} needs {needs} and has {has}: short by {short}[, since boot {since}][; in boot {whole} it had all][ on {wholeon}]. The guest's kernel refuses to mount what passes the end of its device, or cuts it off; a start that fails can write to the disk and make it worse.",
	timeline.CausePartMissing:    "a missing part. Inside {disks}, {layer}: {seen}. The size is right, and another device, or a blank one, has the place of that part.",
	timeline.CauseDamaged:        "damaged. Inside {disks}, {layer} is damaged at its byte {atbyte}: {seen}[, and {more}]. The guest's kernel checks that, too, and may refuse to mount it.",
	timeline.CauseRolledBack:     "at risk: rolled back. Inside {disks}, {layer} is older than this guest had it in boot {whole}.",
	timeline.CauseFSErrors:       "errors. Inside {disks}, {layer} says of itself that it has errors: {seen}.",
	timeline.CauseHibernated:     "at risk: hibernated. Inside {disks}, {layer}: {seen}.",
	timeline.CauseNoDevice:       "no device. {disks} is a regular file: something wrote to the path before the device was there.",
	timeline.CauseRenamed:        "renamed. {disks} led to nothing: what it meant is there as {nowpath}[, renamed by {by}][; in boot {lastboot} this guest ran on it as {last}].",
	timeline.CausePulled:         "pulled out. {disks} went while the guest ran[: {beneath} beneath it was removed]. Its reads and writes fail from then on.",
	timeline.CauseInUse:          "in use. {disks} {was} there in time, but somebody else had it[: guest {holder}].",
	timeline.CausePermission:     "not allowed. {disks} {was} there, and the guest's process had no right to open it[ ({error})].",
	timeline.CauseFilePermission: "not allowed. {disks} {was} there, and the guest's process had no right to open it[ ({error})].",
	timeline.CauseOpenError:      "the open failed. {disks} {was} there, and could not be opened[ ({error})].",
	timeline.CauseNeither:        "it ended with an error, and its disks are not the cause. It opened {disks} with success, and {it} {was} ready before.",
	timeline.CauseUnexplained:    "it ended with an error. Whether its disks are the cause is not known: {unproven}.",
	timeline.CauseDeniedInside:   "denied. Its start was refused[ after {held}], because what is inside {disks} is not whole (enforce.filesystem).",
	timeline.CauseDenied:         "denied. Its start was held[ for {held}], {disks} did not get ready in that time, and the start was refused.[ {taken}.]",
	timeline.CauseKilled:         "killed while it was held. Its start waited[ {held}] for {disks}, and something ended it before.",
}

// riskText tells a cause where it went well.
const riskText = "at risk. It found {disks}, but only just[; {why}].[ {taken}.]"

// riskTruncated and riskDamaged tell of what a guest can come up with.
const (
	riskTruncated = "at risk. Inside {disks}, {layer} needs {needs} and has {has}: short by {short}. Its partitions fit all the same."
	riskErrors    = "at risk. Inside {disks}, {layer} says of itself that it has errors: {seen}. Kernels mount it all the same."
	riskDamaged   = "at risk. Inside {disks}, {layer} is damaged at its byte {atbyte}: {seen}[, and {more}]. That is a copy, which is not needed as long as the first one is sound."
)

// riskPulled tells of a disk that the guest may have given up before it went.
const riskPulled = "at risk. {disks} went while the guest ran: its reads and writes fail, unless it had been detached from the guest before."

// unopenedTexts tell a cause that the guest did not live to see.
var unopenedTexts = map[string]string{
	timeline.CauseTooLate:        "next in line. It ended before it opened {disks}, which {was} not ready either[; {why}].[ {taken}.]",
	timeline.CauseNeverActivated: "next in line. It ended before it opened {disks}, and nothing made {it} ready in this boot.",
}

// droppedTexts tell a cause where libvirt gave up.
var droppedTexts = map[string]string{
	timeline.CauseTooLate:        "too late. libvirt was about to start it before {disks} {was} ready, and gave up[; {why}].[ {taken}.]",
	timeline.CauseNeverActivated: "never activated. libvirt was about to start it, and gave up: nothing made {disks} ready in this boot.",
	timeline.CauseHalfActivated:  "never finished. libvirt was about to start it, and gave up: {disks} {was} made in this boot, but never got so far that a guest can use it.",
}

// lookedTexts tell for whom a cause is where no guest ever ran.
var lookedTexts = map[string]string{
	timeline.CauseTooLate:        "too late. [{looker} looked for ]{disks} before {it} {was} ready, and no guest ran on it since[; {why}].[ {taken}.]",
	timeline.CauseNeverActivated: "never activated. [{looker} looked for ]{disks} in vain, and nothing made that ready in this boot.",
	timeline.CauseDeactivated:    "deactivated again. {disks} had been ready, and was taken away before somebody looked[: by {by}].",
}

// settingTexts say what LVM answered, after "LVM says that".
var settingTexts = map[string]string{
	timeline.SettingNoGroup:         "it knows no such volume group",
	timeline.SettingNoVolume:        "it knows no such volume",
	timeline.SettingDamaged:         "it could not read the metadata of a disk[ ({said})], which may be where the volume is",
	timeline.SettingFilter:          "a filter is set, which can hide disks from it[ ({filter})]",
	timeline.SettingDevicesFile:     "devices/use_devicesfile is 1, so it looks only at disks that its devices file lists, where there is one",
	timeline.SettingForeign:         "the volume group belongs to another host[, system ID {owner}]",
	timeline.SettingClustered:       "the volume group is clustered, so it passes over it unless clvmd runs",
	timeline.SettingSameName:        "more than one volume group has this name",
	timeline.SettingDuplicate:       "a physical volume of the group is there twice[, again on {devices}], and so it activates nothing of the group",
	timeline.SettingExported:        "the volume group is exported",
	timeline.SettingIncomplete:      "physical volumes of the group are missing",
	timeline.SettingUnhealthy:       "the volume is not healthy",
	timeline.SettingSkip:            "the volume has the flag to skip activation",
	timeline.SettingAutoActivation:  "autoactivation is off for it",
	timeline.SettingAutoList:        "activation/auto_activation_volume_list does not name it",
	timeline.SettingVolumeList:      "activation/volume_list does not name it",
	timeline.SettingEventActivation: "global/event_activation is 0, so no device that appears activates anything",
	timeline.SettingShared:          "the group is shared, so lvmlockd has to start its locks first",
}

// inferredTexts are sentences: what follows from the record, and not from LVM's
// answer alone.
var inferredTexts = map[string]string{
	timeline.SettingNotAnnounced:   "udev did not tell that {devices} is LVM's (its event has no ID_FS_TYPE=LVM2_member), so the rule that activates the group did not run for that disk.",
	timeline.SettingFilterLinks:    "LVM's filter rejects {devices} by its own name[ ({filter})] and accepts it only by a link, which udev has not made yet when its rule asks LVM about the disk.",
	timeline.SettingPool:           "The metadata of its thin pool {pool} came up and was taken down again, and the pool did not come up: a check that failed, as a rule.",
	timeline.SettingPoolUnfinished: "The parts of its thin pool {pool} came up, and the pool itself did not: its check still ran, or hung, when the record ended.",
	timeline.SettingPoolPart:       "{part}, a part of its thin pool {pool}, is active by itself, and LVM refuses to activate the pool as long as it is.",
	timeline.SettingPoolGivenUp:    "Its thin pool {pool} came up and was taken down at once by the same command[, {by}]: LVM gave it up, for a transaction_id that differs or a message to the pool that failed, as a rule.",
	timeline.SettingPoolTakenDown:  "Its thin pool {pool} came up and was deactivated again later[, by {by}].",
}

// cureTexts say what to do. {volume} is VG/LV, {group} its VG.
var cureTexts = map[string]string{
	timeline.CureHold:            "keep its start back until the disk is ready: set `mode: enforce`; where something looks for the disk before it starts the guest, have it run `bootrace wait` first",
	timeline.CureLongerHold:      "keep its start back until the disk is ready: [set `mode: enforce` with{trace} ]a `deadline` above[ {wait},] what that takes[ ({deadline} is not enough)], in general or in `enforce.guests`; and have what starts the guest wait as long",
	timeline.CureHoldProgram:     "keep its start back until the disk is ready: add its program[, {program},] to `enforce.binaries`[, and set `mode: enforce`{trace}]",
	timeline.CureWait:            "have what starts it run `bootrace wait` first: on this kernel no start is held for longer than {deadline}",
	timeline.CureOrder:           "let what starts guests run after what activates their volumes[, here {by}]",
	timeline.CureAutoActivation:  "lvchange --setautoactivation y {volume} (or vgchange, if the group has it off), unless something else is meant to activate it",
	timeline.CureSkip:            "lvchange --setactivationskip n {volume}",
	timeline.CureAutoList:        "add {volume} to activation/auto_activation_volume_list in lvm.conf, and rebuild the initramfs",
	timeline.CureVolumeList:      "add {volume} to activation/volume_list in lvm.conf, and rebuild the initramfs",
	timeline.CureEventActivation: "set global/event_activation=1 in lvm.conf, or have a unit run vgchange -aay before guests start",
	timeline.CureMissingPV:       "bring the missing physical volume of {group} back (pvs and vgs -o +vg_missing_pv_count name it); look at the devices file (lvmdevices) and at filters",
	timeline.CureWaitForDevice:   "order the start after the device beneath, which is what comes late",
	timeline.CureThinCheck:       "the thin pool's metadata is checked at each activation: give it time, or look why it takes so long (thin_check)",
	timeline.CureUdev:            "look for a slow udev rule or a flood of devices (udevadm monitor --property)",
	timeline.CureRepair:          "only if that shows damage, and after a copy of the disks: lvconvert --repair {repairable}",
	timeline.CureImport:          "vgimport {group}, if it is not meant for another host",
	timeline.CureLockStart:       "start lvmlockd and the group's locks (vgchange --lockstart {group}) before guests",
	timeline.CureRecreate:        "if the mapping was made with dmsetup, nothing makes it again after a reboot: have a unit make it at boot",
	timeline.CureFindVolume:      "look where the volume went: renamed, removed, or in another group (lvs -a)",
	timeline.CureFindRemover:     "find out what took it away and why, or order that before what makes it ready",
	timeline.CureLinks:           "make the links again: udevadm trigger --settle --subsystem-match=block, or vgmknodes",
	timeline.CureRefresh:         "lvchange --refresh or dmsetup resume, and find out what stopped half way",
	timeline.CureExtend:          "somebody made the volume smaller: give it its size back (lvextend {volume}) before the guest writes",
	timeline.CureNoFallback:      "what starts the guest must not take another path when the right one is not there",
	timeline.CureGrow:            "somebody made the device smaller: give it its size back before the guest writes",
	timeline.CureFindDisk:        "find the disk that it ran on (lsblk -o NAME,SIZE,SERIAL,WWN), and what the path is made of: a name such as sdb is another disk's in the next boot",
	timeline.CureMount:           "mount the file system of the image before the guest starts, and let nothing lie below the mount point",
	timeline.CureRename:          "change the guest's configuration to {nowpath}, or give the disk its old name back",
	timeline.CureBringBack:       "bring the disk back, and stop and start the guest: what it has open stays dead",
	timeline.CureAccept:          "if the new disk is right, `bootrace accept {guest}`: the alarm stays until then, or until the old disk is back",
	timeline.CureRemoveFile:      "remove the file, and make the device's node again (udevadm trigger, vgmknodes)",
	timeline.CureRelease:         "stop the other user of the disk, or wait for it",
	timeline.CurePermission:      "set the owner and mode of the device in a udev rule",
	timeline.CureFileRights:      "it is a file: look at its owner and mode, at those of its folders, and at what AppArmor or SELinux denied (journalctl -k, ausearch -m avc)",
	timeline.CureFill:            "find what gives the device its content: losetup, nbd-client, the session or the controller behind it; the kernel announced it empty",
	timeline.CureAttach:          "find out why the device did not appear: its cable, driver, target or session (journalctl -k); nothing in this boot announced it",
	timeline.CureAssemble:        "assemble the array (mdadm --assemble --scan), and look at mdadm.conf, also the copy in the initramfs",
	timeline.CureZvol:            "look whether the pool was imported (zpool status), and order the guests after zfs-volume-wait.service, which waits for the links",
	timeline.CureDRBD:            "bring the resource up (drbdadm up) before guests start: drbd.service, or what manages the cluster",
	timeline.CureRBD:             "map the image before guests start: rbdmap.service and /etc/ceph/rbdmap, or what starts the guest",
	timeline.CurePath:            "find what makes that file or link: a mount that did not come, or what starts the guest and links its disks",
	timeline.CureMultipath:       "look why multipathd did not make the map (multipath -ll, multipath.conf)",
	timeline.CureLookInside:      "look at what the guest's program printed and logged, and inside the guest",
	timeline.CureLauncher:        "make the disk come sooner, or let what starts the guest wait longer than the hold lasts",
	timeline.CureAskAgain:        "ask LVM: lvs -o +lv_skip_activation {volume}, and from LVM 2.03.12 on lvs -o +lv_autoactivation,vg_autoactivation {volume}; the running service asks by itself some time after the boot",
	timeline.CureActivate:        "look at what lvchange -ay {volume} says; if that works, nothing at boot activates it: have a unit do so before guests start",
	timeline.CureFindGroup:       "look whether the disks of {group} are there (lsblk, blkid), and whether LVM sees them (pvs -a)",
	timeline.CureFilter:          "look whether that filter in lvm.conf hides the disks of {group}; the initramfs has its own copy",
	timeline.CureDevicesFile:     "look whether the devices file lists the disks of {group} (lvmdevices; lvmdevices --adddev DISK)",
	timeline.CureFilterLinks:     "write the filter with names that are there when the disk appears (/dev/sd.*), or have a unit run vgchange -aay {group} before guests start; an order alone does not help",
	timeline.CureUdevRule:        "look why udev does not say so (udevadm test, blkid -p, rules that reset ID_FS_TYPE), or have a unit run vgchange -aay {group} before guests start; an order alone does not help",
	timeline.CureSystemID:        "start the guest on that host; vgchange --systemid only if no other host uses {group} any more",
	timeline.CureCluster:         "start clvmd before guests, or make {group} a shared one as lvmlockd(8) says; with LVM 2.03 there is no clvmd",
	timeline.CureRenameGroup:     "rename one of the groups by its UUID (vgs -o +vg_uuid; vgrename UUID NAME)",
	timeline.CureDuplicate:       "find out what the second disk is (pvs -a -o +pv_duplicate): another path to the same one needs multipath, a copy has to be hidden by a filter, or to get names of its own (vgimportclone)",
	timeline.CureMetadata:        "look at what vgs and pvck say of that disk before anything is written to it",
	timeline.CureHealth:          "look what is wrong (lvs -a -o +lv_health_status,devices {group}, the kernel's log)",
	timeline.CurePoolMessage:     "look at what lvchange -ay {pool} says",
	timeline.CureHoldInside:      "keep such a start back: `mode: enforce` with `enforce.filesystem: hold`",
	timeline.CureGiveBack:        "give the device back what is missing before the guest starts again: activate or extend the volume, or make the table again that it had. Nothing inside needs repair, and no repair can help before",
	timeline.CureFindPart:        "keep the guest from starting, and find out what the disk was made of: `bootrace show` has the tables of earlier boots",
	timeline.CureGuestRepair:     "copy the disk or take a snapshot, then let the guest's own tools repair it from its rescue system (xfs_repair, e2fsck -p, btrfs check, chkdsk), but only where no part of the device is missing; `bootrace inspect {guest}` says more",
	timeline.CureGuestCheck:      "copy the disk or take a snapshot, and have the guest check the file system before it is mounted",
	timeline.CureWhichCopy:       "if no snapshot was restored on purpose, find out which copy of the disk is the right one before the guest writes more",
	timeline.CureLeaveAlone:      "change nothing on its disks: the guest goes on from there, and what it remembers of them would be wrong",
	timeline.CurePoolPart:        "lvchange -an {part}, then lvchange -ay {volume}",
}

// Cause says what one cause of a verdict comes to, and what helps: a paragraph
// that begins with whom it is about.
func (t *Teller) Cause(v *timeline.Verdict, c *timeline.Cause) Paragraph {
	var p Paragraph
	if v.Guest == "" {
		p.Say("No guest on", Plain)
		p.Add(t.Name(first(c.Disks), PathCols)+":", Strong)
	} else {
		p.Say("Guest", Plain)
		p.Add(t.Name(v.Guest, NameCols)+":", Strong)
	}
	p.Append(t.reason(v, c))
	t.cures(&p, c, t.saysCause(v, c))
	return p
}

// reason is Cause without whom it is about, and without what helps.
func (t *Teller) reason(v *timeline.Verdict, c *timeline.Cause) Paragraph {
	var p Paragraph
	says := t.saysCause(v, c)
	unproven := c.Withheld != "" && c.Kind != timeline.CauseUnexplained // which says it itself
	if unproven {
		p.Say("perhaps", Warn)
	}
	p.tell(" "+causeText(v, c), says)
	t.answer(&p, c, says)
	if unproven {
		p.Say("The record does not prove it:", Strong)
		p.Say(t.Name(c.Withheld, PathCols)+".", Plain)
	}
	return p
}

// causeText returns the template that tells c.
func causeText(v *timeline.Verdict, c *timeline.Cause) string {
	switch {
	case v.Guest == "" && lookedTexts[c.Kind] != "":
		return lookedTexts[c.Kind]
	case v.Guest == "":
	case c.Kind == timeline.CausePulled && c.Outcome == timeline.OutcomeAtRisk:
		return riskPulled
	case c.Kind == timeline.CauseTruncated && c.Outcome == timeline.OutcomeAtRisk:
		return riskTruncated
	case c.Kind == timeline.CauseFSErrors && c.Outcome == timeline.OutcomeAtRisk:
		return riskErrors
	case c.Kind == timeline.CauseDamaged && c.Outcome == timeline.OutcomeAtRisk:
		return riskDamaged
	case c.Outcome == timeline.OutcomeAtRisk && c.Inside == nil:
		return riskText
	case c.Unopened && unopenedTexts[c.Kind] != "":
		return unopenedTexts[c.Kind]
	case slices.Contains(c.Findings, timeline.NotExecuted) && droppedTexts[c.Kind] != "":
		return droppedTexts[c.Kind]
	}
	return cmp.Or(causeTexts[c.Kind], "{kind}. It concerns {disks}.")
}

// NotKnown says why it is not known how a start went.
func (t *Teller) NotKnown(v *timeline.Verdict) Paragraph {
	var p Paragraph
	p.Say("Guest", Plain)
	p.Add(t.Name(v.Guest, NameCols)+":", Strong)
	p.Append(t.notKnown(v))
	return p
}

func (t *Teller) notKnown(v *timeline.Verdict) Paragraph {
	var p Paragraph
	p.Say("not known.", Warn)
	for _, why := range v.Unknown {
		p.Say(Capital(t.Name(why, PathCols))+".", Plain)
	}
	return p
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// answer says what LVM had to say, and what follows.
func (t *Teller) answer(p *Paragraph, c *timeline.Cause, says part) {
	var told, inferred []string
	for _, s := range c.Settings {
		if timeline.Inferred(s) {
			inferred = append(inferred, s)
		} else {
			told = append(told, s)
		}
	}
	switch {
	case len(c.Settings) > 0:
	case c.NoAnswer != "":
		p.Say("LVM was asked for the reason, and gave no answer: "+t.Name(c.NoAnswer, PathCols)+".", Plain)
	case c.Kind == timeline.CauseNeverActivated && c.Asked:
		p.Say("LVM knows the volume, and no setting that forbids its activation. Why nothing activated it is not known.", Plain)
	}
	for i, s := range told {
		if i == 0 {
			p.Say("LVM says that", Plain)
		} else {
			p.Say("and that", Plain)
		}
		text, ok := settingTexts[s]
		if !ok {
			p.Say(t.Name(s, NameCols), Strong)
			continue
		}
		p.tell(" "+text, says)
	}
	if len(told) > 0 {
		p.Join(".", Plain)
	}
	for _, s := range inferred {
		p.tell(" "+inferredTexts[s], says)
	}
}

// cures says what helps, in order.
func (t *Teller) cures(p *Paragraph, c *timeline.Cause, says part) {
	for i, cure := range c.Cures {
		text, ok := cureTexts[cure]
		if !ok {
			text = t.Name(cure, NameCols)
		}
		if i == 0 {
			p.Say("To do:", Good)
		} else {
			p.Say("or:", Good)
		}
		p.tell(" "+text, says)
		if i < len(c.Cures)-1 {
			p.Join(";", Plain)
		}
	}
	if len(c.Cures) > 0 {
		p.Join(".", Plain)
	}
}

func (t *Teller) saysCause(v *timeline.Verdict, c *timeline.Cause) part {
	return func(name string) (Span, bool) {
		switch name {
		case "guest":
			return Span{t.Name(cmp.Or(v.Guest, "GUEST"), NameCols), Plain}, true
		case "nowpath":
			return Span{t.Name(c.NowPath, PathCols), Strong}, c.NowPath != ""
		case "beneath":
			return Span{t.Name(c.Beneath, PathCols), Plain}, c.Beneath != ""
		case "disks":
			return Span{t.disks(c.Disks), Strong}, true
		case "it":
			return Span{plural(len(c.Disks), "it", "they"), Plain}, true
		case "was":
			return Span{plural(len(c.Disks), "was", "were"), Plain}, true
		case "taken":
			return t.saysTaken(c)
		case "by":
			return Span{t.process(c.By), Plain}, c.By != nil
		case "looker":
			return Span{t.process(c.Looker), Plain}, c.Looker != nil
		case "holder":
			return Span{t.Name(c.Holder, NameCols), Strong}, c.Holder != ""
		case "unproven":
			return Span{t.Name(c.Withheld, PathCols), Plain}, c.Withheld != ""
		case "held":
			return Span{t.Signs.Duration(c.Held), Plain}, c.Held > 0
		case "error":
			return Span{t.Name(c.Error, NameCols), Plain}, c.Error != ""
		case "kind":
			return Span{t.Name(c.Kind, NameCols), Plain}, true
		case "wait", "deadline", "program", "ended", "trace":
			return t.saysHold(name, c.Hold)
		case "why":
			return Span{t.clause(c.Step), Plain}, c.Step != nil
		case "volume", "group":
			return Span{t.volume(name, first(c.Disks)), Plain}, true
		case "now":
			if c.Device != "" {
				return Span{t.Name(c.Device, PathCols), Strong}, true
			}
			return Span{t.Name(cmp.Or(c.Mapping, "a device that is not known"), NameCols), Strong}, c.Last != nil
		case "size":
			return Span{Bytes(c.Size), Strong}, c.Size > 0
		case "shorter":
			return Span{}, c.Shorter
		case "unproved":
			return Span{}, c.Inside == nil
		}
		if s, ok := t.saysInside(name, c.Inside); ok {
			return s, true
		}
		if s, ok := t.saysLVM(name, c); ok {
			return s, true
		}
		return t.saysLast(name, c.Last)
	}
}

// saysTaken says that the disks had been there before, and what became of that.
func (t *Teller) saysTaken(c *timeline.Cause) (Span, bool) {
	if c.Earlier == nil {
		return Span{}, false
	}
	it := plural(len(c.Disks), "it", "them")
	s := "Before that " + plural(len(c.Disks), "it", "they") + " had been ready"
	switch by := c.Earlier.By; {
	case by != nil && by.Comm != "":
		s += ", until " + t.process(by) + " removed " + it
	case c.Earlier.Removed:
		s += ", and " + plural(len(c.Disks), "was", "were") + " removed again"
	}
	return Span{s, Plain}, true
}

// saysLVM says what a cause's settings are about.
func (t *Teller) saysLVM(name string, c *timeline.Cause) (Span, bool) {
	d := c.LVM
	if d == nil {
		d = &timeline.LVMDetail{}
	}
	switch name {
	case "owner":
		return Span{t.Name(d.Owner, NameCols), Strong}, d.Owner != ""
	case "filter":
		return Span{t.Name(d.Filter, PathCols), Plain}, d.Filter != ""
	case "said":
		return Span{t.Name(d.Said, PathCols), Plain}, d.Said != ""
	case "part":
		return Span{t.Name(d.Part, PathCols), Strong}, d.Part != ""
	case "pool":
		return Span{t.Name(cmp.Or(d.Pool, "VG/POOL"), PathCols), Strong}, true
	case "repairable": // never a thin volume: what can be repaired is its pool
		if d.Pool != "" {
			return Span{t.Name(d.Pool, PathCols), Plain}, true
		}
		return Span{t.volume("volume", first(c.Disks)), Plain}, true
	case "devices":
		if len(d.Devices) == 0 {
			return Span{}, false
		}
		return Span{t.disks(d.Devices), Strong}, true
	}
	return Span{}, false
}

// saysHold says what a hold came to, or would.
func (t *Teller) saysHold(name string, a *timeline.HoldAdvice) (Span, bool) {
	if a == nil {
		return Span{"ended", Plain}, false
	}
	switch name {
	case "trace": // said of what that mode alone needs: it tells nothing itself
		return Span{}, a.Mode == string(config.Trace)
	case "wait":
		return Span{t.Signs.Duration(a.Wait), Plain}, a.Wait > 0
	case "deadline":
		return Span{t.Signs.Duration(a.Deadline), Plain}, a.Deadline > 0
	case "program":
		return Span{t.Name(a.Program, PathCols), Plain}, a.Program != ""
	}
	switch a.Ended {
	case event.HoldDenied:
		return Span{"denied", Plain}, true
	case event.HoldGone:
		return Span{"killed", Plain}, true
	}
	return Span{"not over", Plain}, true
}

// clause is a step as a part of a sentence.
func (t *Teller) clause(s *timeline.AccountStep) string {
	if s == nil {
		return ""
	}
	var p Paragraph
	p.tell(delay(s), t.saysStep(s))
	return p.String()
}

func (t *Teller) disks(list []string) string {
	const most = 4
	var names []string
	for i, d := range list {
		if i == most && len(list) > most+1 {
			names = append(names, itoa(len(list)-most)+" more")
			break
		}
		names = append(names, t.Name(d, PathCols))
	}
	switch n := len(names); n {
	case 0:
		return "its disks"
	case 1:
		return names[0]
	default:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
}

func (t *Teller) volume(what, disk string) string {
	vg, lv, ok := devmap.Volume(disk)
	switch {
	case !ok && what == "group":
		return "VG"
	case !ok:
		return "VG/LV"
	case what == "group":
		return t.Name(vg, NameCols)
	}
	return t.Name(vg+"/"+lv, PathCols)
}

// process tells a process by its command line, and where that came from.
func (t *Teller) process(by *event.Proc) string {
	if by == nil {
		return ""
	}
	s := t.Name(by.Comm, NameCols)
	if len(by.Args) > 0 {
		args := append([]string{path.Base(by.Args[0])}, by.Args[1:]...)
		s = "`" + t.Name(strings.Join(args, " "), PathCols) + "`"
	}
	s += " (process " + itoa(by.PID)
	if by.Unit != "" {
		s += " of " + t.Name(by.Unit, NameCols)
	}
	if by.Parent != "" {
		s += ", started by " + t.Name(by.Parent, NameCols)
	}
	return s + ")"
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// Sound says how many guests had their disks in time: if one of them is down, its
// disks are not the cause.
func (t *Teller) Sound(tl *timeline.Timeline) Paragraph {
	var p Paragraph
	n := tl.Summary.Counts.Fine
	switch {
	case n > 0 && tl.Inspect != "": // what is inside, Insides tells
		p.Say(Count(n, "guest", "guests")+" had all disks in time. If one of them is down, it did not come too early for them.", Dim)
	case n > 0:
		p.Say(Count(n, "guest", "guests")+" had all disks in time. If one of them is down, its disks are not the cause.", Dim)
	}
	return p
}
