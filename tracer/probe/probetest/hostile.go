package probetest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Hostile is a user who costs others what he can.
const Hostile = 4242

// AsHostile returns a command of the hostile user, whose program is a copy of another
// under a new name.
func AsHostile(t *testing.T, program, name string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.MkdirTemp("", "hostile")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), CopyFile(filepath.Join(dir, name), program, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, name), args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: Hostile, Gid: Hostile}, Setpgid: true}
	cmd.Stderr = os.Stderr
	return cmd
}

// Playing has a copy of this test binary play a role: guest, or flooding.
func Playing(role string, cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = []string{roleEnv + "=" + role}
	return cmd
}

// Unleash starts a command and returns once it says, by a line, that it has done its
// worst. It, and its children, go on until the test ends.
func Unleash(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		in.Close()
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
}

// Children is a shell's script that makes that many children, which do something
// each, and says when they are at it.
func Children(n int, do string) string {
	return fmt.Sprintf("exec 3<&0; i=0; while [ $i -lt %d ]; do (%s) & i=$((i+1)); done; sleep 1; echo; wait", n, do)
}

// FIFO makes a FIFO under /dev that everybody may open. Who does waits.
func FIFO(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev", "bootrace-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	fifo := dir + "/fifo"
	if err := errors.Join(os.Chmod(dir, 0o755), unix.Mkfifo(fifo, 0o666), os.Chmod(fifo, 0o666)); err != nil {
		t.Fatal(err)
	}
	return fifo
}

// playFlooding opens 2,000 long names under /dev that do not exist: 8 MB of records.
func playFlooding() {
	path := "/dev/" + strings.Repeat(strings.Repeat("x", 200)+"/", 19)
	for i := range 2000 {
		_ = TryOpen(path+strconv.Itoa(i), unix.O_RDONLY)
	}
	_, _ = os.Stdout.WriteString("\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
