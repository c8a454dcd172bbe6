// Package tasks knows who is a guest, from what the kernel tells of processes, for
// kernels on which no eBPF program does it.
//
// The proc connector (package procs) tells of each fork, exec and exit on the host, but
// nothing of the program. So a Table reads what can still be read of a process right
// after its exec, keeps it until the process ends, and makes the events of guests: their
// execs, the forks of their children, their ends. Package tracefs asks it, too, who did
// what a probe has seen, and whether that was a guest.
//
// Where a kernel allows no probes at all this is all that is left: then Backend is a
// backend of its own, which sees execs and ends and nothing between. In the record it is
// the source "process".
package tasks

import (
	"bytes"
	"fmt"
	"os"
	"path"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/probe/procs"
	"github.com/bootrace/bootrace/tracer/probe/syscalls"
	"github.com/bootrace/bootrace/tracer/proc"
)

// Table is the processes that are known, and which of them are guests. It takes their
// acts in the order of time. It has no lock of its own: its user's guards it, but for
// ReadNew.
type Table struct {
	// Told says that the proc connector tells of forks, new threads included, and ends.
	// Without it, only guests are kept.
	Told bool
	// Uncertain is how far off the times of acts can be: events are windows that wide.
	Uncertain event.Duration

	source   string        // in the events
	names    []string      // of guests' programs
	guests   map[int]bool  // processes
	threads  map[int]int   // of guests, to their process
	tasks    map[int]*Task // every process that is known, until it ends
	captured map[int]*Task // processes as read right after their exec
}

// Task is a process as it was found right after its exec, or later.
type Task struct {
	Proc  event.Proc
	Args  []byte     // its argument area: of a guest all, of others the beginning
	found event.Time // when it was read; 0 if it was not
	// unread is set as long as it was not worth reading.
	unread bool
}

// NewTable returns a table without processes, whose events bear the name of a source.
// names are those of guests' programs, as in backend.Options.Guests.
func NewTable(source string, names []string) *Table {
	return &Table{source: source, names: names,
		guests: map[int]bool{}, threads: map[int]int{}, tasks: map[int]*Task{}, captured: map[int]*Task{}}
}

// capture reads a process that has just begun a program. By the time that its
// acts are looked at it may have ended.
func (t *Table) capture(pid int) *Task {
	found := event.Now()
	p, err := readProc(pid)
	if err != nil {
		return nil
	}
	args, err := os.ReadFile(proc.Path(pid, "cmdline"))
	if err != nil {
		return nil
	}
	if !guest.Matches(t.names, p.Comm) {
		args = bytes.Clone(args[:min(len(args), syscalls.MaxCallerArgs)])
	}
	return &Task{Proc: p, Args: args, found: found}
}

// ReadNew reads a process right after its exec, if its program is of interest: of all
// others no more than the name is read, since that is most of what an exec costs the
// host. It returns nil of those, and of what has ended. It needs no lock.
func (t *Table) ReadNew(pid int) *Task {
	if !t.ofInterest(readComm(pid)) {
		return nil
	}
	return t.capture(pid)
}

// ofInterest reports whether a program of that name is a guest, or a tool of storage: who
// made a mapping is part of the record, and such tools are short. Any other program that
// makes one is known by its name, and by all else if it is still there when its request
// is looked at, a moment later.
func (t *Table) ofInterest(comm string) bool {
	return guest.Matches(t.names, comm) || guest.StorageTool(comm)
}

// Remember keeps what ReadNew read of a new program until its exec's own record comes:
// by another way, and maybe later.
func (t *Table) Remember(read *Task) { t.captured[read.Proc.PID] = read }

// AddGuest makes a guest of a process that runs already. pid is its thread group id in
// the initial pid namespace.
func (t *Table) AddGuest(pid int) error {
	found := event.Now()
	p, err := readProc(pid)
	if err != nil {
		return fmt.Errorf("watch process %d as a guest: %w", pid, err)
	}
	t.add(&Task{Proc: p, found: found})
	for _, tid := range procs.Threads(pid) {
		t.threads[tid] = pid
	}
	return nil
}

func (t *Table) add(guest *Task) {
	pid := guest.Proc.PID
	t.tasks[pid], t.guests[pid], t.threads[pid] = guest, true, pid
}

func (t *Table) removeGuest(pid int) {
	if !t.guests[pid] {
		return
	}
	delete(t.guests, pid)
	for tid, of := range t.threads {
		if of == pid {
			delete(t.threads, tid)
		}
	}
}

// IsGuest reports whether a thread belongs to a guest.
func (t *Table) IsGuest(tid int) bool {
	if pid, ok := t.threads[tid]; ok {
		return t.guests[pid]
	}
	if t.Told || len(t.guests) == 0 {
		return false
	}
	p, err := readProc(tid)
	if err != nil || !t.guests[p.PID] {
		return false
	}
	t.threads[tid] = p.PID
	return true
}

// Who is the process of a thread.
func (t *Table) Who(tid int) *Task {
	pid, thread := t.threads[tid]
	if !thread {
		pid = tid
	}
	if s := t.tasks[pid]; s != nil {
		t.fill(pid, s)
		who := *s
		if tid != pid {
			who.Proc.TID = tid
		}
		return &who
	}
	s := t.capture(tid)
	if s == nil {
		return &Task{Proc: event.Proc{PID: tid}} // it has ended
	}
	if s.Proc.TID == 0 && t.Told {
		t.tasks[tid] = s
	}
	return s
}

// fill reads what was not worth reading at the exec of a program, if it still runs.
func (t *Table) fill(pid int, s *Task) {
	if !s.unread {
		return
	}
	s.unread = false
	if now := t.capture(pid); now != nil && now.Proc.Comm == s.Proc.Comm {
		*s = *now
	}
}

// Event begins the event of an act by p that happened between from and at (from 0: at
// the instant at), as far as the clocks agree.
func (t *Table) Event(kind event.Kind, from, at event.Time, p event.Proc) event.Event {
	e := event.Event{At: at, From: from, Kind: kind, Src: t.source, Proc: &p}
	if t.Uncertain > 0 {
		if from == 0 {
			e.From = at
		}
		e.From, e.At = e.From.Add(-t.Uncertain), e.At.Add(t.Uncertain)
	}
	return e
}

// Exec takes the exec of a program by its path, and returns the event of it if it is a
// guest's.
func (t *Table) Exec(at event.Time, tid int, program string) []event.Event {
	// After exec the process has one thread and a new program, whatever it was before.
	t.removeGuest(tid)
	comm := commOf(program)
	s := t.captured[tid]
	switch {
	case s != nil && s.Proc.Comm == comm:
		delete(t.captured, tid)
	case t.ofInterest(comm): // what was read belongs to the process's next program, if to any
		s = t.reread(tid, comm)
	default:
		s = t.unread(tid, comm)
	}
	isGuest := guest.Matches(t.names, comm)
	if isGuest || t.Told { // else nobody tells when it ends
		t.tasks[tid] = s
	}
	if !isGuest {
		return nil
	}
	t.add(s)
	e := t.Event(event.Exec, 0, at, s.Proc)
	e.Exec = &event.ExecInfo{Filename: program, Args: syscalls.Args(s.Args), ArgsBytes: len(s.Args), Truncated: len(s.Args) == 0}
	return []event.Event{e}
}

// reread is for a program that was not read right after its exec, or was a
// script, whose interpreter the kernel names instead.
func (t *Table) reread(pid int, comm string) *Task {
	s := t.capture(pid)
	if s == nil {
		s = t.unread(pid, comm)
		s.unread = false
	}
	return s
}

// unread is a process of which no more is known than what it executes, and what was
// known before of it, or of its parent.
func (t *Table) unread(pid int, comm string) *Task {
	s := &Task{Proc: event.Proc{PID: pid, Comm: comm}, unread: true}
	if before := t.tasks[pid]; before != nil {
		s.Proc.PPID, s.Proc.UID = before.Proc.PPID, before.Proc.UID
	}
	return s
}

// Process takes a process event: a fork or an end. An exec has a record of its own, see
// Exec.
func (t *Table) Process(e procs.Event) []event.Event {
	switch e.Kind {
	case procs.Fork:
		return t.fork(e)
	case procs.Exit:
		return t.exit(e)
	}
	return nil
}

func (t *Table) fork(e procs.Event) []event.Event {
	// Of a thread the kernel names its process's parent.
	if e.PID != e.TID {
		if t.guests[e.PID] {
			t.threads[e.TID] = e.PID
		}
		return nil
	}
	if before := t.tasks[e.PID]; before == nil || before.found < e.At {
		// One that had the pid before: its end was not told.
		t.removeGuest(e.PID)
		delete(t.tasks, e.PID)
	}
	guest, parent := t.guests[e.Parent], t.tasks[e.Parent]
	if parent == nil {
		return nil // unknown to us, and so is the child
	}
	child := &Task{Proc: parent.Proc, Args: parent.Args, unread: parent.unread}
	child.Proc.PID, child.Proc.PPID = e.PID, e.Parent
	t.tasks[e.PID] = child
	if !guest {
		return nil
	}
	t.add(child)
	return []event.Event{t.Event(event.Fork, 0, e.At, child.Proc)}
}

func (t *Table) exit(e procs.Event) []event.Event {
	delete(t.threads, e.TID)
	if e.TID != e.PID {
		return nil
	}
	guest, s := t.guests[e.PID], t.tasks[e.PID]
	t.removeGuest(e.PID)
	delete(t.tasks, e.PID)
	delete(t.captured, e.PID)
	if !guest || s == nil {
		return nil
	}
	exit := t.Event(event.Exit, 0, e.At, s.Proc)
	exit.Exit = syscalls.Exit(e.Code)
	return []event.Event{exit}
}

// commOf is what the kernel calls a process that executes a file.
func commOf(filename string) string {
	base := path.Base(filename)
	return base[:min(len(base), guest.CommLen)]
}
