package execs

import (
	"fmt"
	"slices"

	"github.com/bootrace/bootrace/tracer/probe/ftrace"
)

// A list of arguments is recorded in portions, by a probe each, all at the same
// function: a record must fit into a page, and one argument can be long.
const (
	portion  = 8
	portions = 32 // 256 arguments: real guests have up to 200
)

// The kernel's own events.
const (
	evExec = "sched_process_exec"
	evExit = "sched_process_exit"
)

// systemCall is one that executes a program: where its arguments are.
type systemCall struct {
	name       string
	file, argv int
	optional   bool
}

var systemCalls = []systemCall{
	{"execve", 0, 1, false},
	{"execveat", 1, 2, true},
}

// Probes are all probes of an architecture with system calls as before Linux
// 4.17, or wrapped as since.
func Probes(a ftrace.ABI, m ftrace.UserMemory, wrapped bool) []ftrace.Probe {
	var probes []ftrace.Probe
	for _, c := range systemCalls {
		probes = append(probes, c.probes(a, m, wrapped)...)
	}
	return probes
}

// probes record the name of the program and the beginning of the list in the
// first, and in each of the others what follows, if the list goes on. Beyond
// its end there is anything. The kernel runs the probes of one function from the
// last to the first.
func (c systemCall) probes(a ftrace.ABI, m ftrace.UserMemory, wrapped bool) []ftrace.Probe {
	symbol, args := a.SystemCall(c.name, wrapped)
	list := args[c.argv]
	var probes []ftrace.Probe
	for n := range portions {
		p := ftrace.Probe{Name: eventName(c.name, n), Symbol: symbol}
		if n == 0 {
			p.Fields = append(p.Fields, ftrace.Field{Name: fieldFile, Fetch: m.At(0, args[c.file]), Type: m.String()})
		} else {
			p.Filter = "before != 0"
			p.Fields = append(p.Fields, ftrace.Field{Name: "before", Fetch: m.At(pointer*(n*portion-1), list), Type: "u64"})
		}
		for i := range portion {
			slot := m.At(pointer*(n*portion+i), list)
			p.Fields = append(p.Fields,
				ftrace.Field{Name: fieldPointer(i), Fetch: slot, Type: "u64"},
				ftrace.Field{Name: fieldText(i), Fetch: m.At(0, slot), Type: m.String()})
		}
		probes = append(probes, p)
	}
	slices.Reverse(probes)
	return probes
}

// pointer is the size of one, on the architectures that there are probes for.
const pointer = 8

const fieldFile = "file"

func eventName(call string, n int) string { return fmt.Sprintf("%s_%d", call, n) }
func fieldPointer(i int) string           { return fmt.Sprintf("p%d", i) }
func fieldText(i int) string              { return fmt.Sprintf("a%d", i) }
