package prometheus

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/exporters/internal/samples"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// whole are Stats with everything that there can be.
func whole(tl *timeline.Timeline) *Stats {
	return &Stats{
		Version: "1.0", Boot: Summarize(tl), Boots: 12, Spool: &Spool{Requests: 3, Bytes: 4096, Refused: 1, Sent: 100_000},
		Service: &Service{Mode: "trace", Start: 3e9, Settled: 60e9,
			Sources: []event.SourceInfo{
				{Name: "ebpf", State: "attached", Abilities: []event.Ability{{Name: "dm", OK: true}, {Name: "exec"}}},
				{Name: "udev", State: "attached"}, {Name: "udev", State: "ended"},
			},
			Events: map[event.Kind]uint64{event.Open: 7, event.Exec: 2}, Lost: map[string]uint64{"open": 0, "log": 5}},
	}
}

func write(tb testing.TB, s *Stats) string {
	tb.Helper()
	var b bytes.Buffer
	if err := Write(&b, s); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func TestWrite(t *testing.T) {
	for name, want := range map[string][]string{
		"demo": {
			`bootrace_boot_races 1`, `bootrace_boot_findings{kind="missing"} 1`, `bootrace_boot_findings{kind="near-miss"} 1`,
			`bootrace_boot_findings{kind="removed"} 0`, `bootrace_boot_complete 1`, `bootrace_boot_guests 3`,
			`bootrace_boot_open_margin_seconds_bucket{le="-2"} 1`, `bootrace_boot_open_margin_seconds_bucket{le="0"} 1`,
			`bootrace_boot_open_margin_seconds_bucket{le="0.5"} 2`, `bootrace_boot_open_margin_seconds_count 4`,
			`bootrace_source_attached{source="ebpf"} 1`, `bootrace_source_attached{source="udev"} 0`,
			`bootrace_source_ability{source="ebpf",ability="exec"} 0`, `bootrace_events_lost_total{what="log"} 5`,
			`bootrace_boots_recorded 12`, `bootrace_spool_size_bytes 4096`, `bootrace_up 1`, `bootrace_mode_info{mode="trace"} 1`,
		},
		"incomplete": {`bootrace_boot_complete 0`, `bootrace_boot_findings_withheld{kind="missing"} 1`, `bootrace_boot_races 1`},
		"held":       {`bootrace_boot_hold_duration_seconds_count 1`, `bootrace_boot_hold_duration_seconds_bucket{le="2"} 0`, `bootrace_boot_hold_duration_seconds_bucket{le="5"} 1`},
	} {
		got := write(t, whole(samples.Load(t, name)))
		for _, line := range want {
			if !strings.Contains(got, line+"\n") {
				t.Errorf("%s: no line %q in\n%s", name, line, got)
			}
		}
	}
}

// TestUnsettled checks that nothing is said of a boot that nobody has judged:
// no races is a different thing.
func TestUnsettled(t *testing.T) {
	got := write(t, &Stats{Version: "1.0", Boots: -1})
	if strings.Contains(got, "bootrace_boot") || !strings.Contains(got, "bootrace_up 0\n") {
		t.Errorf("without a service and a boot there is\n%s", got)
	}
}

// A disk that an operator has accepted rings no alarm, the next one does.
func TestAccepted(t *testing.T) {
	got := write(t, &Stats{Boots: -1, Boot: Summarize(&timeline.Timeline{Findings: []*timeline.Finding{
		{Kind: timeline.Shrunk, Accepted: &timeline.Instant{At: 9e9}}, {Kind: timeline.Shrunk},
	}})})
	if line := `bootrace_boot_findings{kind="shrunk"} 1`; !strings.Contains(got, line+"\n") {
		t.Errorf("no line %q in\n%s", line, got)
	}
}

func TestHolds(t *testing.T) {
	got := write(t, &Stats{Boots: -1, Boot: Summarize(&timeline.Timeline{Findings: []*timeline.Finding{
		{Kind: timeline.Held, Held: 80e9, Outcome: "denied", Reason: "deadline"}, {Kind: timeline.Held}, {Kind: "would-hold", Held: 9e9},
	}})})
	for _, line := range []string{
		"bootrace_boot_hold_timeouts 1", `bootrace_boot_holds{outcome="pending"} 1`, `bootrace_boot_holds{outcome="denied"} 1`,
		`bootrace_boot_holds{outcome="allowed"} 0`, "bootrace_boot_hold_duration_seconds_sum 80",
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
}

// promtool is Prometheus' own judgement.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("NOT RUN: there is no promtool here: `make metrics-test` installs the Debian package prometheus")
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func TestPromtoolMetrics(t *testing.T) {
	for _, name := range []string{"demo", "held", "hostile", "incomplete", "kinds", "large", "empty", "verdicts"} {
		s := whole(samples.Load(t, name))
		promtool(t, write(t, s), "check", "metrics")
		s.Service, s.Spool = nil, nil
		promtool(t, write(t, s), "check", "metrics")
	}
}

func TestPromtoolRules(t *testing.T) {
	promtool(t, "", "check", "rules", rules)
	promtool(t, "", "test", "rules", "testdata/alerts.yaml")
}

const rules = "../../packaging/prometheus/bootrace.rules.yaml"

// TestRulesName checks that the alerts are about metrics that exist.
func TestRulesName(t *testing.T) {
	content, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	metrics := write(t, whole(samples.Load(t, "held")))
	for _, name := range regexp.MustCompile(`\bbootrace_[a-z_]+`).FindAllString(string(content), -1) {
		if !strings.Contains(metrics, "\n"+name) {
			t.Errorf("the alerts use %s, which is not written", name)
		}
	}
}

// FuzzLabels puts foreign text into labels.
func FuzzLabels(f *testing.F) {
	for _, s := range []string{"", "a", `"`, `\`, "\n", "\xff", "{}", "é"} {
		f.Add(s)
	}
	line := regexp.MustCompile(`^(# (HELP|TYPE) .*|[a-z_]+(\{([a-z_]+="([^"\\\n]|\\[\\n"])*",?)+\})? [^ ]+)$`)
	f.Fuzz(func(t *testing.T, s string) {
		tl := &timeline.Timeline{BootID: s, Kernel: s, Findings: []*timeline.Finding{{Kind: s}, {Kind: s, Withheld: s}}}
		stats := whole(tl)
		stats.Version, stats.Service.Mode = s, s
		stats.Service.Sources[0].Name = s
		stats.Service.Lost[s] = 1
		for l := range strings.Lines(write(t, stats)) {
			if !line.MatchString(strings.TrimSuffix(l, "\n")) {
				t.Errorf("the line %q is not of the format", l)
			}
		}
	})
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bootrace.prom")
	for range 2 {
		if err := WriteFile(path, whole(samples.Load(t, "demo"))); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o644 {
		t.Errorf("the file's mode is %v: the collector is another user", info.Mode())
	}
	if list, _ := os.ReadDir(filepath.Dir(path)); len(list) != 1 {
		t.Errorf("the folder has %v", list)
	}
	if err := WriteFile(filepath.Join(t.TempDir(), "none", "x.prom"), &Stats{}); err == nil {
		t.Error("writing to a folder that does not exist is no error")
	}
}

func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stats, ended := whole(samples.Load(t, "demo")), make(chan error, 1)
	go func() { ended <- Serve(ctx, l, func() *Stats { return stats }) }()
	for path, status := range map[string]int{"/metrics": http.StatusOK, "/": http.StatusNotFound} {
		resp, err := http.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != status {
			t.Errorf("%s: %v, %v", path, resp.Status, err)
		}
		if path == "/metrics" && string(body) != write(t, stats) {
			t.Error("a scrape gives something else")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

var errFull = errors.New("no space left")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteError(t *testing.T) {
	if err := Write(full{}, &Stats{}); !errors.Is(err, errFull) {
		t.Errorf("%v, want %v", err, errFull)
	}
}
