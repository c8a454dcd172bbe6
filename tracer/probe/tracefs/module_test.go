package tracefs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/probe/syscalls"
)

// fakeProbes lets probes of these names be defined and turned on in the folder of a
// fake.
func fakeProbes(t *testing.T, b *Backend, names ...string) {
	t.Helper()
	group, err := ftrace.Owner()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		dir := "events/" + group + "/" + name
		writeFake(t, string(b.dir), dir+"/filter", "")
		writeFake(t, string(b.dir), dir+"/enable", "")
		writeFake(t, string(b.dir), dir+"/format", fmt.Sprintf("name: %s\nID: %d\n\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n", name, 400+i))
	}
}

// kprobeEvents is all that was written to define and remove probes.
func kprobeEvents(t *testing.T, b *Backend) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(string(b.dir), "kprobe_events"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Linux 4.12 to 5.7 take a probe at an entry in a module that is yet to be loaded, and
// none at a return. Device-mapper is seen there all the same, from its first request on.
func TestWaitsForTheModule(t *testing.T) {
	if devmap.ModuleLoaded() {
		t.Skip("NOT TESTED: dm_mod is loaded")
	}
	loaded := false
	b, _ := fakeBackend(t, backend.Options{}, asIf{refuses: func(p ftrace.Probe) error {
		if p.Return && strings.HasPrefix(p.Symbol, "dm_mod:") && !loaded {
			return unix.EINVAL
		}
		return nil
	}})
	var err error
	if b.abi, err = ftrace.ABIOf("amd64"); err != nil {
		t.Fatal(err)
	}
	fakeProbes(t, b, evRequest, evRequest+suffixReturn, evStatus, evLive, "verify")
	limits, err := b.attachDM(b.abi)
	if err != nil || !strings.Contains(limits, "armed, dm_mod is not loaded yet") {
		t.Fatalf("%q, %v", limits, err)
	}
	if _, err := b.attachLive(b.abi); !errors.Is(err, errNotLoaded) {
		t.Errorf("the instant: %v", err)
	}
	b.status.Abilities = []event.Ability{{Name: backend.AbilityDM, OK: true, Why: limits}, {Name: backend.AbilityDMLiveInstant, Why: errNotLoaded.Error()}}
	if text := kprobeEvents(t, b); strings.Contains(text, suffixReturn) || !strings.Contains(text, "/"+evRequest+" dm_mod:"+syscalls.DMFunction) || !strings.Contains(text, "/"+evStatus+" ") {
		t.Errorf("before the module is loaded:\n%s", text)
	}

	// The first mapping is made, and something is removed.
	const tid = 77
	handle := func(h hit) []event.Event { h.tid = tid; return b.calls.handle(&h) }
	request := func(at event.Time, nr uint32) []event.Event {
		return handle(hit{at: at, event: evRequest, nr: nr, name: "vg-lv"})
	}
	var events []event.Event
	events = append(events, request(100, bpf.DMDevCreate)...)
	events = append(events, handle(hit{at: 120, event: evStatus, name: "vg-lv", uuid: "LVM-x", dev: 0xfc00})...)
	events = append(events, request(200, bpf.DMDevRemove)...)
	events = append(events, request(300, bpf.DMTableLoad)...)
	if len(events) != 1 || events[0].Kind != event.DMCreate || events[0].From != 100 || events[0].At != 120 || events[0].DM.UUID != "LVM-x" || events[0].DM.Errno != 0 {
		t.Errorf("told: %+v", events)
	}
	if n := b.calls.missed[lossDM]; n != 1 {
		t.Errorf("%d requests are counted as lost, want the removal", n)
	}

	loaded = true
	if err := b.DeviceMapperLoaded(); err != nil {
		t.Fatal(err)
	}
	if text := kprobeEvents(t, b); !strings.Contains(text, "/"+evRequest+suffixReturn+" dm_mod:"+syscalls.DMFunction) || !strings.Contains(text, "/"+evLive+" ") {
		t.Errorf("after the module was loaded:\n%s", text)
	}
	upgraded := b.takeUpgraded()
	if len(upgraded) != 1 || slices.ContainsFunc(upgraded[0].Source.Abilities, func(a event.Ability) bool { return !a.OK || strings.Contains(a.Why, "armed") }) {
		t.Errorf("told: %+v", upgraded)
	}
	later := event.Now() + 1
	if told := handle(hit{at: later, event: evStatus, name: "vg-lv", dev: 0xfc00}); len(told) > 0 {
		t.Errorf("told before its return: %+v", told)
	}
	told := handle(hit{at: later + 1, event: evRequest + suffixReturn, ret: -int64(unix.EINVAL)})
	if len(told) != 1 || told[0].Kind != event.DMLoad || told[0].DM.Errno != int(unix.EINVAL) {
		t.Errorf("told at its return: %+v", told)
	}
}

// Where a kernel refuses more than that, it is told why.
func TestCannotProbeTheModule(t *testing.T) {
	if devmap.ModuleLoaded() {
		t.Skip("NOT TESTED: dm_mod is loaded")
	}
	b, _ := fakeBackend(t, backend.Options{}, asIf{refuses: func(p ftrace.Probe) error { return unix.EINVAL }})
	b.abi, _ = ftrace.ABIOf("amd64")
	if limits, err := b.attachDM(b.abi); !errors.Is(err, unix.EINVAL) || b.waiting {
		t.Errorf("%q, %v", limits, err)
	}
}
