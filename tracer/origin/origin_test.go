package origin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
)

// host makes the files of /proc.
func host(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, "proc", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFill(t *testing.T) {
	root := host(t, map[string]string{
		"142/comm":    "lvm\n",
		"142/cmdline": "/sbin/lvm\x00vgchange\x00-aay\x00--autoactivation\x00event\x00vg0\x00",
		"142/cgroup":  "0::/system.slice/lvm-activate-vg0.service\n",
		"1/comm":      "systemd\n",
		"70/comm":     "agent\n",
		"70/cmdline":  strings.Repeat("x", maxArgs-5) + "\x00half an argument",
		"70/cgroup":   "4:cpu:/system.slice/other.service\n1:name=systemd:/user.slice/user-0.slice/session-1.scope/x\n",
	})
	vain := &event.OpenInfo{Path: "/dev/vg0/a", Errno: 2}
	tests := []struct {
		name string
		e    event.Event
		want event.Proc
	}{
		{"who activates", event.Event{Kind: event.DMCreate, Proc: &event.Proc{PID: 142, PPID: 1, Comm: "lvm", Args: []string{"kept"}}},
			event.Proc{PID: 142, PPID: 1, Comm: "lvm", Args: []string{"kept"}, Unit: "lvm-activate-vg0.service", Parent: "systemd"}},
		{"who looks", event.Event{Kind: event.Open, Open: vain, Proc: &event.Proc{PID: 142, PPID: 1, Comm: "lvm"}},
			event.Proc{PID: 142, PPID: 1, Comm: "lvm", Args: []string{"/sbin/lvm", "vgchange", "-aay", "--autoactivation", "event", "vg0"}, Unit: "lvm-activate-vg0.service", Parent: "systemd"}},
		{"a long command line", event.Event{Kind: event.Open, Open: vain, Proc: &event.Proc{PID: 70, PPID: 9, Comm: "agent"}},
			event.Proc{PID: 70, PPID: 9, Comm: "agent", Args: []string{strings.Repeat("x", maxArgs-5)}, Unit: "session-1.scope"}},
		{"another process has the number", event.Event{Kind: event.DMCreate, Proc: &event.Proc{PID: 142, Comm: "dmsetup"}},
			event.Proc{PID: 142, Comm: "dmsetup"}},
		{"it ended", event.Event{Kind: event.DMCreate, Proc: &event.Proc{PID: 143, Comm: "lvm"}},
			event.Proc{PID: 143, Comm: "lvm"}},
		{"an open that went well", event.Event{Kind: event.Open, Open: &event.OpenInfo{Path: "/dev/vg0/a"}, Proc: &event.Proc{PID: 142, Comm: "lvm"}},
			event.Proc{PID: 142, Comm: "lvm"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			NewFinder(root).Fill(&tt.e)
			if diff := cmp.Diff(tt.want, *tt.e.Proc); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A process is asked once, and again when that may be out of date.
func TestFresh(t *testing.T) {
	root := host(t, map[string]string{"142/comm": "lvm\n", "142/cgroup": "0::/a.service\n"})
	f := NewFinder(root)
	unit := func(at event.Time) string {
		e := event.Event{At: at, Kind: event.DMLoad, Proc: &event.Proc{PID: 142, Comm: "lvm"}}
		f.Fill(&e)
		return e.Proc.Unit
	}
	first := unit(1e9)
	if err := os.WriteFile(filepath.Join(root, "proc/142/cgroup"), []byte("0::/b.service\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := []string{first, unit(2e9), unit(4e9)}; !cmp.Equal(got, []string{"a.service", "a.service", "b.service"}) {
		t.Errorf("got %q", got)
	}
}

// FuzzUnit: whatever a cgroup file says, a unit has no slash in it.
func FuzzUnit(f *testing.F) {
	f.Add("0::/system.slice/systemd-udevd.service/udev\n")
	f.Add("1:name=systemd:/x.scope\n0::/\n")
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsAny(unitOf(s), "/\n") {
			t.Errorf("%q: %q", s, unitOf(s))
		}
	})
}
