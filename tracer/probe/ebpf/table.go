package ebpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/bootrace/bootrace/tracer/devmap"
)

// Offsets in struct dm_target_spec of the device-mapper user interface. The
// parameters follow it, ended by a NUL.
const (
	specLength = 8
	specNext   = 20 // from the start of this spec to the next
	specType   = 24
	specSize   = 40
)

const sectorSize = 512

// dmTable is a table in the form of dmsetup: a line a target.
type dmTable struct {
	lines []string
	size  int64 // bytes; 0 if the table is cut
	cut   bool  // there are more targets than lines
}

// parseTable reads n target specs as they were passed to a table load. Keys
// are replaced.
func parseTable(specs []byte, n uint32) dmTable {
	var t dmTable
	for range n {
		if len(specs) < specSize {
			break
		}
		params, _, whole := bytes.Cut(specs[specSize:], []byte{0})
		if !whole {
			break
		}
		start := binary.LittleEndian.Uint64(specs)
		length := binary.LittleEndian.Uint64(specs[specLength:])
		kind := cstring(specs[specType:specSize])
		line := fmt.Sprintf("%d %d %s %s", start, length, kind, devmap.RedactParams(kind, string(params)))
		t.lines = append(t.lines, strings.TrimSuffix(line, " "))
		t.size = max(t.size, int64(start+length)*sectorSize)
		next := binary.LittleEndian.Uint32(specs[specNext:])
		specs = specs[min(int64(max(next, specSize)), int64(len(specs))):]
	}
	if t.cut = len(t.lines) < int(n); t.cut {
		t.size = 0
	}
	return t
}
