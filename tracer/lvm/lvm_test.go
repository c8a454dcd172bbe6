package lvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
)

// host answers as a recorded LVM did.
type host struct {
	t     *testing.T
	files map[string]string // by command
	old   bool              // knows no autoactivation
	local bool              // and no shared groups
	asked []string
}

func (h *host) Run(_ context.Context, command string, args ...string) ([]byte, error) {
	line := strings.Join(append([]string{command}, args...), " ")
	h.asked = append(h.asked, line)
	if h.old && strings.Contains(line, "autoactivation") {
		return nil, errors.New("Unrecognised field: autoactivation (exit status 3)")
	}
	if h.local && strings.Contains(line, "--shared") {
		return nil, errors.New("unrecognized option '--shared' (exit status 3)")
	}
	name, ok := h.files[command]
	if !ok {
		return nil, errors.New("exit status 5")
	}
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		h.t.Fatal(err)
	}
	return data, nil
}

var recorded = map[string]string{"vgs": "vgs.json", "lvs": "lvs.json", "lvmconfig": "lvmconfig.txt"}

func TestAsk(t *testing.T) {
	h := &host{t: t, files: recorded}
	got := Ask(t.Context(), h, []Volume{
		{"vg0", "a"}, {"vg0", "skip"}, {"vg1", "b"}, {"vg1", "c"}, {"vg1", "nothing"}, {"vg9", "x"},
	})
	want := []event.LVMInfo{
		{VG: "vg0", LV: "a", GroupFound: true, Found: true, NoAutoActivation: true},
		{VG: "vg0", LV: "skip", GroupFound: true, Found: true, NoAutoActivation: true, SkipActivation: true},
		{VG: "vg1", LV: "b", GroupFound: true, Found: true, Tags: []string{"t1"}},
		{VG: "vg1", LV: "c", GroupFound: true, Found: true, NoAutoActivation: true},
		{VG: "vg1", LV: "nothing", GroupFound: true},
		{VG: "vg9", LV: "x"},
		{Config: map[string]string{
			"devices/filter": `["a|.*|"]`, "devices/global_filter": `["a|.*|"]`, "devices/use_devicesfile": "0", "global/event_activation": "1", "global/use_lvmlockd": "0",
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, line := range h.asked {
		if !strings.HasPrefix(line, "lvmconfig") && !strings.Contains(line, "--readonly") {
			t.Errorf("may write: %s", line)
		}
	}
}

// An LVM before 2.03.12 has no such property, and refuses a report with it; one
// without lvmlockd knows no shared groups.
func TestAskOld(t *testing.T) {
	for _, local := range []bool{false, true} {
		h := &host{t: t, files: map[string]string{"vgs": "vgs-old.json", "lvs": "lvs-old.json", "lvmconfig": "lvmconfig.txt"}, old: true, local: local}
		got := Ask(t.Context(), h, []Volume{{"vg0", "a"}})
		if len(got) != 2 || !got[0].Found || got[0].NoAutoActivation {
			t.Errorf("got %+v", got)
		}
	}
}

func TestAskFails(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		why   string
	}{
		{"no lvm", nil, "vgs: exit status 5 vgs: exit status 5"},
		{"no report", map[string]string{"vgs": "lvmconfig.txt"}, "LVM's report is not understood"},
		{"lvs fails", map[string]string{"vgs": "vgs.json"}, "lvs: exit status 5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Ask(t.Context(), &host{t: t, files: tt.files}, []Volume{{"vg0", "a"}})
			if len(got) != 1 || got[0].Found || !strings.HasPrefix(got[0].Why, tt.why) {
				t.Errorf("got %+v, want why %q", got, tt.why)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	got := parseConfig([]byte("# a comment = none\nactivation {\n\tvolume_list=[ \"vg0\", \"@t\" ]\n\tother=1\n\tauto_activation_volume_list=[]\n}\nglobal {\n\tevent_activation=0\n}\n}\n"))
	want := map[string]string{
		"activation/volume_list": `[ "vg0", "@t" ]`, "activation/auto_activation_volume_list": "[]", "global/event_activation": "0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A real program that answers, fails, prints too much, or never ends.
func TestCommand(t *testing.T) {
	script := filepath.Join(t.TempDir(), "lvm")
	text := "#!/bin/sh\ncase $1 in\nfail) echo no such thing >&2; exit 5;;\nhang) exec sleep 60;;\nmuch) exec head -c 40000000 /dev/zero;;\n*) echo \"$@\";;\nesac\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	c := Command{Path: script}
	out, err := c.Run(t.Context(), "vgs", "-o", "vg_name")
	if err != nil || string(out) != "vgs -o vg_name\n" {
		t.Errorf("got %q, %v", out, err)
	}
	if _, err := c.Run(t.Context(), "fail"); err == nil || !strings.HasPrefix(err.Error(), "no such thing") {
		t.Errorf("failure: %v", err)
	}
	if _, err := c.Run(t.Context(), "much"); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too much: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("took too long"))
	if _, err := c.Run(ctx, "hang"); err == nil {
		t.Error("a command that hangs was waited for")
	}
	if _, err := (Command{Path: "lvm-that-is-not-there"}).Run(t.Context(), "vgs"); !Missing(err) {
		t.Errorf("no program: %v", err)
	}
}

func FuzzReport(f *testing.F) {
	for _, name := range []string{"vgs.json", "lvs.json"} {
		if data, err := os.ReadFile(filepath.Join("testdata", name)); err == nil {
			f.Add(data)
		}
	}
	f.Add([]byte(`{"report":[{"lv":[{"lv_name":1,"x":null,"lv_tags":["a"]}]}]}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		for _, object := range []string{"vg", "lv"} {
			rows, _ := parseReport(data, object)
			for _, r := range rows {
				groupOf(r)
				volumeOf(r)
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("activation {\n\tvolume_list=[\"vg0\"]\n}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for key := range parseConfig(data) {
			if !settings[key] {
				t.Errorf("unwanted setting %q", key)
			}
		}
	})
}
