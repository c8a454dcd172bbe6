package hold

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// envMounts is set in a process that a test started for itself.
const envMounts = "BOOTRACE_TEST_MOUNTS"

// withOwnMounts runs the test again in a process that mounts for itself alone. It
// returns true there.
func withOwnMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(envMounts) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may mount, and hold starts")
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	c.Env = append(os.Environ(), envMounts+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := c.CombinedOutput()
	switch {
	case err != nil:
		t.Errorf("%v:\n%s", err, out)
	case bytes.Contains(out, []byte("NOT RUN")):
		t.Skipf("%s", out)
	}
	return false
}

// guards waits until exactly these programs are guarded.
func (h *host) guards(paths ...string) {
	h.t.Helper()
	for range 1000 {
		if slices.Equal(h.Status().Programs, paths) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.t.Fatalf("guarded are %q, want %q", h.Status().Programs, paths)
}

// isHeld starts the program once, which must be held.
func (h *host) isHeld() {
	h.t.Helper()
	a := h.guest("a")
	h.held(1)
	if _, err := h.Release("a"); err != nil || a.ends() != 0 {
		h.t.Errorf("released: %v", err)
	}
}

// A program on a file system that is mounted after the start is guarded, whether it
// is there by then or comes later, and so is what a mount had covered.
func TestMountedLater(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	dir := t.TempDir()
	local, elsewhere := filepath.Join(dir, "local"), filepath.Join(dir, "elsewhere")
	const name = "qemu-9/bin/qemu-system-x86_64"
	for _, folder := range []string{local, elsewhere} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	unpackAt(t, filepath.Join(elsewhere, name))
	h := newHost(t, func(o *Options) { o.Config.Binaries = []string{filepath.Join(local, "qemu-*/bin/qemu-system-*")} })
	h.guards()
	t.Cleanup(func() { // where the test failed half-way
		for unix.Unmount(local, unix.MNT_DETACH) == nil {
			continue
		}
	})

	if err := unix.Mount("none", local, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	h.program = filepath.Join(local, name)
	unpackAt(t, h.program)
	h.guards(h.program)
	h.isHeld()
	second := filepath.Join(local, "qemu-99/bin/qemu-system-x86_64")
	unpackAt(t, second)
	h.guards(h.program, second)

	if err := unix.Mount(filepath.Join(elsewhere, name), second, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	h.guards(h.program, second)
	if err := unix.Unmount(second, 0); err != nil {
		t.Fatal(err)
	}
	h.guards(h.program, second)
	if err := unix.Mount(elsewhere, local, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	h.guards(h.program)
	h.isHeld()
	if err := unix.Unmount(local, 0); err != nil {
		t.Fatal(err)
	}
	h.guards(h.program, second)
	h.isHeld()
	if err := unix.Unmount(local, 0); err != nil {
		t.Fatal(err)
	}
	unpackAt(t, h.program)
	h.guards(h.program)
	h.isHeld()
}

func unpackAt(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	unpack(t, path)
}
