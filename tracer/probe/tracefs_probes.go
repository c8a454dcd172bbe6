package probe

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
)

// This file has the probes of the tracefs backend. They use nothing that Linux
// 3.10 lacks: fetches of registers, memory and return values; numbers of 8 to
// 64 bits and strings; comparisons and globs in filters. A test holds them
// against testdata/el7.

// The names of the events.
const (
	evExec   = "sched_process_exec"
	evOpen   = "open"
	evOpened = "opened"
	evStatus = "dm_status"
	evLive   = "dm_live"

	// An event at a function's return is named like that at its entry.
	suffixReturn = "_done"
)

// openSymbols are the functions behind all opens, io_uring's and 32-bit
// programs' included: (dfd, struct filename *, const struct open_flags *).
// The second is its name since Linux 7.0.
var openSymbols = []string{"do_filp_open", "do_file_open"}

// openProbe is at the entry of an open. The path is the kernel's own copy.
func openProbe(a ftrace.ABI, symbol string) ftrace.Probe {
	name := ftrace.At(0, a.Args[1])
	return ftrace.Probe{Name: evOpen, Symbol: symbol, Filter: openFilter(), Fields: []ftrace.Field{
		{Name: "path", Fetch: ftrace.At(0, name), Type: "string"},
		{Name: "flags", Fetch: ftrace.At(0, a.Args[2]), Type: "u32"},
		{Name: "low", Fetch: ftrace.At(0, a.Args[2]), Type: "u8"},
		{Name: "first", Fetch: ftrace.At(0, name), Type: "u8"},
		{Name: "next", Fetch: ftrace.At(1, name), Type: "u16"},
	}}
}

// openFilter leaves out what keepOpen would drop anyway, most of all opens:
// those for reading in the system's own directories. Filters of 3.10 know
// neither "not" nor "and" of bits, hence numbers instead of globs.
func openFilter() string {
	var readOnly, elsewhere []string
	// O_RDONLY with or without O_CREAT, O_EXCL and the kernel's FMODE_EXEC.
	for _, low := range []int{0, unix.O_CREAT, unix.O_EXCL, unix.O_CREAT | unix.O_EXCL, fmodeExec} {
		readOnly = append(readOnly, fmt.Sprintf("low != %d", low))
	}
	for _, dir := range systemDirs {
		if !strings.HasPrefix(dir, "/lib") || dir == "/lib/" {
			elsewhere = append(elsewhere, fmt.Sprintf("next != %d", int(dir[1])|int(dir[2])<<8))
		}
	}
	return fmt.Sprintf("first != %d || (%s) || (%s)", '/', strings.Join(readOnly, " && "), strings.Join(elsewhere, " && "))
}

// fmodeExec is __FMODE_EXEC in open_flags.open_flag: the open of an exec.
const fmodeExec = 0x20

// openedProbe is at the return, with what was opened where the layout of the
// kernel's structures is known.
func openedProbe(symbol string, l *layout) ftrace.Probe {
	p := ftrace.Probe{Name: evOpened, Symbol: symbol, Return: true, Fields: []ftrace.Field{
		{Name: "ret", Fetch: "$retval", Type: "s64"},
	}}
	if l != nil {
		inode := ftrace.At(l.inode, "$retval")
		p.Fields = append(p.Fields,
			ftrace.Field{Name: "mode", Fetch: ftrace.At(0, inode), Type: "u16"},
			ftrace.Field{Name: "rdev", Fetch: ftrace.At(l.rdev, inode), Type: "u32"},
			ftrace.Field{Name: "size", Fetch: ftrace.At(l.size, ftrace.At(0, ftrace.At(l.mapping, "$retval"))), Type: "s64"},
		)
	}
	return p
}

// Offsets in struct dm_ioctl, see bpf/event.h; where the new name is in a
// rename, and the first target in a load, as libdevmapper lays them out.
const (
	dmVersion   = 0
	dmDataStart = 16
	dmFlags     = 28
	dmEventNr   = 32
	dmDev       = 40
	dmName      = 48
	dmUUID      = 176
	dmData      = 312
)

// dmFunctions are device-mapper's requests: event and function.
var dmFunctions = []struct{ event, symbol string }{
	{"dm_create", "dev_create"},
	{"dm_remove", "dev_remove"},
	{"dm_rename", "dev_rename"},
	{"dm_suspend", "dev_suspend"}, // and resume
	{"dm_load", "table_load"},
	{"dm_remove_all", "remove_all"},
}

// dmPositions are where the functions above get their struct dm_ioctl: the
// first argument before dm 4.37, the second since. There is a probe for each,
// and only that with the interface's version at the structure's beginning
// passes its filter: so the first request of a module that is not loaded yet is
// read right.
var dmPositions = []string{"_1", "_2"}

// dmProbes are the probes in device-mapper; in is where its functions are.
func dmProbes(a ftrace.ABI, in string) []ftrace.Probe {
	var probes []ftrace.Probe
	for _, f := range dmFunctions {
		probes = append(probes, ftrace.Probe{
			Name: f.event + suffixReturn, Symbol: in + f.symbol, Return: true,
			Fields: []ftrace.Field{{Name: "ret", Fetch: "$retval", Type: "s32"}},
		})
		for i, position := range dmPositions {
			p := dmProbe(f.event+position, in+f.symbol, a.Args[i])
			if f.event == "dm_rename" {
				p.Fields = append(p.Fields, ftrace.Field{Name: "new", Fetch: ftrace.At(dmData, a.Args[i]), Type: "string"})
			}
			probes = append(probes, p)
		}
	}
	return probes
}

func dmProbe(event, symbol, param string) ftrace.Probe {
	return ftrace.Probe{Name: event, Symbol: symbol, Filter: "version == 4", Fields: []ftrace.Field{
		{Name: "version", Fetch: ftrace.At(dmVersion, param), Type: "u32"},
		{Name: "start", Fetch: ftrace.At(dmDataStart, param), Type: "u32"},
		{Name: "flags", Fetch: ftrace.At(dmFlags, param), Type: "u32"},
		{Name: "cookie", Fetch: ftrace.At(dmEventNr, param), Type: "u32"},
		{Name: "dev", Fetch: ftrace.At(dmDev, param), Type: "u64"},
		{Name: "name", Fetch: ftrace.At(dmName, param), Type: "string"},
		{Name: "uuid", Fetch: ftrace.At(dmUUID, param), Type: "string"},
	}}
}

// statusProbe is where the kernel fills in its answer: by then the request has
// name and uuid, whatever the caller gave: __dev_status(md, param).
func statusProbe(a ftrace.ABI, in string) ftrace.Probe {
	return dmProbe(evStatus, in+"__dev_status", a.Args[1])
}

// liveProbe is the instant at which a table is live, as in bpf/dm.h.
func liveProbe(in string) ftrace.Probe {
	return ftrace.Probe{Name: evLive, Symbol: in + "dm_resume", Return: true,
		Fields: []ftrace.Field{{Name: "ret", Fetch: "$retval", Type: "s32"}}}
}

// linkCall is a system call that makes a name: the arguments that are the old
// name, or where a link leads, and the new one.
type linkCall struct {
	name     string
	from, to int
}

var linkCalls = []linkCall{
	{"symlink", 0, 1}, {"symlinkat", 0, 2},
	{"rename", 0, 1}, {"renameat", 1, 3}, {"renameat2", 1, 3},
}

// probes are at the entry and the return of the system call. Its names are in
// the caller's memory.
func (c linkCall) probes(a ftrace.ABI, wrapped bool) []ftrace.Probe {
	symbol, args := a.SystemCall(c.name, wrapped)
	return []ftrace.Probe{
		{Name: c.name + suffixReturn, Symbol: symbol, Return: true, Fields: []ftrace.Field{{Name: "ret", Fetch: "$retval", Type: "s64"}}},
		{Name: c.name, Symbol: symbol, Filter: `path ~ "/dev/*"`, Fields: []ftrace.Field{
			{Name: "from", Fetch: ftrace.At(0, args[c.from]), Type: "string"},
			{Name: "path", Fetch: ftrace.At(0, args[c.to]), Type: "string"},
		}},
	}
}

// dmModule is where device-mapper's functions are: in a module, also where it
// is yet to be loaded, or in the kernel itself.
func dmModule() string {
	modules, err := os.ReadFile("/proc/modules")
	loaded := err == nil && strings.Contains("\n"+string(modules), "\ndm_mod ")
	if !loaded && devmap.Registered("/") {
		return ""
	}
	return "dm_mod:"
}
