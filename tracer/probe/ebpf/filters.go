package ebpf

import (
	"encoding/binary"
	"strings"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/guest"
)

// This file has what the programs are told to pass over, compiled to words that they can
// compare: processes that are no guests, and reads in folders without disks.

const commLen = guest.CommLen

// guestNames compiles names that backend.Options.CheckGuests takes.
func guestNames(names []string) (compiled [bpf.MaxGuestNames]bpf.GuestName) {
	for i, name := range names {
		compiled[i] = guestName(name)
	}
	return compiled
}

func guestName(name string) bpf.GuestName {
	var value, mask [commLen + 1]byte
	n := copy(value[:commLen], name)
	if !strings.HasSuffix(name, "-") {
		n++ // the NUL must be there, too
	}
	for i := range n {
		mask[i] = 0xff
	}
	words := func(b [commLen + 1]byte) [2]uint64 {
		return [2]uint64{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
	}
	return bpf.GuestName{Value: words(value), Mask: words(mask)}
}

// pathHeads compiles folders for the kernel side, which looks at the first eight bytes
// of a path. Folders with longer names are left out, and what is opened there is
// dropped here.
func pathHeads(dirs []string) (heads [bpf.MaxSystemDirs]bpf.PathHead, n uint32) {
	for _, dir := range dirs {
		var value, mask [8]byte
		if len(dir) > len(value) || int(n) == len(heads) {
			continue
		}
		for i := range copy(value[:], dir) {
			mask[i] = 0xff
		}
		heads[n] = bpf.PathHead{Value: binary.LittleEndian.Uint64(value[:]), Mask: binary.LittleEndian.Uint64(mask[:])}
		n++
	}
	return heads, n
}
