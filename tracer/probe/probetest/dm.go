package probetest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
)

// DM runs dmsetup without udev, so that it makes the nodes itself.
type DM struct{ *testing.T }

// Setup runs a command of dmsetup, which must succeed.
func (t DM) Setup(args ...string) {
	t.Helper()
	if out, err := t.Try(args...); err != nil {
		t.Errorf("dmsetup %q: %v: %s", args, err, out)
	}
}

// Try runs a command of dmsetup, and returns what it says.
func (t DM) Try(args ...string) (string, error) {
	cmd := exec.Command("dmsetup", args...)
	cmd.Env = append(os.Environ(), "DM_DISABLE_UDEV=1")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// NeedDM skips where the kernel has no device-mapper at all.
func NeedDM(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("dmsetup"); err != nil {
		t.Skip("NOT TESTED:", err)
	}
	if out, err := exec.Command("modprobe", "-n", "dm_mod").CombinedOutput(); err != nil && !devmap.ModuleLoaded() {
		t.Skipf("NOT TESTED: kernel has no device-mapper: %v: %s", err, out)
	}
}

// Act does one of everything that a backend sees. It loads device-mapper, and tells b.
func Act(t *testing.T, b interface{ DeviceMapperLoaded() error }) {
	t.Helper()
	dm := DM{t}
	if out, err := exec.Command("modprobe", "dm_mod").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := b.DeviceMapperLoaded(); err != nil {
		t.Fatal(err)
	}
	_ = Staying(Guest(t, "qemu-system-x86_64", "-drive", "file=/dev/vg/lv,if=none,id=drive_0")).Run()
	dm.Setup("create", "vg-lv", "--uuid", "LVM-recorded", "--notable")
	dm.Setup("load", "vg-lv", "--table", "0 1024 error\n1024 3072 zero")
	dm.Setup("resume", "vg-lv")
	_ = TryOpen("/dev/mapper/vg-lv", unix.O_RDONLY)
	_ = os.Symlink("mapper/vg-lv", "/dev/.#recorded")
	_ = os.Rename("/dev/.#recorded", "/dev/recorded")
	dm.Setup("suspend", "vg-lv")
	dm.Setup("resume", "vg-lv")
	dm.Setup("rename", "vg-lv", "vg-new")
	_, _ = dm.Try("load", "vg-new", "--table", "0 8 crypt aes-cbc-essiv:sha256 0123456789abcdef0123456789abcdef 0 /dev/nowhere 0")
	dm.Setup("remove", "--retry", "vg-new")
	_, _ = dm.Try("remove", "vg-new")
	dm.Setup("remove_all")
}
