package ebpf

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/probetest"
)

// TestDeviceMapper follows a mapping through its life. Where dm_mod is a module
// it is loaded after the probes were attached.
func TestDeviceMapper(t *testing.T) {
	probetest.NeedDM(t)
	const key = "0123456789abcdef0123456789abcdef"
	dm := probetest.DM{T: t}
	b := openTest(t, backend.Options{})
	late := !devmap.ModuleLoaded()
	events := probetest.Trace(t, b, func() {
		if out, err := exec.Command("modprobe", "dm_mod").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := b.DeviceMapperLoaded(); err != nil {
			t.Error(err)
		}
		if own := len(b.requests.own) > 0; !own {
			t.Errorf("dm_mod is there, and every ioctl is still looked at: %s", b.requests.limits)
		}
		dm.Setup("create", "bt-test", "--uuid", "TEST-uuid", "--notable")
		dm.Setup("load", "bt-test", "--table", "0 2048 zero")
		dm.Setup("resume", "bt-test")
		for range 2 {
			if err := probetest.TryOpen("/dev/mapper/bt-test", unix.O_RDONLY); err != nil {
				t.Error(err)
			}
		}
		dm.Setup("suspend", "bt-test")
		dm.Setup("load", "bt-test", "--table", "0 1024 error\n1024 3072 zero")
		dm.Setup("resume", "bt-test")
		if err := probetest.TryOpen("/dev/mapper/bt-test", unix.O_RDONLY); err != nil {
			t.Error(err)
		}
		dm.Setup("rename", "bt-test", "bt-new")
		_, _ = dm.Try("load", "bt-new", "--table", "0 8 crypt aes-cbc-essiv:sha256 "+key+" 0 /dev/nowhere 0")
		dm.Setup("remove", "bt-new")
		if _, err := dm.Try("remove", "bt-new"); err == nil {
			t.Error("removed a mapping twice")
		}
	})
	if late {
		if b.followModule(); len(b.requests.general) > 0 {
			t.Error("the probes of all ioctls are still attached")
		}
	}
	events = slices.DeleteFunc(events, func(e event.Event) bool {
		return e.DM != nil && e.Proc.Comm != "dmsetup"
	})
	var told []string
	for _, e := range events {
		if e.DM != nil || e.Kind == event.Open && strings.HasPrefix(e.Open.Path, "/dev/mapper/bt-") {
			told = append(told, tell(e))
			checkWindow(t, e)
		}
		if strings.Contains(fmt.Sprintf("%+v %+v", e.DM, e.Proc), key) {
			t.Errorf("key in %s", tell(e))
		}
	}
	want := []string{
		`dm_create bt-test TEST-uuid []`,
		`dm_load bt-test TEST-uuid ["0 2048 zero"] size 1048576`,
		`dm_resume bt-test TEST-uuid [] live`,
		`open /dev/mapper/bt-test block 1048576`,
		`dm_suspend bt-test TEST-uuid []`,
		`dm_load bt-test TEST-uuid ["0 1024 error" "1024 3072 zero"] size 2097152`,
		`dm_resume bt-test TEST-uuid [] live`,
		`open /dev/mapper/bt-test block 2097152`,
		`dm_rename bt-test  [] to bt-new`,
		`dm_load bt-new  ["0 8 crypt aes-cbc-essiv:sha256 [redacted] 0 /dev/nowhere 0"] size 4096`,
		`dm_remove bt-new TEST-uuid []`,
		`dm_remove bt-new  [] ENXIO`,
	}
	if got, want := strings.Join(told, "\n"), strings.Join(want, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	upgrades := slices.IndexFunc(events, func(e event.Event) bool { return e.Source != nil && e.Source.State == "upgraded" })
	if late && upgrades < 0 {
		t.Fatal("no event says that an ability was added")
	}
	if late && !slices.ContainsFunc(events[upgrades].Source.Abilities, func(a event.Ability) bool {
		return a.Name == backend.AbilityDMLiveInstant && a.OK && strings.HasPrefix(a.Why, "from ")
	}) {
		t.Errorf("the ability does not say from when on: %+v", events[upgrades].Source)
	}
}

func tell(e event.Event) string {
	if e.Kind == event.Open {
		return fmt.Sprintf("open %s %s %d", e.Open.Path, e.Open.Type, e.Open.Size)
	}
	if e.DM == nil {
		return string(e.Kind)
	}
	s := fmt.Sprintf("%s %s %s %q", e.Kind, e.DM.Name, e.DM.UUID, e.DM.Table)
	if e.DM.Size != 0 {
		s += fmt.Sprintf(" size %d", e.DM.Size)
	}
	if e.DM.LiveAt != 0 {
		s += " live"
	}
	if e.DM.NewName != "" {
		s += " to " + e.DM.NewName
	}
	if e.DM.Errno != 0 && e.Kind != event.DMLoad { // why a table is refused is not the subject
		s += " " + unix.ErrnoName(unix.Errno(e.DM.Errno))
	}
	return s
}

func checkWindow(t *testing.T, e event.Event) {
	t.Helper()
	if e.From == 0 || e.From >= e.At {
		t.Errorf("%s: window [%d, %d]", tell(e), e.From, e.At)
	}
	if e.DM != nil && e.DM.LiveAt != 0 && (e.DM.LiveAt < e.From || e.DM.LiveAt > e.At) {
		t.Errorf("%s: live at %d, not in [%d, %d]", tell(e), e.DM.LiveAt, e.From, e.At)
	}
	known := e.Kind != event.DMRemove && e.DM != nil && e.DM.Errno == 0
	if known && (e.DM.Dev == nil || e.DM.Dev.Major == 0) {
		t.Errorf("%s: no device", tell(e))
	}
	if e.DM != nil && (len(e.Proc.Args) < 3 || e.Proc.Args[0] != "dmsetup") {
		t.Errorf("%s: command line %q", tell(e), e.Proc.Args)
	}
}
