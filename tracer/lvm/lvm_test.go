package lvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

func (h *host) Run(_ context.Context, command string, args ...string) (Output, error) {
	line := strings.Join(append([]string{command}, args...), " ")
	h.asked = append(h.asked, line)
	if h.old && strings.Contains(line, "autoactivation") {
		// Beside the error there is an empty report, and the status is that of any failure.
		return Output{Stdout: []byte("  {\n      \"report\": [\n      ]\n  }\n")}, &Failure{command, "Unrecognised field: autoactivation", errors.New("exit status 5")}
	}
	if h.local && strings.Contains(line, "--shared") {
		return Output{}, &Failure{command, "unrecognized option '--shared' Error during parsing of command line.", errors.New("exit status 3")}
	}
	name, ok := h.files[command]
	if !ok {
		return Output{}, &Failure{command, "", errors.New("exit status 5")}
	}
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		h.t.Fatal(err)
	}
	return Output{Stdout: data}, nil
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
		if len(got) != 2 || !got[0].Found || got[0].NoAutoActivation || !got[0].NoProperty {
			t.Errorf("got %+v", got)
		}
	}
}

// A volume for which there is no answer has a reason of its own.
func TestNoAnswer(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		why   string
	}{
		{"no lvm", nil, "vgs: exit status 5"},
		{"no report", map[string]string{"vgs": "lvmconfig.txt"}, "vgs: LVM's report is not understood"},
		{"lvs fails", map[string]string{"vgs": "vgs.json"}, "lvs: exit status 5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Ask(t.Context(), &host{t: t, files: tt.files}, []Volume{{"vg0", "a"}})
			if got[0].Found || !strings.HasPrefix(got[0].Why, tt.why) {
				t.Errorf("got %+v, want why %q", got, tt.why)
			}
		})
	}
}

// printed answers each command with texts.
type printed map[string]struct {
	stdout, stderr, err string
	cut                 bool
}

func (p printed) Run(_ context.Context, command string, args ...string) (Output, error) {
	a, ok := p[question(command, args)]
	if !ok {
		return Output{Stdout: []byte(`{"report":[]}`)}, nil
	}
	out := Output{Stdout: []byte(a.stdout), Stderr: []byte(a.stderr), Cut: a.cut}
	if a.err != "" {
		return out, &Failure{command, brief(out.Stderr), errors.New(a.err)}
	}
	return out, nil
}

func vgs(names ...string) string {
	var b strings.Builder
	b.WriteString("  {\n      \"report\": [\n          {\n              \"vg\": [\n")
	for i, name := range names {
		fmt.Fprintf(&b, "                  {\"vg_name\":%q, \"vg_missing_pv_count\":\"0\"}", name)
		if i < len(names)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("              ]\n          }\n      ]\n  }\n")
	return b.String()
}

func lvs(volumes ...string) string {
	rows := make([]string, 0, len(volumes))
	for _, v := range volumes {
		vg, lv, _ := strings.Cut(v, "/")
		rows = append(rows, fmt.Sprintf(`{"vg_name":%q,"lv_name":%q}`, vg, lv))
	}
	return `{"report":[{"lv":[` + strings.Join(rows, ",") + `]}]}`
}

// What goes wrong with one group, or in the middle of a report, costs only what
// it is about.
func TestPartial(t *testing.T) {
	whole := vgs("vg0", "vg1")
	for _, tt := range []struct {
		name       string
		run        printed
		found, why string // of vg0/a; found of vg1/b is always wanted
	}{
		{"a message in the report", printed{"vgs": {stdout: strings.Replace(whole, "          {\n", "  Retrying metadata scan.\n          {\n", 1)}, "lvs": {stdout: lvs("vg0/a", "vg1/b")}}, "found", ""},
		{"messages before and after", printed{"vgs": {stdout: "  WARNING: {odd} \"thing\"\n" + whole + "  Done.\n"}, "lvs": {stdout: lvs("vg0/a", "vg1/b")}}, "found", ""},
		{"two reports", printed{"vgs": {stdout: vgs("vg0") + vgs("vg1")}, "lvs": {stdout: lvs("vg0/a") + "\n" + lvs("vg1/b")}}, "found", ""},
		{"status 5, a group is skipped", printed{
			"vgs": {stdout: vgs("vg1"), stderr: "  Cannot process volume group vg0\n", err: "exit status 5"}, "lvs": {stdout: lvs("vg1/b")},
		}, "", "vgs: Cannot process volume group vg0"},
		{"status 5, nobody says why", printed{"vgs": {stdout: vgs("vg1"), err: "exit status 5"}, "lvs": {stdout: lvs("vg1/b")}}, "", "vgs: exit status 5"},
		{"old clustered group", printed{
			"vgs": {stdout: vgs("vg1"), stderr: "  Skipping clustered volume group vg0\n", err: "exit status 5"}, "lvs": {stdout: lvs("vg1/b")},
		}, "clustered", ""},
		{"another clustered group", printed{
			"vgs": {stdout: vgs("vg1"), stderr: "  Skipping clustered volume group vg00\n", err: "exit status 5"}, "lvs": {stdout: lvs("vg1/b")},
		}, "", ""},
		{"vgs ends early", printed{"vgs": {stdout: `{"report":[{"vg":[{"vg_name":"vg1"},{"vg_na`}, "lvs": {stdout: lvs("vg1/b")}}, "", "vgs: LVM's report is damaged, or ends early"},
		{"vgs printed too much", printed{"vgs": {stdout: vgs("vg1"), cut: true}, "lvs": {stdout: lvs("vg1/b")}}, "", "vgs: LVM's report is damaged, or ends early"},
		{"lvs ends early", printed{"vgs": {stdout: whole}, "lvs": {stdout: strings.TrimSuffix(lvs("vg1/b"), "]}]}")}}, "", "lvs: LVM's report is damaged, or ends early"},
		{"a row is damaged", printed{"vgs": {stdout: whole}, "lvs": {stdout: "{\"report\":[{\"lv\":[{\"vg_name\":\"vg0\",\"lv_name\":\x00\xff},{\"vg_name\":\"vg1\",\"lv_name\":\"b\"}]}]}"}}, "", "lvs: LVM's report is damaged, or ends early"},
		{"lvs fails on a group", printed{
			"vgs": {stdout: whole}, "lvs": {stdout: lvs("vg1/b"), stderr: "  WARNING: x\n  Volume group \"vg0\" is busy.\n", err: "exit status 5"},
		}, "", `lvs: Volume group "vg0" is busy.`},
		{"another host's, and LVM fails to say so", printed{"vgs": {stdout: vgs("vg1")}, "vgs --foreign": {stderr: "no", err: "signal: killed"}, "lvs": {stdout: lvs("vg1/b")}}, "", "vgs: no (signal: killed)"},
		{"an LVM without system ids", printed{"vgs": {stdout: vgs("vg1")}, "vgs --foreign": {stderr: "vgs: unrecognized option '--foreign'", err: "exit status 3"}, "lvs": {stdout: lvs("vg1/b")}}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Ask(t.Context(), tt.run, []Volume{{"vg0", "a"}, {"vg1", "b"}})
			a, b := got[0], got[1]
			if !b.Found || b.Why != "" {
				t.Errorf("the other volume: %+v", b)
			}
			if a.Found != (tt.found == "found") || a.Clustered != (tt.found == "clustered") || !strings.HasPrefix(a.Why, tt.why) || (a.Why == "") != (tt.why == "") {
				t.Errorf("got %+v, want why %q", a, tt.why)
			}
		})
	}
}

// A list that a newer LVM prints as such (json_std), a null and a number.
func TestJSONStd(t *testing.T) {
	r, err := parse(Output{Stdout: []byte(`{"report":[{"lv":[{"vg_name":"vg","lv_name":"a","lv_tags":["x","y"],"pool_lv":null,"n":3}]}],"log":[{"log_seq_num":1}]}`)}, "lv")
	want := []row{{"vg_name": "vg", "lv_name": "a", "lv_tags": "x,y", "pool_lv": "", "n": "3"}}
	if diff := cmp.Diff(want, r.rows); diff != "" || err != nil || !r.whole {
		t.Errorf("%v, whole %v: %s", err, r.whole, diff)
	}
}

func TestLook(t *testing.T) {
	const plain = `{"report":[` + "\n  Retrying metadata scan.\n" + `{"lv":[{"lv_active":"active","lv_skip_activation":"","vg_lock_type":"","vg_clustered":"","lv_autoactivation":"","vg_autoactivation":"enabled"}]}]}`
	got, err := Look(t.Context(), printed{"lvs": {stdout: plain, stderr: "  WARNING: something", err: "exit status 5"}}, Volume{"vg", "a"})
	if want := (State{Active: true, AutoActivationOff: true}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{`{"report":[{"lv":[]}]}`, ``, `  WARNING: x`, `{"report":[{"lv":[{"lv_active":""},{"lv_active":""}]}]}`} {
		if _, err := Look(t.Context(), printed{"lvs": {stdout: text}}, Volume{"vg", "a"}); err == nil {
			t.Errorf("%q is an answer", text)
		}
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
	text := `#!/bin/sh
case $1 in
fail) echo row; echo WARNING: odd >&2; echo no such thing >&2; exit 5;;
help) head -c 100000 /dev/zero | tr '\0' '\n' >&2; echo Unrecognised field: x >&2; exit 5;;
hang) exec sleep 60;;
much) exec head -c 40000000 /dev/zero;;
env) echo "$LVM_SYSTEM_DIR,$LVM_SUPPRESS_FD_WARNINGS,$LC_ALL,$HOME";;
*) echo "$@";;
esac
`
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LVM_SYSTEM_DIR", "/somewhere")
	t.Setenv("LC_ALL", "de_DE")
	for _, c := range []Command{{Path: script}, {Path: script, Changes: true}} {
		if out, err := c.Run(t.Context(), "vgs", "-o", "vg_name"); err != nil || string(out.Stdout) != "vgs -o vg_name\n" {
			t.Errorf("got %q, %v", out.Stdout, err)
		}
		if out, err := c.Run(t.Context(), "env"); err != nil || string(out.Stdout) != "/somewhere,1,C,\n" {
			t.Errorf("environment: %q, %v", out.Stdout, err)
		}
		if out, err := c.Run(t.Context(), "fail"); err == nil || err.Error() != "fail: no such thing (exit status 5)" || string(out.Stdout) != "row\n" {
			t.Errorf("failure: %q, %v", out.Stdout, err)
		}
		if _, err := c.Run(t.Context(), "help"); !refused(err) {
			t.Errorf("the last message is lost: %v", err)
		}
		if out, err := c.Run(t.Context(), "much"); err != nil || !out.Cut || len(out.Stdout) != maxOutput {
			t.Errorf("too much: %d bytes, %v", len(out.Stdout), err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("it took too long"))
		if _, err := c.Run(ctx, "hang"); err == nil || err.Error() != "hang: it took too long" {
			t.Errorf("a command that hangs: %v", err)
		}
		cancel()
	}
	if _, err := (Command{Path: "lvm-that-is-not-there"}).Run(t.Context(), "vgs"); !Missing(err) {
		t.Errorf("no program: %v", err)
	}
}

func FuzzAsk(f *testing.F) {
	for _, name := range []string{"vgs.json", "lvs.json"} {
		if data, err := os.ReadFile(filepath.Join("testdata", name)); err == nil {
			f.Add(data, []byte("  Skipping clustered VG vg0.\n"), true)
		}
	}
	f.Add([]byte(`{"report":[{"lv":[{"lv_name":1,"x":null,"lv_tags":["a"]}]}]}`), []byte("vg0"), false)
	f.Add([]byte(`{"report":[{"vg":[{"vg_name":"vg0"`), []byte("\xff\x00"), true)
	f.Fuzz(func(t *testing.T, stdout, stderr []byte, fails bool) {
		run := fuzzed{Output{Stdout: stdout, Stderr: stderr}, fails}
		for _, a := range Ask(t.Context(), run, []Volume{{"vg0", "a"}}) {
			if len(a.Why) > 200 || len(a.Damaged) > 200 || len(a.Owner) > 200 || len(a.PVs) > maxPVs {
				t.Errorf("an answer without a bound: %+v", a)
			}
		}
		_, _ = Look(t.Context(), run, Volume{"vg0", "a"})
	})
}

type fuzzed struct {
	out   Output
	fails bool
}

func (f fuzzed) Run(_ context.Context, command string, _ ...string) (Output, error) {
	if f.fails {
		return f.out, &Failure{command, brief(f.out.Stderr), errors.New("exit status 5")}
	}
	return f.out, nil
}

// Foreign bytes cost time in proportion to their number.
func TestParseBound(t *testing.T) {
	deep := bytes.Repeat([]byte(`{"vg":[{"a":`), 1<<18)
	r, _ := parse(Output{Stdout: deep}, "vg")
	if r.whole || len(r.rows) > 0 {
		t.Errorf("%d rows, whole %v", len(r.rows), r.whole)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("activation {\n\tvolume_list=[\"vg0\"]\n}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for key, value := range parseConfig(data) {
			if !settings[key] || len(value) > maxSetting {
				t.Errorf("unwanted setting %q of %d bytes", key, len(value))
			}
		}
	})
}
