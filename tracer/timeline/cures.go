package timeline

import (
	"regexp"
	"strings"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/memory"
)

// Cures. The README beside this file sorts them by what they are about.
const (
	CureHold            = "hold"             // keep the guest's start back until the disk is ready
	CureHoldProgram     = "hold-program"     // no pattern of enforce.binaries names the guest's program
	CureWait            = "wait"             // bootrace wait before the start: a hold can't last so long here
	CureOrder           = "order"            // start the guest after the unit that activates its disk
	CureAutoActivation  = "autoactivation"   // lvchange --setautoactivation y
	CureSkip            = "clear-skip"       // lvchange --setactivationskip n
	CureAutoList        = "auto-list"        // add it to auto_activation_volume_list
	CureVolumeList      = "volume-list"      // add it to volume_list
	CureEventActivation = "event-activation" // event_activation=1, or vgchange -aay at boot
	CureMissingPV       = "missing-pv"       // bring the physical volume back
	CureWaitForDevice   = "wait-for-device"  // the disk beneath is slow: order after it
	CureThinCheck       = "thin-check"       // the pool is checked at each activation
	CureUdev            = "udev"             // udev's queue is long, or a rule slow
	CureRepair          = "repair"           // lvconvert --repair, replace the leg
	CureImport          = "import"           // vgimport
	CureLockStart       = "lockstart"        // lvmlockd before activation
	CureRecreate        = "recreate"         // find what makes the mapping: one of dmsetup's needs a unit that makes it at boot
	CureUnlock          = "unlock"           // crypttab: an encrypted container was not opened
	CureFindVolume      = "find-volume"      // the volume was renamed or removed
	CureFindRemover     = "find-remover"     // find what takes it away
	CureLinks           = "links"            // udevadm trigger, vgmknodes: make the links again
	CureRefresh         = "refresh"          // lvchange --refresh, dmsetup resume
	CureExtend          = "extend"           // give the volume its size back
	CureGrow            = "grow"             // the same of a device that LVM does not know
	CureFindDisk        = "find-disk"        // find the disk that the guest ran on
	CureMount           = "mount"            // mount the file system of the guest's image
	CureNoFallback      = "no-fallback"      // the launcher must not take another path instead
	CureRemoveFile      = "remove-file"      // remove the file that stands in the node's place
	CureRename          = "rename"           // change the guest's configuration, or rename it back
	CureBringBack       = "bring-back"       // attach the disk again, then stop and start the guest
	CureAccept          = "accept"           // bootrace accept: the new disk is right
	CureRelease         = "release"          // stop the other user
	CurePermission      = "rights"           // owner, group, mode: a udev rule
	CureFileRights      = "file-rights"      // owner and mode of the file and its folders; AppArmor, SELinux
	CureAttach          = "attach"           // find out why the device did not appear
	CureFill            = "fill"             // losetup, nbd-client: the device is there and empty
	CureAssemble        = "assemble"         // mdadm: the array was not assembled
	CureZvol            = "zvol"             // ZFS: the pool was not imported, or its volumes not linked
	CureDRBD            = "drbd"             // drbdadm up
	CurePromote         = "promote"          // drbdadm primary
	CureRBD             = "rbd"              // rbdmap.service
	CurePath            = "path"             // what makes the file or the link: the launcher, a mount
	CureFindFile        = "find-file"        // it was moved, renamed or deleted
	CureMultipath       = "multipath"        // multipathd did not make the map
	CureErrorLog        = "error-log"        // what the kernel and the guest's program say of the error
	CureLookInside      = "look-inside"      // the guest's own console and log
	CureAskAgain        = "ask-again"        // LVM has not been asked yet
	CureLongerHold      = "longer-hold"      // the hold ended before the disk came: a later deadline
	CureLauncher        = "launcher-timeout" // what starts the guest gave up while it was held
	CureActivate        = "activate"         // see what lvchange -ay says
	CureFindGroup       = "find-group"       // are its disks there, and does LVM see them
	CureFilter          = "filter"           // devices/filter, global_filter
	CureDevicesFile     = "devices-file"     // lvmdevices --adddev
	CureFilterLinks     = "filter-by-link"   // a filter by names that are there at boot
	CureUdevRule        = "udev-rule"        // what keeps udev from calling the disk LVM's
	CureSystemID        = "system-id"        // it is another host's
	CureCluster         = "cluster"          // clvmd, or make it a shared group
	CureRenameGroup     = "rename-group"     // vgrename by UUID
	CureDuplicate       = "duplicate"        // multipath, a filter, vgimportclone
	CureMetadata        = "metadata"         // what LVM says of the disk
	CureHealth          = "health"           // look before anything is repaired
	CurePoolMessage     = "pool-message"     // what lvchange -ay of the pool says
	CurePoolPart        = "pool-part"        // deactivate the part, then activate
	CureHoldInside      = "hold-filesystem"  // enforce.filesystem keeps such a start back
	CureGiveBack        = "give-back"        // give the device back what is missing; repair nothing before
	CureFindPart        = "find-part"        // find out what the disk was made of
	CureGuestRepair     = "guest-repair"     // a copy first, then the guest's own tools
	CureGuestCheck      = "guest-check"      // have the guest check the file system
	CureWhichCopy       = "which-copy"       // find out which copy of the disk is the right one
	CureLeaveAlone      = "leave-alone"      // change nothing on a hibernated guest's disks
)

// makers are what makes the devices of a kind.
var makers = map[blockdev.Kind]string{
	blockdev.Array: CureAssemble, blockdev.Zvol: CureZvol, blockdev.DRBD: CureDRBD, blockdev.RBD: CureRBD,
	memory.KindFile: CurePath, KindMount: CureMount,
}

// containers are the mappings of encrypted containers as installers name them: Fedora's
// and udisks' luks-UUID, Debian's sda3_crypt, SUSE's cr_home. With a hyphen in it, a
// name of the last two kinds can be a logical volume's.
var containers = regexp.MustCompile(`^/dev/mapper/(luks-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[^-/]+_crypt|cr_[^-/]+)$`)

// otherDevice reports whether the disk is a block device that is no mapping.
func (c *Cause) otherDevice() bool {
	switch c.DeviceKind {
	case "", blockdev.Mapping, memory.KindFile, KindMount:
		return false
	}
	return true
}

// makerRemedies are what makes a device usable that was announced and empty.
func (c *Cause) makerRemedies() []string {
	if cure := c.maker(); cure != CureAttach {
		return []string{cure}
	}
	return []string{CureFill}
}

// maker says what to do about a path that nothing made, empty if that is a
// question for LVM.
func (c *Cause) maker() string {
	path := c.Disks[0]
	if cure := makers[c.DeviceKind]; cure != "" {
		return cure
	}
	_, _, lvm := devmap.Volume(path)
	switch {
	case c.DeviceKind != blockdev.Mapping:
		return CureAttach
	case strings.HasPrefix(path, "/dev/mapper/mpath"): // multipathd's, with user_friendly_names
		return CureMultipath
	case containers.MatchString(path):
		return CureUnlock
	case lvm && !strings.HasPrefix(path, "/dev/disk/by-id/dm-"):
		return ""
	}
	return CureRecreate
}
