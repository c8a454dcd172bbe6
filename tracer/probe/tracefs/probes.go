package tracefs

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/probe/syscalls"
)

// This file has the probes. They use nothing that Linux
// 3.10 lacks: fetches of registers, memory and return values; numbers of 8 to
// 64 bits and strings; comparisons and globs in filters. A test holds them
// against ftrace/testdata/el7.

// The names of the events.
const (
	evExec    = "sched_process_exec"
	evOpen    = "open"
	evOpened  = "opened"
	evFile    = "open_file"
	evFailed  = "open_failed"
	evRequest = "dm_request"
	evStatus  = "dm_status"
	evLive    = "dm_live"

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
		{Name: "next", Fetch: ftrace.At(1, name), Type: "u32"},
		{Name: "fifth", Fetch: ftrace.At(5, name), Type: "u8"},
		{Name: "sixth", Fetch: ftrace.At(6, name), Type: "u8"},
	}}
}

// openFilter leaves out what syscalls.KeepOpen would drop anyway, most of all opens:
// those for reading in the system's own directories. Filters of 3.10 know
// neither "not" nor "and" of bits, hence numbers instead of globs.
func openFilter() string {
	var readOnly, elsewhere []string
	// O_RDONLY with or without O_CREAT, O_EXCL and the kernel's FMODE_EXEC.
	for _, low := range []int{0, unix.O_CREAT, unix.O_EXCL, unix.O_CREAT | unix.O_EXCL, fmodeExec} {
		readOnly = append(readOnly, fmt.Sprintf("low != %d", low))
	}
	for _, dir := range event.SystemDirs() {
		rest := dir[5:]
		if len(rest) > 2 {
			continue // rare enough
		}
		differs := []string{fmt.Sprintf("next != %d", binary.NativeEndian.Uint32([]byte(dir[1:])))}
		for i, field := range []string{"fifth", "sixth"}[:len(rest)] {
			differs = append(differs, fmt.Sprintf("%s != %d", field, rest[i]))
		}
		elsewhere = append(elsewhere, "("+strings.Join(differs, " || ")+")")
	}
	return fmt.Sprintf("first != %d || (%s) || (%s)", '/', strings.Join(readOnly, " && "), strings.Join(elsewhere, " && "))
}

// fmodeExec is __FMODE_EXEC in open_flags.open_flag: the open of an exec.
const fmodeExec = 0x20

// openedProbe is at the return, with what was opened where the layout of the
// kernel's structures is known.
func openedProbe(symbol string, l *layout) ftrace.Probe {
	p := ftrace.Probe{Name: evOpened, Symbol: symbol, Return: true, Many: true, Fields: []ftrace.Field{
		{Name: "ret", Fetch: "$retval", Type: "s64"},
	}}
	p.Fields = append(p.Fields, l.fields("$retval")...)
	return p
}

// fields tell of a file, as far as the layout is known.
func (l *layout) fields(file string) []ftrace.Field {
	if l == nil {
		return nil
	}
	inode := ftrace.At(l.inode, file)
	return []ftrace.Field{
		{Name: "mode", Fetch: ftrace.At(0, inode), Type: "u16"},
		{Name: "rdev", Fetch: ftrace.At(l.rdev, inode), Type: "u32"},
		{Name: "size", Fetch: ftrace.At(l.size, ftrace.At(0, ftrace.At(l.mapping, file))), Type: "s64"},
	}
}

// The functions behind the system calls of opens, of which the first that there is
// counts (since Linux 5.6, and before), and that of the kernel's own opens.
var openCalls = []string{"do_sys_openat2", "do_sys_open"}

const openByKernel = "file_open_name"

// endsOfOpens are where opens end, where the kernel keeps room for few returns at a time.
// An exec opens its program by the function at whose entry all opens are seen, and waits
// there while it is held: at the return of that function, held starts would take all the
// room. So an open by a system call ends where its descriptor is made, fd_install(fd,
// file), which is an entry and takes none, or in the return of the system call, if it has
// failed.
func endsOfOpens(a ftrace.ABI, call string, l *layout) []ftrace.Probe {
	file := ftrace.Probe{Name: evFile, Symbol: "fd_install", Fields: append([]ftrace.Field{{Name: "fd", Fetch: a.Args[0], Type: "u32"}}, l.fields(a.Args[1])...)}
	if l != nil { // not of what has no type: nobody opens that. (O_PATH opens sockets, too.)
		file.Filter = fmt.Sprintf("mode >= %d", unix.S_IFIFO)
	}
	return []ftrace.Probe{
		{Name: evFailed, Symbol: call, Return: true, Filter: "ret < 0", Fields: []ftrace.Field{{Name: "ret", Fetch: "$retval", Type: "s32"}}}, // an int, by Linux 7.2,
		openedProbe(openByKernel, l),
		file,
	}
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

// dmNumbers are the requests that change something.
var dmNumbers = []int{bpf.DMRemoveAll, bpf.DMDevCreate, bpf.DMDevRemove, bpf.DMDevRename, bpf.DMDevResume, bpf.DMTableLoad}

// dmProbes are at the entry and the return of a request; in is where
// device-mapper's functions are. The return comes first, so that every request
// that is noted is also completed.
func dmProbes(a ftrace.ABI, m ftrace.UserMemory, in string) []ftrace.Probe {
	request := dmProbe(evRequest, in+syscalls.DMFunction, a.Args[2], m.At, m.String())
	var wanted []string
	for _, nr := range dmNumbers {
		wanted = append(wanted, fmt.Sprintf("nr == %d", nr))
	}
	request.Filter += " && (" + strings.Join(wanted, " || ") + ")"
	request.Fields = append(request.Fields,
		ftrace.Field{Name: "nr", Fetch: a.Args[1], Type: "u8"}, // the command's lowest byte
		ftrace.Field{Name: "new", Fetch: m.At(dmData, a.Args[2]), Type: m.String()})
	return []ftrace.Probe{
		{Name: evRequest + suffixReturn, Symbol: in + syscalls.DMFunction, Return: true, Fields: []ftrace.Field{{Name: "ret", Fetch: "$retval", Type: "s32"}}},
		request,
	}
}

// dmProbe records a struct dm_ioctl, in the kernel's memory or a task's.
func dmProbe(event, symbol, param string, at func(int, string) string, text string) ftrace.Probe {
	return ftrace.Probe{Name: event, Symbol: symbol, Filter: "version == 4", Fields: []ftrace.Field{
		{Name: "version", Fetch: at(dmVersion, param), Type: "u32"},
		{Name: "start", Fetch: at(dmDataStart, param), Type: "u32"},
		{Name: "flags", Fetch: at(dmFlags, param), Type: "u32"},
		{Name: "cookie", Fetch: at(dmEventNr, param), Type: "u32"},
		{Name: "dev", Fetch: at(dmDev, param), Type: "u64"},
		{Name: "name", Fetch: at(dmName, param), Type: text},
		{Name: "uuid", Fetch: at(dmUUID, param), Type: text},
	}}
}

// statusProbe is where the kernel fills in its answer: by then the request has
// name and uuid, whatever the caller gave: __dev_status(md, param).
func statusProbe(a ftrace.ABI, in string) ftrace.Probe {
	return dmProbe(evStatus, in+"__dev_status", a.Args[1], ftrace.At, "string")
}

// dmResume is where a table goes live.
const dmResume = "dm_resume"

// liveProbe is the instant at which a table is live, as in bpf/dm.h.
func liveProbe(in string) ftrace.Probe {
	return ftrace.Probe{Name: evLive, Symbol: in + dmResume, Return: true,
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
func (c linkCall) probes(a ftrace.ABI, m ftrace.UserMemory, wrapped bool) []ftrace.Probe {
	symbol, args := a.SystemCall(c.name, wrapped)
	return []ftrace.Probe{
		{Name: c.name + suffixReturn, Symbol: symbol, Return: true, Fields: []ftrace.Field{{Name: "ret", Fetch: "$retval", Type: "s64"}}},
		{Name: c.name, Symbol: symbol, Filter: `path ~ "/dev/*"`, Fields: []ftrace.Field{
			{Name: "from", Fetch: m.At(0, args[c.from]), Type: m.String()},
			{Name: "path", Fetch: m.At(0, args[c.to]), Type: m.String()},
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
