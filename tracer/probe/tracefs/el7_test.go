package tracefs

import (
	"encoding/binary"
	"go/constant"
	"go/token"
	"go/types"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/execs"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/probe/syscalls"
)

// el7 reads the list of what el7 offers, by kind.
func el7(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../ftrace/testdata/el7/offers.txt")
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
	for _, p := range endsOfOpens(a, openCalls[1], &layout{inode: 32, mapping: 240, rdev: 76, size: 80}) {
		if p.Name != evOpened { // as above, of another function
			probes = append(probes, p)
		} else if !slices.Contains(offers["function"], p.Symbol) {
			t.Errorf("el7 does not offer the function %s", p.Symbol)
		}
	}
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

// passes has the filter of opens decide, as the kernel would: it reads as an
// expression of Go does, too.
func passes(t *testing.T, path string, flags uint32) bool {
	t.Helper()
	name := append([]byte(path), make([]byte, 8)...)
	values := map[string]uint32{
		"low": flags & 0xff, "first": uint32(name[0]), "next": binary.NativeEndian.Uint32(name[1:]),
		"fifth": uint32(name[5]), "sixth": uint32(name[6]),
	}
	filter := regexp.MustCompile("[a-z]+").ReplaceAllStringFunc(openFilter(), func(field string) string {
		return strconv.Itoa(int(values[field]))
	})
	result, err := types.Eval(token.NewFileSet(), nil, token.NoPos, filter)
	if err != nil {
		t.Fatalf("filter %q: %v", openFilter(), err)
	}
	return constant.BoolVal(result.Value)
}

// The kernel's filter drops what is read in the system's own directories, and
// nothing that syscalls.KeepOpen would keep of a guest.
func TestOpenFilterDropsOnlySystemDirectories(t *testing.T) {
	for _, dir := range event.SystemDirs() {
		if dropped := !passes(t, dir+"x", unix.O_RDONLY); !dropped && dir != "/libx32/" {
			t.Errorf("%s is not dropped by %s", dir, openFilter())
		}
		for _, path := range []string{
			dir + "x", strings.TrimSuffix(dir, "/") + "x/base.qcow2", dir[:3] + "/base.qcow2", dir[:3] + "ers/vm/base.qcow2",
			dir[:4] + "/base.qcow2", dir[:4] + "x/base.qcow2", dir[:5] + "_data/base.qcow2", dir[1:], dir[:2],
		} {
			for _, flags := range []uint32{unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_CREAT} {
				if syscalls.KeepOpen(&event.OpenInfo{Path: path, Type: "file", Flags: flags}, true) && !passes(t, path, flags) {
					t.Errorf("%s with flags %#o is dropped", path, flags)
				}
			}
		}
	}
	for _, path := range []string{"/users/vm/base.qcow2", "/prod/base.qcow2", "/libvirt/base.qcow2", "/proj", "/dev/vg/lv", "/", "base.qcow2"} {
		if !passes(t, path, unix.O_RDONLY) {
			t.Errorf("%s is dropped", path)
		}
	}
}
