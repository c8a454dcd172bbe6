package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/check"
)

// said is an item as it should be: parts of its text and of its remedy.
type said struct {
	name         string
	grade        check.Grade
	text, remedy string
}

// What check says of one host: as it is, with settings that keep a guest's
// volume from being activated, in enforce mode, in a container, and with a kernel
// that allows less and less.
func TestCheck(t *testing.T) {
	out, _ := play(t, "check", nil)
	good, warning, bad := check.Good, check.Warning, check.Bad
	for _, c := range []struct {
		name           string
		trace, enforce bool
		status         string
		volumes        int // guests' volumes that are warned of
		items          []said
	}{
		{"demo", true, true, "0", 0, []said{
			{"probes", good, "eBPF", ""}, {"guest volumes", good, "all 2 that guests last ran on are activated by themselves", ""},
			{"early start", good, "from the initramfs on", ""}, {"enforce mode", good, "can be held", ""}, {"service", good, "process", ""}}},
		{"autolist", true, true, "0", 1, []said{
			{"volume vg0/web", warning, "nothing activates it: activation/auto_activation_volume_list does not name it", "add vg0/web to the list in lvm.conf"}}},
		{"events", true, true, "0", 2, []said{
			{"lvm", warning, "global/event_activation=0", "set it to 1"},
			{"volume vg0/web", warning, "event_activation is 0", "set it to 1 in lvm.conf"}, {"volume vg1/db", warning, "event_activation is 0", ""}}},
		{"devicesfile", true, true, "0", 1, []said{
			{"volume vg1/db", warning, "LVM knows no such group", "the devices file (lvmdevices)"}}},
		{"flags", true, true, "0", 2, []said{
			{"volume vg0/web", warning, "flag to skip activation", "lvchange --setactivationskip n vg0/web"},
			{"volume vg1/db", warning, "autoactivation is off", "lvchange --setautoactivation y vg1/db"}}},
		{"enforce", true, true, "0", 0, []said{{"enforce mode", good, "the service does", ""}}},
		{"noprogram", true, false, "3", 0, []said{
			{"enforce mode", warning, "enforce.binaries leads to no program", "name the program"},
			{"program /usr/bin/qemu-system-x86_64", warning, "its starts can't be held", "add /usr/bin/qemu-system-x86_64 to enforce.binaries"},
			{"program /usr/bin/qemu-lite-system-x86_64", warning, "its guests are not seen", "add qemu-lite-system-x86_64 to guest-binaries"}}},
		{"container", false, false, "3", 0, []said{
			{"rights", warning, "root without CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_NET_ADMIN; in a container, which has its own namespaces (pid)", "on the host"},
			{"probes", bad, "not seen: exit, so no verdict is possible: subscribe to process events: operation not permitted", "not in a container"}, {"enforce mode", warning, "CAP_SYS_ADMIN", ""}}},
		{"btf", true, true, "0", 0, []said{
			{"probes", warning, "tracefs: kprobe events and the proc connector, without eBPF", "CONFIG_DEBUG_INFO_BTF"}, {"service", warning, "does not run", "systemctl enable"}}},
		{"integrity", true, true, "0", 0, []said{{"lockdown", good, "integrity", ""}, {"probes", good, "eBPF", ""}}},
		{"confidentiality", false, false, "3", 0, []said{
			{"lockdown", warning, "the kernel forbids probes", "lockdown=integrity"}, {"probes", bad, `not seen: dm, open, so no verdict is possible: start eBPF probes: not permitted: kernel lockdown is "confidentiality"; start tracefs probes: not permitted`, "lockdown must not be"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := readReport(t, out, c.name)
			if r.Trace != c.trace || r.Enforce != c.enforce {
				t.Errorf("trace %v, enforce %v", r.Trace, r.Enforce)
			}
			if status, err := os.ReadFile(filepath.Join(out, c.name+".status")); err != nil || strings.TrimSpace(string(status)) != c.status {
				t.Errorf("exit status %s, %v, want %s", status, err, c.status)
			}
			if volumes := r.volumes(); len(volumes) != c.volumes {
				t.Errorf("volumes %v are warned of, want %d", volumes, c.volumes)
			}
			for _, want := range c.items {
				got := r.item(t, want.name)
				if got.Grade != want.grade || !strings.Contains(got.Text, want.text) || !strings.Contains(got.Remedy, want.remedy) {
					t.Errorf("got %+v, want %+v", got, want)
				}
			}
		})
	}
	// The service says the same, in one line each.
	for name, line := range map[string]string{
		"container":       `level=WARN msg="not all will be seen: root without CAP_SYS_ADMIN`,
		"confidentiality": `level=WARN msg="no probes: `,
	} {
		log, err := os.ReadFile(filepath.Join(out, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(log), line); n != 1 {
			t.Errorf("%s: %d lines of the service's log say so:\n%s", name, n, log)
		}
	}
}
