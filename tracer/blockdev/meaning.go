package blockdev

import (
	"path"
	"strings"

	"github.com/bootrace/bootrace/tracer/devmap"
)

// Meaning is what a path can mean by its name alone.
type Meaning struct {
	// Kind is that of the device, Other where the name only says that it is a
	// block device (/dev/disk/by-id/...).
	Kind Kind
	// Node is the kernel name of the device where the path is its own node,
	// empty for a link that udev makes.
	Node string
	// Mappings are the device-mapper devices that the path can mean.
	Mappings []devmap.Candidate
}

// linkFolders are the folders of /dev in which udev's rules make links to
// devices of one kind (Ceph's 50-rbd.rules, OpenZFS's 60-zvol.rules, drbd-utils'
// 65-drbd.rules, mdadm's 63-md-raid-arrays.rules, bcache-tools' 69-bcache.rules).
var linkFolders = []struct {
	folder string
	kind   Kind
}{
	{"disk", Other}, {"md", Array}, {"rbd", RBD}, {"rbd-pool", RBD}, {"zvol", Zvol}, {"drbd", DRBD}, {"bcache", Bcache}, {"storpool", Other},
}

// MeaningOf says which block device an absolute path can mean. It touches no
// file: the same path can be asked about a boot that is long over. ok is false
// where the name says nothing: a file, or a name in /dev that no kernel gives.
func MeaningOf(name string) (m Meaning, ok bool) {
	name = path.Clean(name)
	rest, inDev := strings.CutPrefix(name, "/dev/")
	if !inDev || rest == "" {
		return Meaning{}, false
	}
	if folder, inside, nested := strings.Cut(rest, "/"); nested && inside != "" {
		for _, f := range linkFolders {
			if f.folder == folder {
				return Meaning{Kind: f.kind, Mappings: devmap.Candidates(name)}, true
			}
		}
	} else if kind, known := KindOf(rest); known {
		return Meaning{Kind: kind, Node: rest, Mappings: devmap.Candidates(name)}, true
	}
	if list := devmap.Candidates(name); list != nil {
		return Meaning{Kind: Mapping, Mappings: list}, true
	}
	return Meaning{}, false
}

// Waited reports whether a path that does not exist is worth waiting for: it can
// only be a block device that comes, and no medium that somebody puts in.
func (m *Meaning) Waited() bool { return !m.Kind.Removable() }
