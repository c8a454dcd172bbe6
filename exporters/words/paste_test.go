package words

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

func TestCommands(t *testing.T) {
	unit := func(name string) *event.Proc { return &event.Proc{PID: 1, Comm: "lvchange", Unit: name} }
	for name, c := range map[string]struct {
		guest string
		cause timeline.Cause
		want  []string
	}{
		"hold": {"web", timeline.Cause{Cures: []string{timeline.CureHold}}, []string{
			`printf 'mode: enforce\n' | install -D -m 644 /dev/stdin /etc/bootrace/config.d/50-enforce.yaml`, "systemctl reload bootrace",
		}},
		"longer hold": {"web", timeline.Cause{Cures: []string{timeline.CureLongerHold}, Hold: &timeline.HoldAdvice{Wait: 100 * time.Second, Mode: "trace"}}, []string{
			`printf 'mode: enforce\nenforce: {deadline: 2m10s}\n' | install -D -m 644 /dev/stdin /etc/bootrace/config.d/50-deadline.yaml`, "systemctl reload bootrace",
		}},
		"hold, on a kernel that nobody tried": {"web", timeline.Cause{Cures: []string{timeline.CureHold}, Hold: &timeline.HoldAdvice{Untried: true}}, []string{"bootrace check"}},
		"longer hold, on one that nobody tried": {"web", timeline.Cause{Cures: []string{timeline.CureLongerHold}, Hold: &timeline.HoldAdvice{Wait: 100 * time.Second, Untried: true}}, []string{
			"bootrace check",
		}},
		"skip, several": {"web", timeline.Cause{Cures: []string{timeline.CureSkip}, Disks: []string{"/dev/vg0/a", "/dev/mapper/vg0-b--c", "/dev/sda"}}, []string{
			"lvchange --setactivationskip n vg0/a", "lvchange --setactivationskip n vg0/b-c",
		}},
		"autoactivation": {"web", timeline.Cause{Cures: []string{timeline.CureAutoActivation}, Disks: []string{"/dev/vg/lv"}}, []string{"lvchange --setautoactivation y vg/lv"}},
		"order after, for who looked": {"", timeline.Cause{Cures: []string{timeline.CureOrder}, By: unit("activate@vg0.service"), Looker: unit("guests.service")}, []string{
			`printf '[Unit]\nAfter=activate@vg0.service\n' | install -D -m 644 /dev/stdin /etc/systemd/system/guests.service.d/50-disks.conf`,
			"systemctl daemon-reload",
		}},
		"order after": {"web", timeline.Cause{Cures: []string{timeline.CureOrder}, By: unit("activate.service")}, []string{
			"# systemctl edit UNIT, where UNIT starts the guest, and there:", "[Unit]", "After=activate.service",
		}},
		"size": {"web", timeline.Cause{Cures: []string{timeline.CureExtend}, Disks: []string{"/dev/vg/lv"}, Last: &timeline.Last{Size: 1 << 30}}, []string{"lvextend -L 1073741824b vg/lv"}},
		// What a shell would take for something else is in no command.
		"hostile guest":  {"web; reboot", timeline.Cause{Cures: []string{timeline.CureAccept}}, nil},
		"hostile option": {"--all", timeline.Cause{Cures: []string{timeline.CureAccept}}, nil},
		"hostile volume": {"web", timeline.Cause{Cures: []string{timeline.CureSkip}, Disks: []string{"/dev/vg/$(reboot)", "/dev/vg/a b", "/dev/-vg/lv"}}, nil},
		"hostile unit":   {"web", timeline.Cause{Cures: []string{timeline.CureOrder}, By: unit("a'$(reboot)'.service")}, nil},
		"no unit":        {"web", timeline.Cause{Cures: []string{timeline.CureOrder}, By: unit("session-3.scope")}, nil},
	} {
		if diff := cmp.Diff(c.want, commands(&timeline.Verdict{Guest: c.guest}, &c.cause, 130*time.Second)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What cures several is told once, and a long list has an end.
func TestGroupCommands(t *testing.T) {
	var group []startCause
	for _, disk := range strings.Fields("a b c d e f g h i j k") {
		c := &timeline.Cause{Cures: []string{timeline.CureHold, timeline.CureSkip}, Disks: []string{"/dev/vg/" + disk}}
		group = append(group, startCause{verdict: &timeline.Verdict{Guest: disk}, cause: c})
	}
	told := map[string]bool{}
	got := groupCommands(group, 0, told)
	if n := slices.Index(got, "systemctl reload bootrace"); n != 1 || len(got) != maxCommands+1 || !strings.HasPrefix(got[maxCommands], "# and so on") {
		t.Errorf("%q", got)
	}
	if again := groupCommands(group[:3], 0, told); again != nil {
		t.Errorf("told once more: %q", again)
	}
}

// The deadline that is told is enough for all guests, and never shorter than it was.
func TestEnoughFor(t *testing.T) {
	hold := func(wait, deadline time.Duration) startCause {
		return startCause{cause: &timeline.Cause{Hold: &timeline.HoldAdvice{Wait: wait, Deadline: deadline}}}
	}
	for _, c := range []struct {
		list []startCause
		want time.Duration
	}{
		{[]startCause{hold(10*time.Second, 5*time.Second), {}}, 80 * time.Second},
		{[]startCause{hold(10*time.Second, 0), hold(100*time.Second, 80*time.Second)}, 130 * time.Second},
		{[]startCause{hold(10*time.Second, 10*time.Minute)}, 10 * time.Minute},
		{[]startCause{hold(48*time.Hour, 0)}, 24 * time.Hour},
	} {
		if got := enoughFor(c.list); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}
