package guest

import (
	"slices"
	"strings"
)

// storageTools are the programs that make, change and mount block devices, by the
// names of their executables. One that ends in "*" stands for all that begin with
// it. What they were asked to do explains why a disk came late; the command lines
// of all other programs are their users' own business.
var storageTools = []string{
	"lvm*", "vgchange", "vgscan", "vgs", "vgcreate", "vgextend", "vgreduce", "vgremove", "vgrename", "vgexport",
	"vgimport*", "vgcfg*", "vgck", "vgdisplay", "vgmknodes", "vgmerge", "vgsplit", "vgconvert",
	"lvchange", "lvcreate", "lvs", "lvscan", "lvdisplay", "lvextend", "lvreduce", "lvresize", "lvremove", "lvrename", "lvconvert",
	"pvscan", "pvs", "pvcreate", "pvdisplay", "pvchange", "pvck", "pvmove", "pvremove", "pvresize",
	"dmsetup", "dmeventd", "dmstats", "blkdeactivate",
	"mdadm", "mdmon", "multipath*", "mpathpersist", "kpartx", "cryptsetup*", "integritysetup", "veritysetup",
	"drbdadm*", "drbdsetup*", "drbdmeta*", "zpool", "zfs", "rbd", "rbdmap", "rbd-nbd",
	"mount*", "umount*",
}

// StorageTool reports whether a program is one that makes, changes or mounts block
// devices, by its path, its file name or its comm.
func StorageTool(program string) bool {
	name := fileName(program)
	return slices.ContainsFunc(storageTools, func(tool string) bool {
		if prefix, ok := strings.CutSuffix(tool, "*"); ok {
			return strings.HasPrefix(name, prefix)
		}
		return name == tool || len(name) == CommLen && name == tool[:min(len(tool), CommLen)]
	})
}
