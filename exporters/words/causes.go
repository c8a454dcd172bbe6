package words

import "github.com/bootrace/bootrace/tracer/timeline"

// causeWords tell one cause, after "guest NAME:". Where one of the others is set and
// fits, it is told instead of text.
type causeWords struct {
	text     string
	risk     string // where it went well, or can
	looked   string // where somebody looked for the disk, and no guest ever ran on it
	unopened string // of a disk that the guest did not live to open
	dropped  string // where libvirt gave up before it executed qemu
}

// wasOn is what the guest last ran on.
const wasOn = "[; in boot {lastboot} it was {last}][ by {lastpath}][, {lastsize}]"

// causes has an entry for each kind of cause.
var causes = map[string]causeWords{
	timeline.CauseTooLate: {
		risk:     "at risk. It found {disks}, but only just[; {why}].[ {taken}.]",
		text:     "too late. It looked for {disks} before {it} {was} ready[; {why}].[ {taken}.][ It was held before that for {held}, in vain.]",
		looked:   "too late. [{looker} looked for ]{disks} before {it} {was} ready, and no guest ran on it since[; {why}].[ {taken}.]",
		unopened: "next in line. It ended before it opened {disks}, which {was} not ready either[; {why}].[ {taken}.]",
		dropped:  "too late. libvirt was about to start it before {disks} {was} ready, and gave up[; {why}].[ {taken}.]",
	},
	timeline.CauseNeverActivated: {
		text:     "never activated. Nothing made {disks} ready in this boot.",
		looked:   "never activated. [{looker} looked for ]{disks} in vain, and nothing made that ready in this boot.",
		unopened: "next in line. It ended before it opened {disks}, and nothing made {it} ready in this boot.",
		dropped:  "never activated. libvirt was about to start it, and gave up: nothing made {disks} ready in this boot.",
	},
	timeline.CauseHalfActivated: {
		text:    "never finished. {disks} {was} made in this boot, but never got so far that a guest can use it[ (by {by})].",
		dropped: "never finished. libvirt was about to start it, and gave up: {disks} {was} made in this boot, but never got so far that a guest can use it.",
	},
	timeline.CauseNoFile: {
		text:     "no file. The file system was mounted, and {disks} {was} not on it.",
		unopened: "next in line. It ended before it opened {disks}, and {it} {was} not on the file system, which was mounted.",
	},
	timeline.CauseLinkMissing: {
		text: "no path. Its device was there, and {disks} did not lead to it: something removed the link, or udev did not make it again.",
	},
	timeline.CauseDeactivated: {
		text:   "deactivated again. {disks} had been ready, and was taken away before the guest came[, by {by}].",
		looked: "deactivated again. {disks} had been ready, and was taken away before somebody looked[: by {by}].",
	},
	timeline.CauseAnotherDevice: {
		text: "another device[, and a shorter one{?shorter}]. {disks} led to something else than this guest should run on[: {now}][, {size}]" + wasOn + ".[ What lay beyond the end{?shorter} is not there for the guest: a file system that reaches that far is broken{?unproved}.] [Inside, {layer} needs {needs} and has {has}: short by {short}.]",
	},
	timeline.CauseShorterDevice: {
		text: "a shorter device. {disks} {was} smaller than what this guest should run on[: {size}][ instead of {lastsize}]. [What lay beyond the end is not there for the guest: a file system that reaches that far is broken{?unproved}.] [Inside, {layer} needs {needs} and has {has}: short by {short}.]",
	},
	timeline.CauseTruncated: {
		text: "truncated. Inside {disks}, {layer} needs {needs} and has {has}: short by {short}[, since boot {since}][; in boot {whole} it had all][ on {wholeon}]. The guest's kernel refuses to mount what passes the end of its device, or cuts it off; a start that fails can write to the disk and make it worse.",
		risk: "at risk. Inside {disks}, {layer} needs {needs} and has {has}: short by {short}. Its partitions fit all the same.",
	},
	timeline.CausePartMissing: {
		text: "a missing part. Inside {disks}, {layer}: {seen}. The size is right, and another device, or a blank one, has the place of that part.",
	},
	timeline.CauseDamaged: {
		text: "damaged. Inside {disks}, {layer} is damaged at its byte {atbyte}: {seen}[, and {more}]. The guest's kernel checks that, too, and may refuse to mount it.",
		risk: "at risk. Inside {disks}, {layer} is damaged at its byte {atbyte}: {seen}[, and {more}]. That is a copy, which is not needed as long as the first one is sound.",
	},
	timeline.CauseRolledBack: {
		text: "at risk: rolled back. Inside {disks}, {layer} is older than this guest had it in boot {whole}.",
	},
	timeline.CauseFSErrors: {
		text: "errors. Inside {disks}, {layer} says of itself that it has errors: {seen}.",
		risk: "at risk. Inside {disks}, {layer} says of itself that it has errors: {seen}. Kernels mount it all the same.",
	},
	timeline.CauseHibernated: {
		text: "at risk: hibernated. Inside {disks}, {layer}: {seen}.",
	},
	timeline.CauseNoDevice: {
		text: "no device. {disks} is a regular file: something wrote to the path before the device was there.",
	},
	timeline.CauseRenamed: {
		text: "renamed. {disks} led to nothing: what it meant is there as {nowpath}[, renamed by {by}][; in boot {lastboot} this guest ran on it as {last}].",
	},
	timeline.CausePulled: {
		text: "pulled out. {disks} went while the guest ran[: {beneath} beneath it was removed]. Its reads and writes fail from then on.",
		risk: "at risk. {disks} went while the guest ran: its reads and writes fail, unless it had been detached from the guest before.",
	},
	timeline.CauseInUse: {
		text: "in use. {disks} {was} there in time, but somebody else had it[: guest {holder}].",
	},
	timeline.CausePermission: {
		text: "not allowed. {disks} {was} there, and the guest's process had no right to open it, or not for writing[ ({error})].",
	},
	timeline.CauseFilePermission: {
		text: "not allowed. {disks} {was} there, and the guest's process had no right to open it[ ({error})].",
	},
	timeline.CauseOpenError: {
		text: "the open failed: {disks} could not be opened[ ({error})].",
	},
	timeline.CauseNeither: {
		text: "it ended with an error, and not for coming too early: it opened {disks} with success, and {it} {was} ready before.",
	},
	timeline.CauseUnexplained: {
		text: "it ended with an error. Whether its disks are the cause is not known: {unproven}.",
	},
	timeline.CauseDeniedInside: {
		text: "denied. Its start was refused[ after {held}], because what is inside {disks} is not whole (enforce.filesystem).",
	},
	timeline.CauseDenied: {
		text: "denied. Its start was held[ for {held}], {disks} did not get ready in that time, and the start was refused.[ {taken}.]",
	},
	timeline.CauseKilled: {
		text: "killed while it was held. Its start waited[ {held}] for {disks}, and something ended it before.",
	},
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
