package words

import "github.com/bootrace/bootrace/tracer/inspect"

// meaning is what something inside a disk means for the guest, and what to do about it.
type meaning struct{ means, do string }

// TroubleMeaning says what trouble inside a disk means for the guest, and what to do
// about it. incomplete is set where bytes of the same disk are missing: a repair then
// writes, fails, and makes it worse (measured with xfs_repair on a disk that was cut).
func TroubleMeaning(t *inspect.Trouble, incomplete bool) (means, do string) {
	m := troubles[t.Kind]
	if other, ok := damages[t.In]; ok && t.Kind == inspect.Damaged {
		m = other
	}
	if incomplete && (t.Kind == inspect.Damaged || t.Kind == inspect.FSErrors) {
		return m.means, "Repair nothing before the device is whole again: a repair would write to it and fail."
	}
	return m.means, m.do
}

// damages are what damage means where it is not a file system's.
var damages = map[inspect.Kind]meaning{
	inspect.KindImage: {
		"qemu opens such an image for reading only: a guest that has to write does not start.",
		"Copy the image first. Then, while nothing uses it, let qemu-img check -r all repair it.",
	},
	inspect.KindGPT: table,
	inspect.KindMBR: table,
	inspect.KindPV: {
		"The guest's LVM goes by what is sound: a label or metadata without a sound copy hides the group, and all volumes in it.",
		"Copy the disk or take a snapshot first. Then, from the guest's rescue system, look with pvck, and let vgcfgrestore write the metadata again from the guest's /etc/lvm/backup.",
	},
	inspect.KindLUKS: {
		"Without a sound header nothing can be decrypted, whatever the key.",
		"Copy the disk or take a snapshot first. cryptsetup repair, or luksHeaderRestore from a backup of the header, from the guest's rescue system.",
	},
}

var table = meaning{
	"The guest's kernel and firmware go by what is sound of the table, and do not see partitions that it does not have.",
	"Copy the disk or take a snapshot first. Then let the guest's rescue system write the table again: gdisk from the GPT's other copy, sfdisk from a dump. File systems need no repair for it.",
}

var troubles = map[inspect.TroubleKind]meaning{
	inspect.Truncated: {
		"The guest's kernel refuses to mount what passes the end of its device, or clips it. A start that fails can write to the disk and make it worse.",
		"Keep the guest from starting. Give the device back its size first: activate or extend the volume, or make the table again that the guest had. Nothing inside needs repair, and no repair can help before.",
	},
	inspect.PartMissing: {
		"The size is right, but another device or a blank one has the place of the second part. The guest finds a broken file system.",
		"Keep the guest from starting, and find out what the disk was made of: bootrace show has the tables of earlier boots.",
	},
	inspect.Damaged: {
		"The guest's kernel checks this header too, and may refuse to mount the file system.",
		"Copy the disk or take a snapshot first. Then let the guest's own tools repair it, from its rescue system: xfs_repair, e2fsck -p, btrfs check, chkdsk. " +
			"An XFS whose log is dirty has to be mounted once before, which replays it; xfs_repair -L throws the log away, and files with it.",
	},
	inspect.FSErrors: {
		"The file system says so itself: the guest's kernel noted it, or a repair did not come to its end.",
		"Copy the disk or take a snapshot first, and let the guest check the file system before it is mounted.",
	},
}

// StateMeaning says what the state of a layer means for the guest's next start;
// empty where it means nothing.
func StateMeaning(l *inspect.Layer) string {
	switch {
	case l.State == inspect.StateDirty && len(l.Unknown) > 0:
		return "" // which may say that it is not replayed
	case l.State == inspect.StateDirty && !l.Replayed():
		return "Dirty is normal after a power cut, in a snapshot, and of a guest that runs. Where there is no log to replay, and of NTFS, " +
			"the guest's own system checks the file system when it starts."
	}
	return insideStates[l.State]
}

var insideStates = map[inspect.State]string{
	inspect.StateDirty: "Dirty is normal after a power cut, in a snapshot, and of a guest that runs: the guest's own kernel replays the log " +
		"when it mounts the file system. Repair nothing.",
	inspect.StateHibernated: "The guest was suspended to disk, and goes on from there. Change nothing on its disks: what it remembers of them would be wrong.",
	inspect.StateEncrypted:  "What is inside can't be seen without the key.",
}
