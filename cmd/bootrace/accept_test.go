package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/memory"
)

// TestAccept: an operator is told what was accepted, old and new with their sizes,
// and after that there is nothing to accept.
func TestAccept(t *testing.T) {
	dir := t.TempDir()
	for i, disk := range []event.MemoryDisk{
		{Path: "/dev/sdb", DeviceKind: "scsi", Name: "sdb", UUID: "serial:A", Size: 2 << 30},
		{Path: "/dev/sdb", DeviceKind: "scsi", Name: "sdb", UUID: "serial:B", Size: 1 << 30},
	} {
		s := memory.NewStore(strings.Repeat(string(rune('1'+i)), 8) + "-0000")
		if err := s.Open(dir); err != nil {
			t.Fatal(err)
		}
		s.Remember("uuid:3a", "web", []event.MemoryDisk{disk})
		if err := s.Save(); err != nil {
			t.Fatal(err)
		}
	}
	accept := func(args ...string) (status int, out, problem string) {
		var stdout, stderr bytes.Buffer
		status = run(t.Context(), append([]string{"bootrace", "accept", "--state-dir", dir}, args...), &stdout, &stderr)
		return status, stdout.String(), stderr.String()
	}
	if status, _, problem := accept(); status != exitUsage {
		t.Errorf("without a guest: status %d, %s", status, problem)
	}
	if status, _, problem := accept("db"); status != exitFailed || !strings.Contains(problem, `no guest "db"`) {
		t.Errorf("a guest that is not known: status %d, %s", status, problem)
	}
	if status, _, problem := accept("--disk", "/dev/sdc", "web"); status != exitFailed || !strings.Contains(problem, "/dev/sdc") {
		t.Errorf("another disk: status %d, %s", status, problem)
	}
	want := `guest web (uuid:3a) should run on /dev/sdb, which is SCSI disk sdb (serial:B), 1.0 GiB (1073741824 bytes) from now on, as in boot 22222222
  instead of /dev/sdb, which is SCSI disk sdb (serial:A), 2.0 GiB (2147483648 bytes)
  no alarm any more: substituted, shrunk
`
	if status, out, problem := accept("web"); status != exitDone || out != want {
		t.Errorf("status %d, %s\n got %s\nwant %s", status, problem, out, want)
	}
	if status, _, problem := accept("web"); status != exitFailed || !strings.Contains(problem, "nothing to accept") {
		t.Errorf("again: status %d, %s", status, problem)
	}
}
