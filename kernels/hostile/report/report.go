// Package report is what a stand-in for qemu tells of its start.
package report

import "github.com/bootrace/bootrace/tracer/event"

// Folder is the variable of the environment that names the folder for reports: a
// file of JSON for each guest, of its name.
const Folder = "BOOTRACE_REPORTS"

// Saw is what a guest saw.
type Saw struct {
	Start event.Time // its first instruction
	Opens []Open
}

// Open is its open of one disk.
type Open struct {
	Path  string
	At    event.Time
	Error string
	Size  int64 // 0: nothing is behind the device
}
