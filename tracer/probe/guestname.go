package probe

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/guest"
)

const commLen = guest.CommLen

// guestNames compiles names (see Options.Guests) for the kernel side.
func guestNames(names []string) ([bpf.MaxGuestNames]bpf.GuestName, error) {
	var compiled [bpf.MaxGuestNames]bpf.GuestName
	if len(names) > len(compiled) {
		return compiled, fmt.Errorf("%d names of guest programs, at most %d are possible", len(names), len(compiled))
	}
	for i, name := range names {
		if name == "" || strings.ContainsAny(name, "/\x00") {
			return compiled, fmt.Errorf("name of guest program %q: want a file name without its directory", name)
		}
		compiled[i] = guestName(name)
	}
	return compiled, nil
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
