package devmap

import (
	"path"
	"strconv"
	"strings"
)

// Candidate is one mapping that a path can mean. Exactly one field is set.
type Candidate struct {
	Name string // device-mapper name as the kernel knows it
	UUID string // device-mapper UUID
	Node string // kernel's name, dm-N
}

// Candidates says from the text of an absolute path alone which mappings it can
// mean, the likeliest first. It touches no file: the same path can be asked
// about a boot that is long over. nil means that the path cannot be read so;
// it may still be a link that udev made (by-uuid, by-path, ...).
func Candidates(name string) []Candidate {
	rest, ok := strings.CutPrefix(path.Clean(name), "/dev/")
	if !ok || rest == "" {
		return nil
	}
	dir, base, nested := strings.Cut(rest, "/")
	switch {
	case !nested:
		return nodeCandidate(rest)
	case dir == "mapper":
		return mapperCandidates(base)
	case dir == "disk":
		return diskCandidates(base)
	case strings.Contains(base, "/") || notGroups[dir]:
		return nil
	}
	return []Candidate{{Name: JoinName(dir, base, "")}}
}

// notGroups are the directories of /dev that are no volume groups. LVM itself
// refuses a group whose name exists in /dev.
var notGroups = map[string]bool{
	"block": true, "bsg": true, "bus": true, "char": true, "cpu": true, "dma_heap": true,
	"dri": true, "fd": true, "fdset": true, "hugepages": true, "input": true, "mqueue": true,
	"net": true, "pts": true, "shm": true, "snd": true, "vfio": true, "vhost": true,
	"bcache": true, "drbd": true, "md": true, "rbd": true, "zvol": true, // of other kinds of disks
}

func nodeCandidate(node string) []Candidate {
	number, ok := strings.CutPrefix(node, "dm-")
	if !ok {
		return nil
	}
	if _, err := strconv.ParseUint(number, 10, 20); err != nil {
		return nil
	}
	return []Candidate{{Node: node}}
}

// mapperCandidates: a node in /dev/mapper is named as its mapping. A program
// other than libdevmapper can give a name that is not mangled, and libdevmapper
// can be told not to mangle, so the other spellings come after it.
func mapperCandidates(base string) []Candidate {
	if base == "control" || strings.Contains(base, "/") {
		return nil
	}
	list := []Candidate{{Name: base}}
	if mangled := Mangle(base); mangled != base {
		list = append(list, Candidate{Name: mangled})
	}
	if raw := Unmangle(base); raw != base {
		list = append(list, Candidate{Name: raw})
	}
	return list
}

// diskCandidates reads the two links under /dev/disk that carry the mapping's
// own name and UUID (dm-name-*, dm-uuid-*; lvm2 udev/13-dm-disk.rules.in).
func diskCandidates(rest string) []Candidate {
	id, ok := strings.CutPrefix(rest, "by-id/")
	if !ok || strings.Contains(id, "/") {
		return nil
	}
	if name, ok := strings.CutPrefix(id, "dm-name-"); ok && name != "" {
		return mapperCandidates(name)
	}
	if uuid, ok := strings.CutPrefix(id, "dm-uuid-"); ok && uuid != "" {
		return []Candidate{{UUID: uuid}}
	}
	return nil
}
