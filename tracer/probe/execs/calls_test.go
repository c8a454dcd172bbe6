package execs

import (
	"fmt"
	"slices"
	"testing"

	"github.com/bootrace/bootrace/tracer/probe/ftrace"
)

// entry are the records of an execve.
func entry(at uint64, tid int, file string, args ...string) []hit {
	var hits []hit
	for n := 0; n*portion <= len(args); n++ {
		h := hit{at: at, tid: tid, event: eventName("execve", n), file: slot{text: file, ok: true}}
		for i := range h.slots {
			if k := n*portion + i; k < len(args) {
				h.slots[i] = slot{text: args[k], ok: true}
			} else if k == len(args) {
				h.slots[i] = slot{null: true}
			} else {
				h.slots[i] = slot{text: "noise"} // beyond the end
			}
		}
		hits = append(hits, h)
	}
	return hits
}

func args(n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprint("a", i))
	}
	return list
}

func taken(hits ...[]hit) calls {
	c := calls{}
	for _, h := range slices.Concat(hits...) {
		c.take(&h)
	}
	return c
}

func TestArguments(t *testing.T) {
	for n := range 3 * portion {
		c := taken(entry(1, 7, "/usr/bin/kvm", args(n)...))
		call := c.newest([]int{7})
		if call == nil || !call.done || call.broken != "" || !slices.Equal(call.Args, args(n)) || call.Filename != "/usr/bin/kvm" {
			t.Errorf("%d arguments: %+v", n, call)
		}
	}
}

// What is missing or unreadable is never taken for all there is.
func TestIncomplete(t *testing.T) {
	whole := entry(1, 7, "kvm", args(2*portion+2)...)
	unreadable := entry(1, 7, "kvm", args(2*portion+2)...)
	unreadable[1].slots[2].ok = false
	for name, hits := range map[string][]hit{
		"the end is missing":    whole[:2],
		"the middle is missing": {whole[0], whole[2]},
		"unreadable":            unreadable,
	} {
		if call := taken(hits).newest([]int{7}); call == nil || call.done && call.broken == "" {
			t.Errorf("%s: %+v", name, call)
		}
	}
	if call := taken(whole[1:]).newest([]int{7}); call != nil {
		t.Errorf("without its beginning: %+v", call)
	}
}

// Noise behind the end changes nothing.
func TestBeyondTheEnd(t *testing.T) {
	hits := entry(1, 7, "kvm", args(2)...)
	noise := hit{at: 1, tid: 7, event: eventName("execve", 1)}
	if call := taken(hits, []hit{noise}).newest([]int{7}); len(call.Args) != 2 || call.broken != "" || !call.done {
		t.Errorf("got %+v", call)
	}
}

func TestEnds(t *testing.T) {
	first, second := entry(1, 7, "a"), entry(2, 7, "b")
	if call := taken(first, second).newest([]int{7}); call.Filename != "b" {
		t.Errorf("one that failed is still there: %+v", call)
	}
	// By another thread than the first, which takes over its id.
	done := []hit{{at: 3, tid: 6, old: 7, event: evExec}}
	if c := taken(first, done); len(c) != 0 {
		t.Errorf("after the exec: %+v", c)
	}
	if c := taken(first, []hit{{at: 3, tid: 7, event: evExit}}); len(c) != 0 {
		t.Errorf("after the end: %+v", c)
	}
	if call := taken(entry(1, 7, "a"), entry(5, 8, "b"), entry(3, 9, "c")).newest([]int{7, 8, 9}); call.Filename != "b" {
		t.Errorf("of several threads: %+v", call)
	}
}

// Calls that failed and never came to an end don't pile up.
func TestPrune(t *testing.T) {
	c := calls{}
	for tid := range maxCalls + 10 {
		c[tid] = &Call{TID: tid, at: uint64(tid) * 1e9}
	}
	c.prune()
	if len(c) > 100 || c[maxCalls+9] == nil {
		t.Errorf("%d are left", len(c))
	}
}

// The kernel takes lines of less than a page, and records that fit into one.
func TestDefinitions(t *testing.T) {
	a, err := ftrace.ABIOf("amd64")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Probes(a, ftrace.UserMemory{Own: true}, true) {
		length := 0
		for _, f := range p.Fields {
			length += len(f.Name) + len(f.Fetch) + len(f.Type) + 3
		}
		if length > 3000 || len(p.Fields) > 128 {
			t.Errorf("%s: %d bytes, %d fields", p.Name, length, len(p.Fields))
		}
	}
}
