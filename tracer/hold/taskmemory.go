package hold

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/proc"
)

// Bounds of what is read of a command line. Real ones have 2 to 10 KB; the
// kernel allows a quarter of the stack, 2 MiB as a rule, and 128 KiB a string.
const (
	maxArgsBytes = 2 << 20
	maxArgs      = 32 << 10
)

// errTooLong says that a command line goes on beyond those bounds.
var errTooLong = errors.New("the command line is longer than 2 MiB")

// heldTask reads the arguments of a task out of its own memory while it waits
// in execve: /proc/TID/syscall has the pointers. (/proc/PID/cmdline still shows
// the launcher.) Before Linux 5.7 it blocks: such a task owns cred_guard_mutex,
// and /proc/PID/syscall and process_vm_readv want it.
type heldTask struct{}

func (heldTask) Of(ctx context.Context, tid int) (*Task, error) {
	t, err := readTask(tid)
	if err != nil {
		return nil, err
	}
	c, err := execCall(ctx, tid)
	if err != nil {
		return t, err
	}
	m := memory(tid)
	if t.Filename, err = m.text(c.filename, unix.PathMax); err != nil {
		return t, fmt.Errorf("read the name of the program: %w", err)
	}
	if t.Args, err = m.list(c.argv); err != nil {
		return t, fmt.Errorf("read the arguments: %w", err)
	}
	// Empty where it is gone; then relative paths lead nowhere, for qemu, too.
	t.Cwd, _ = os.Readlink(proc.Path(tid, "cwd"))
	return t, nil
}

// readTask reads what can be read of any task at any time without waiting.
func readTask(tid int) (*Task, error) {
	status, err := proc.ReadStatus(proc.Dir("/", tid))
	if err != nil {
		return nil, fmt.Errorf("read the status of task %d: %w", tid, err)
	}
	t := &Task{TID: tid, PID: status.PID, PPID: status.PPID, UID: status.UID, Comm: status.Comm}
	stat, err := proc.ReadStat(proc.Dir("/", t.PID))
	if err != nil {
		return t, fmt.Errorf("read the age of process %d: %w", t.PID, err)
	}
	t.Start = stat.Start
	return t, nil
}

// userOf returns the user who answers for a task (event.UserOf): root where it can't be
// told.
func userOf(tid int) uint32 {
	status, err := proc.ReadStatus(proc.Dir("/", tid))
	if err != nil {
		return 0
	}
	return event.UserOf(status.UID)
}

// ended reports whether a task is no more, or ends as soon as the kernel lets it go on:
// it was killed while it waited, and starts nothing. What can't be told (the kernel
// gives no number where the task is in a namespace that is none of ours) is alive.
func ended(tid int) bool {
	if tid <= 0 {
		return false
	}
	dir := proc.Dir("/", tid)
	status, err := proc.ReadStatus(dir)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
	}
	stat, err := proc.ReadStat(dir)
	return status.Killed || err == nil && (stat.State == 'Z' || stat.State == 'X')
}

// call is an execve or execveat.
type call struct{ filename, argv uint64 }

// execCall waits until the task sleeps in its exec: it is woken up to be held
// and reads as running for an instant.
func execCall(ctx context.Context, tid int) (call, error) {
	pause := 50 * time.Microsecond
	for {
		data, err := os.ReadFile(proc.Path(tid, "syscall"))
		if err != nil {
			return call{}, fmt.Errorf("read the system call of task %d: %w", tid, err)
		}
		c, running, err := parseCall(string(data))
		if !running {
			return c, err
		}
		select {
		case <-ctx.Done():
			return call{}, fmt.Errorf("task %d does not come to rest: %w", tid, ctx.Err())
		case <-time.After(pause):
			pause = min(2*pause, 10*time.Millisecond)
		}
	}
}

// parseCall reads a line of /proc/PID/syscall: "running", or the number of the
// call, its six arguments, stack and instruction pointers.
func parseCall(line string) (c call, running bool, err error) {
	fields := strings.Fields(line)
	if len(fields) == 1 && fields[0] == "running" {
		return c, true, nil
	}
	if len(fields) < 7 {
		return c, false, fmt.Errorf("system call %q is not understood", strings.TrimSpace(line))
	}
	first := 1
	switch fields[0] {
	case strconv.Itoa(unix.SYS_EXECVE):
	case strconv.Itoa(unix.SYS_EXECVEAT):
		first = 2
	default: // of a 32-bit program, or no exec at all
		return c, false, fmt.Errorf("system call %s is no exec of a %d-bit program", fields[0], 8*wordSize)
	}
	for i, p := range []*uint64{&c.filename, &c.argv} {
		if *p, err = strconv.ParseUint(fields[first+i], 0, 64); err != nil {
			return c, false, fmt.Errorf("system call %q: %w", strings.TrimSpace(line), err)
		}
	}
	return c, false, nil
}

const (
	wordSize = int(unsafe.Sizeof(uintptr(0)))
	pageSize = 4096 // the least there is: what is read never crosses into the next page
)

// memory is the memory of a task.
type memory int

// read fills buf from addr on as far as there is memory.
func (m memory) read(addr uint64, buf []byte) (int, error) {
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := unix.ProcessVMReadv(int(m), local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}, 0)
	if err != nil {
		return 0, err
	}
	return n, nil
}

// chunk reads from addr to the end of its page.
func (m memory) chunk(addr uint64, buf []byte) ([]byte, error) {
	n, err := m.read(addr, buf[:pageSize-int(addr%pageSize)])
	return buf[:n], err
}

// text reads a string of at most limit bytes.
func (m memory) text(addr uint64, limit int) (string, error) {
	var text []byte
	var buf [pageSize]byte
	for {
		part, err := m.chunk(addr, buf[:])
		if err != nil {
			return "", err
		}
		end := bytes.IndexByte(part, 0)
		if end >= 0 {
			part = part[:end]
		}
		if text = append(text, part...); len(text) > limit {
			return "", errTooLong
		}
		if end >= 0 {
			return string(text), nil
		}
		addr += uint64(len(part))
	}
}

// list reads a null-terminated list of strings.
func (m memory) list(addr uint64) ([]string, error) {
	pointers, err := m.pointers(addr)
	if err != nil {
		return nil, err
	}
	args := make([]string, 0, len(pointers))
	left := maxArgsBytes
	for _, p := range pointers {
		arg, err := m.text(p, left)
		if err != nil {
			return nil, err
		}
		left -= len(arg) + 1
		args = append(args, arg)
	}
	return args, nil
}

func (m memory) pointers(addr uint64) ([]uint64, error) {
	var list []uint64
	var buf [pageSize]byte
	var rest []byte // of a pointer that lies across two pages
	for len(list) < maxArgs {
		part, err := m.chunk(addr, buf[:])
		if err != nil {
			return nil, err
		}
		addr += uint64(len(part))
		rest = append(rest, part...)
		for len(rest) >= wordSize {
			p := word(rest)
			if p == 0 {
				return list, nil
			}
			list = append(list, p)
			rest = rest[wordSize:]
		}
	}
	return nil, errTooLong
}

// word decodes a pointer.
func word(b []byte) uint64 {
	if wordSize == 8 {
		return binary.NativeEndian.Uint64(b)
	}
	return uint64(binary.NativeEndian.Uint32(b))
}
