package syscalls

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
)

// Errno is the error of what a system call has returned, 0 if it has succeeded.
func Errno(ret int64) int {
	if ret < 0 {
		return int(-ret)
	}
	return 0
}

// Exit says how a process has ended, by its code as wait(2) has it.
func Exit(code uint32) *event.ExitInfo {
	if status := unix.WaitStatus(code); status.Signaled() {
		return &event.ExitInfo{Signal: int(status.Signal())}
	}
	return &event.ExitInfo{Status: int(code>>8) & 0xff}
}

// Args splits a process's argument area, whose arguments end with NUL each.
func Args(area []byte) []string {
	s := strings.TrimSuffix(string(area), "\x00")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\x00")
}

// MaxCallerArgs is how many bytes are kept of the arguments of a process that is no guest
// and has changed a mapping: CALLER_ARGS of bpf/event.h.
const MaxCallerArgs = 512

// CallerArgs are the arguments of a process that has changed a mapping, from the
// beginning of its argument area. Keys are replaced: it may have a table among them, as
// dmsetup create NAME --table "0 8 crypt CIPHER KEY ..." has.
func CallerArgs(area []byte) []string {
	args := Args(area[:min(len(area), MaxCallerArgs)])
	for i, arg := range args {
		lines := strings.Split(arg, "\n")
		for j, line := range lines {
			lines[j] = redactTableLine(line)
		}
		args[i] = strings.Join(lines, "\n")
	}
	return args
}

func redactTableLine(line string) string {
	head, table := "", line
	if option, value, ok := strings.Cut(line, "="); ok && strings.HasPrefix(option, "-") {
		head, table = option+"=", value
	}
	fields := strings.Fields(table)
	if len(fields) < 4 {
		return line
	}
	params := devmap.RedactParams(fields[2], strings.Join(fields[3:], " "))
	if params == strings.Join(fields[3:], " ") {
		return line
	}
	return head + strings.Join(fields[:3], " ") + " " + params
}
