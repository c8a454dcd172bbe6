// Package proc reads what /proc tells of processes and threads, and nothing that
// could make the reader wait: status, stat and cmdline are safe to read also of a
// task that is held in its exec, before Linux 5.7 too, where syscall, environ,
// maps and mem block.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/bootrace/bootrace/tracer/event"
)

// Dir is the folder of a process or thread below root, "/" as a rule.
func Dir(root string, id int) string { return filepath.Join(root, "proc", strconv.Itoa(id)) }

// Path is a file of a process or thread of this host.
func Path(id int, name string) string { return "/proc/" + strconv.Itoa(id) + "/" + name }

// Status is a part of /proc/PID/status (proc_pid_status(5)).
type Status struct {
	Comm      string
	PID, PPID int // the thread group, and that of its parent
	UID       uint32
	// FSUID, FSGID and Groups are what the kernel checks opens by.
	FSUID, FSGID uint32
	Groups       []uint32
	// Killed is set while a SIGKILL waits to be taken: the task ends as soon as the
	// kernel lets it go on.
	Killed bool
}

// ErrFormat says that a file of /proc is not as the kernel documents it.
var ErrFormat = errors.New("not as the kernel's documentation says")

// ReadStatus reads the status of the process or thread whose folder dir is.
func ReadStatus(dir string) (Status, error) {
	data, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return Status{}, err
	}
	return ParseStatus(string(data))
}

// ParseStatus reads a status. What stands behind Name can hold anything but a
// newline.
func ParseStatus(text string) (Status, error) {
	var s Status
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":\t")
		switch key {
		case "Name":
			s.Comm = value
		case "Tgid":
			s.PID, _ = strconv.Atoi(value)
		case "PPid":
			s.PPID, _ = strconv.Atoi(value)
		case "Uid": // real, effective, saved, of the file system
			s.UID, s.FSUID = number(value, 0), number(value, 3)
		case "Gid":
			s.FSGID = number(value, 3)
		case "SigPnd", "ShdPnd": // masks, in hexadecimal: of the thread, and of its process
			mask, _ := strconv.ParseUint(value, 16, 64)
			s.Killed = s.Killed || mask&(1<<(syscall.SIGKILL-1)) != 0
		case "Groups":
			for field := range strings.FieldsSeq(value) {
				if id, err := strconv.ParseUint(field, 10, 32); err == nil {
					s.Groups = append(s.Groups, uint32(id))
				}
			}
		}
	}
	if s.PID == 0 {
		return s, fmt.Errorf("status without a thread group: %w", ErrFormat)
	}
	return s, nil
}

// number returns the nth of numbers with tabs between.
func number(list string, n int) uint32 {
	for range n {
		_, list, _ = strings.Cut(list, "\t")
	}
	field, _, _ := strings.Cut(list, "\t")
	id, _ := strconv.ParseUint(field, 10, 32)
	return uint32(id)
}

// Stat is a part of /proc/PID/stat.
type Stat struct {
	Comm  string
	State byte // as R, S, Z (a zombie), X
	PPID  int
	// Start is when the process was forked, in clock ticks since the boot: with
	// the PID it names the process for good.
	Start uint64
}

// Tick is the unit of times in stat: USER_HZ is 100 on every architecture that Go
// runs on, whatever the kernel's HZ is.
const Tick = event.Duration(1e9 / 100)

// ReadStat reads the stat of the process whose folder dir is.
func ReadStat(dir string) (Stat, error) {
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(data)
}

// ParseStat reads "pid (comm) state ppid ...", where field 22 is the start. comm
// can hold anything, parentheses and spaces included: the last ")" ends it.
func ParseStat(line []byte) (Stat, error) {
	open, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 0 || end < open {
		return Stat{}, fmt.Errorf("stat without a name: %w", ErrFormat)
	}
	fields := bytes.Fields(line[end+1:]) // from field 3 on
	if len(fields) < 20 {
		return Stat{}, fmt.Errorf("stat of %d fields: %w", len(fields)+2, ErrFormat)
	}
	ppid, err1 := strconv.Atoi(string(fields[1]))
	start, err2 := strconv.ParseUint(string(fields[19]), 10, 64)
	if err1 != nil || err2 != nil || start > 1<<62/uint64(Tick) {
		return Stat{}, fmt.Errorf("stat with other numbers: %w", ErrFormat)
	}
	return Stat{Comm: string(line[open+1 : end]), State: fields[0][0], PPID: ppid, Start: start}, nil
}
