package udev

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/bootrace/bootrace/tracer/event"
)

// Record is what udev's database holds about a device: the outcome of its last
// run over the rules.
type Record struct {
	// Initialized is when udev first knew the device, in microseconds of
	// CLOCK_MONOTONIC; 0: not yet.
	Initialized uint64
	Links       []string // absolute paths
	Props       map[string]string
}

// maxRecord bounds a record in bytes; real ones have one to four thousand.
const maxRecord = 1 << 20

// ReadRecord reads the record of a block device from the database below root
// ("/" for the running host), nil if udev has none.
func ReadRecord(root string, dev event.Dev) (*Record, error) {
	name := filepath.Join(root, "run/udev/data", fmt.Sprintf("b%d:%d", dev.Major, dev.Minor))
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read udev's database: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxRecord))
	if err != nil {
		return nil, fmt.Errorf("read udev's database: %s: %w", name, err)
	}
	r := ParseRecord(data)
	return &r, nil
}

// ParseRecord reads a record: lines of a letter, a colon and a value. S is a
// link, I the first time, E a property; others (tags, priorities) do not
// matter here (device_update_db, systemd src/libsystemd/sd-device).
func ParseRecord(data []byte) Record {
	var r Record
	env := make(map[string]string)
	var names []string
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		kind, value, ok := bytes.Cut(lines.Bytes(), []byte{':'})
		if !ok || len(kind) != 1 {
			continue
		}
		switch kind[0] {
		case 'S':
			names = append(names, string(value))
		case 'I':
			// A bad number is as good as none.
			r.Initialized, _ = strconv.ParseUint(string(value), 10, 53)
		case 'E':
			key, text, _ := bytes.Cut(value, []byte{'='})
			env[string(key)] = string(text)
		}
	}
	r.Links, r.Props = links(names), properties(env)
	return r
}

// Fill completes d with the record. Clock is CLOCK_BOOTTIME - CLOCK_MONOTONIC.
func (r *Record) Fill(d *event.DevInfo, clock event.Duration) {
	d.Links = r.Links
	d.Initialized = boottime(r.Initialized, clock)
	d.Props = r.Props
}
