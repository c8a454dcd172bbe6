package probe

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/probe/execs"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
)

// el7 reads the list of what el7 offers, by kind.
func el7(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("testdata/el7/offers.txt")
	if err != nil {
		t.Fatal(err)
	}
	offers := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if len(f) != 3 || f[2] != "measured" && f[2] != "source" {
			t.Fatalf("line %q", line)
		}
		offers[f[0]] = append(offers[f[0]], f[1])
	}
	return offers
}

var fetchPattern = regexp.MustCompile(`^((?:[+-][0-9]+\()*)([%$][a-z]+)(\)*)$`)

func checkOffered(t *testing.T, offers map[string][]string, p ftrace.Probe) {
	t.Helper()
	want := func(kind, thing string) {
		if !slices.Contains(offers[kind], thing) {
			t.Errorf("probe %s needs the %s %q, which el7 does not offer", p.Name, kind, thing)
		}
	}
	want("function", strings.TrimPrefix(p.Symbol, "dm_mod:"))
	for _, f := range p.Fields {
		want("type", f.Type)
		m := fetchPattern.FindStringSubmatch(f.Fetch)
		if m == nil || strings.Count(m[1], "(") != len(m[3]) {
			t.Errorf("probe %s: fetch %q", p.Name, f.Fetch)
			continue
		}
		want("base", m[2])
		if (m[2] == "$retval") != p.Return {
			t.Errorf("probe %s: fetch %q is not at the %v", p.Name, f.Fetch, p.Return)
		}
	}
	checkFilter(t, p, want)
}

var filterToken = regexp.MustCompile(`"[^"]*"|[a-z0-9_]+|[^a-z0-9_ "()]+|[()]`)

func checkFilter(t *testing.T, p ftrace.Probe, want func(kind, thing string)) {
	t.Helper()
	for _, token := range filterToken.FindAllString(p.Filter, -1) {
		isField := slices.ContainsFunc(p.Fields, func(f ftrace.Field) bool { return f.Name == token })
		if token[0] == '"' || isField || strings.Trim(token, "0123456789") == "" {
			continue
		}
		want("operator", token)
	}
}

// The probes use nothing that el7 lacks.
func TestProbesAreOfferedByEl7(t *testing.T) {
	offers := el7(t)
	a, err := ftrace.ABIOf("amd64")
	if err != nil {
		t.Fatal(err)
	}
	probes := append(dmProbes(a, ftrace.UserMemory{}, "dm_mod:"), statusProbe(a, "dm_mod:"), liveProbe("dm_mod:"),
		openProbe(a, openSymbols[0]),
		openedProbe(openSymbols[0], &layout{inode: 32, mapping: 240, rdev: 76, size: 80}))
	search, _, _ := inodeProbe(a)
	probes = append(probes, search)
	for _, c := range linkCalls {
		if c.name != "renameat2" { // since Linux 3.15; where it is missing it is not missed
			probes = append(probes, c.probes(a, ftrace.UserMemory{}, false)...)
		}
	}
	for _, p := range execs.Probes(a, ftrace.UserMemory{}, false) {
		if !strings.HasPrefix(p.Name, "execveat_") { // since Linux 3.19; where it is missing it is not missed
			probes = append(probes, p)
		}
	}
	names := map[string]bool{}
	for _, p := range probes {
		checkOffered(t, offers, p)
		if names[p.Name] {
			t.Errorf("two probes are called %s", p.Name)
		}
		names[p.Name] = true
		// MAX_TRACE_ARGS, and WRITE_BUFSIZE of kprobe_events.
		if n := len(p.Fields); n > 128 {
			t.Errorf("probe %s has %d fields", p.Name, n)
		}
	}
	if !slices.Contains(offers["event"], "sched/"+evExec) || !slices.Contains(offers["event"], "sched/sched_process_exit") || !slices.Contains(offers["clock"], string(ftrace.GlobalClock)) {
		t.Error("the list lacks the event of execs or the global clock")
	}
}

// What the kernel's filter drops must be dropped by keepOpen, too.
func TestOpenFilterDropsOnlySystemDirectories(t *testing.T) {
	filter := openFilter()
	for _, dir := range systemDirs {
		if strings.HasPrefix(dir, "/lib") {
			dir = "/lib/"
		}
		if !strings.Contains(filter, " != "+strconv.Itoa(int(dir[1])|int(dir[2])<<8)) {
			t.Errorf("%s is not dropped by %s", dir, filter)
		}
	}
	if strings.Contains(filter, strconv.Itoa(int('d')|int('e')<<8)) {
		t.Error("/dev is dropped")
	}
}
