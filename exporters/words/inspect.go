package words

import "github.com/bootrace/bootrace/tracer/inspect"

// TroubleMeaning says what a kind of trouble inside a disk means for the guest,
// and what to do about it. incomplete is set where bytes of the same disk are
// missing: a repair then writes, fails, and makes it worse (measured with xfs_repair
// on a disk that was cut).
func TroubleMeaning(k inspect.TroubleKind, incomplete bool) (means, do string) {
	t := troubles[k]
	if incomplete && (k == inspect.Damaged || k == inspect.FSErrors) {
		return t.means, "Repair nothing before the device is whole again: a repair would write to it and fail."
	}
	return t.means, t.do
}

var troubles = map[inspect.TroubleKind]struct{ means, do string }{
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

// StateMeaning says what a state inside a disk means for the guest's next start;
// empty where it means nothing.
func StateMeaning(s inspect.State) string { return insideStates[s] }

var insideStates = map[inspect.State]string{
	inspect.StateDirty: "Dirty is normal after a power cut, in a snapshot, and of a guest that runs: the guest's own kernel replays the log " +
		"when it mounts the file system. Repair nothing.",
	inspect.StateHibernated: "The guest was suspended to disk, and goes on from there. Change nothing on its disks: what it remembers of them would be wrong.",
	inspect.StateEncrypted:  "What is inside can't be seen without the key.",
}
