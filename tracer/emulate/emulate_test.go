package emulate

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	var got []string
	Lines(strings.NewReader("one\r\n\ntwo\n"+strings.Repeat("x", longestLine+1)+"\nno end"), func(line string) { got = append(got, line) })
	want := []string{"one", "two", strings.Repeat("x", longestLine), "x", "no end"}
	if !slices.Equal(got, want) {
		t.Errorf("%d lines, want %d", len(got), len(want))
	}
}

func TestStuck(t *testing.T) {
	if Stuck("[    1.0] Kernel panic - not syncing: VFS") == "" || Stuck("ALERT! Dropping to a shell!") != NoRoot || Stuck("[    1.0] vda: vda1") != "" {
		t.Error("what a console says where nothing more will come")
	}
}

// What a machine is given is its own: reading ends when the machine does.
func TestStart(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "echo up >&3; exit 7")
	cmd.ExtraFiles = []*os.File{w}
	ended, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	Lines(r, func(line string) { lines = append(lines, line) })
	if err := <-ended; err == nil || cmd.ProcessState.ExitCode() != 7 || !slices.Equal(lines, []string{"up"}) {
		t.Errorf("it ended with %v and said %q", err, lines)
	}
	if _, err := Start(exec.CommandContext(t.Context(), "/nowhere/qemu")); err == nil {
		t.Error("a program that is not there starts")
	}
}
