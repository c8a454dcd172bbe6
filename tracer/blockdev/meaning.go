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

// folderKinds says of which kind a link in a folder of /dev is, by the folder's name.
var folderKinds = func() map[string]Kind {
	of := map[string]Kind{}
	for kind, t := range kinds {
		for _, folder := range t.folders {
			of[folder] = kind
		}
	}
	return of
}()

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
		if kind, ok := folderKinds[folder]; ok {
			return Meaning{Kind: kind, Mappings: devmap.Candidates(name)}, true
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
