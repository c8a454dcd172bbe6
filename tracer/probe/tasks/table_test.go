package tasks

import (
	"os"
	"slices"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/probe/procs"
)

// Processes that this machine cannot have: above the highest pid.
const (
	guestPID = 1<<22 + 10
	otherPID = 1<<22 + 20
)

// testTable knows a guest with a thread, and another process.
func testTable() *Table {
	t := NewTable("test", guest.Programs())
	t.Told = true
	t.add(&Task{Proc: event.Proc{PID: guestPID, PPID: 7, Comm: "qemu-kvm"}})
	t.threads[guestPID+1] = guestPID
	t.tasks[otherPID] = &Task{Proc: event.Proc{PID: otherPID, Comm: "lvm"}, Args: []byte("lvm\x00vgchange\x00")}
	return t
}

// exec is the exec of a program.
type exec struct {
	at      event.Time
	pid     int
	program string
}

// takeAll has a table take execs and process events.
func takeAll(t *Table, acts ...any) (events []event.Event) {
	for _, act := range acts {
		switch act := act.(type) {
		case exec:
			events = append(events, t.Exec(act.at, act.pid, act.program)...)
		case procs.Event:
			events = append(events, t.Process(act)...)
		}
	}
	return events
}

// A guest's processes are followed from the fork to the end, and a clock that
// is not exact widens every instant.
func TestProcesses(t *testing.T) {
	table := testTable()
	table.Uncertain = 5
	child := guestPID + 5
	events := takeAll(table,
		procs.Event{At: 100, Kind: procs.Fork, TID: guestPID + 2, PID: guestPID, Parent: 7},
		procs.Event{At: 110, Kind: procs.Fork, TID: child, PID: child, Parent: guestPID},
		procs.Event{At: 120, Kind: procs.Exit, TID: guestPID + 2, PID: guestPID},
		procs.Event{At: 130, Kind: procs.Exit, TID: child, PID: child, Code: 9},
		procs.Event{At: 140, Kind: procs.Exit, TID: guestPID, PID: guestPID, Code: 3 << 8},
		procs.Event{At: 150, Kind: procs.Exit, TID: otherPID, PID: otherPID},
	)
	if len(events) != 3 {
		t.Fatalf("got %+v", events)
	}
	fork, killed, ended := events[0], events[1], events[2]
	if fork.Kind != event.Fork || fork.Proc.PID != child || fork.Proc.PPID != guestPID || fork.From != 105 || fork.At != 115 {
		t.Errorf("fork %+v %+v", fork, *fork.Proc)
	}
	if *killed.Exit != (event.ExitInfo{Signal: 9}) || *ended.Exit != (event.ExitInfo{Status: 3}) {
		t.Errorf("ends %+v, %+v", *killed.Exit, *ended.Exit)
	}
	if len(table.guests)+len(table.threads)+len(table.tasks) != 0 {
		t.Errorf("left: %v %v %v", table.guests, table.threads, table.tasks)
	}
}

// A script that executes a guest may be told when the guest was read already, and
// has ended: what was read is the guest's.
func TestExecAfterExec(t *testing.T) {
	table := testTable()
	table.Remember(&Task{Proc: event.Proc{PID: otherPID, Comm: "sh"}, Args: []byte("sh\x00guest")})
	table.Remember(&Task{Proc: event.Proc{PID: otherPID, Comm: "qemu-system-x86"}, Args: []byte("qemu-system-x86_64\x00-name\x00a")})
	events := takeAll(table,
		exec{90, otherPID, "/bin/sh"},
		exec{99, otherPID, "/usr/bin/qemu-system-x86_64"},
		procs.Event{At: 200, Kind: procs.Exit, TID: otherPID, PID: otherPID},
	)
	if len(events) != 2 || events[0].Exec == nil || !slices.Equal(events[0].Exec.Args, []string{"qemu-system-x86_64", "-name", "a"}) {
		t.Errorf("events %+v", events)
	}
	if len(table.captured) != 0 {
		t.Errorf("kept: %+v", table.captured)
	}
}

// Of programs that are of no interest only the name is read at their exec; the rest
// when it is asked who did something, if they are still there then.
func TestReadsLittleOfOthers(t *testing.T) {
	table := testTable()
	self := os.Getpid()
	comm := readComm(self)
	if comm == "" || readComm(otherPID) != "" {
		t.Fatalf("%q, %q", comm, readComm(otherPID))
	}
	if s := table.ReadNew(self); s != nil {
		t.Errorf("read of %s: %+v", comm, s)
	}
	for _, name := range []string{"lvchange", "vgchange", "dmsetup", "multipathd", "cryptsetup", "qemu-system-x86"} {
		if !table.ofInterest(name) {
			t.Errorf("%s, which may make mappings, is of no interest", name)
		}
	}
	table.tasks[otherPID] = &Task{Proc: event.Proc{PID: otherPID, PPID: 7, UID: 4, Comm: "sh"}}
	takeAll(table,
		exec{90, self, "/tmp/" + comm},
		exec{91, otherPID, "/bin/true"})
	if s := table.tasks[self]; s == nil || s.Args != nil || s.Proc.Comm != comm {
		t.Errorf("read before anybody asked: %+v", s)
	}
	if s := table.Who(self); len(s.Args) == 0 || s.Proc.PPID != os.Getppid() || s.Proc.Comm != comm {
		t.Errorf("who it is: %+v", s)
	}
	if s := table.Who(otherPID); s.Proc.PPID != 7 || s.Proc.UID != 4 || s.Proc.Comm != "true" {
		t.Errorf("who has ended: %+v", s.Proc)
	}
}

// A pid that comes again is another process, also where the end of the guest that
// had it was not told.
func TestPIDComesAgain(t *testing.T) {
	table := testTable()
	events := takeAll(table, procs.Event{At: 100, Kind: procs.Fork, TID: guestPID, PID: guestPID, Parent: 2})
	if table.IsGuest(guestPID) || table.IsGuest(guestPID+1) {
		t.Error("it is the guest still")
	}
	events = append(events, takeAll(table,
		procs.Event{At: 120, Kind: procs.Exit, TID: guestPID, PID: guestPID},
		procs.Event{At: 130, Kind: procs.Exit, TID: guestPID + 1, PID: guestPID},
	)...)
	if len(events) != 0 || len(table.guests)+len(table.threads) != 0 {
		t.Errorf("events %+v; guests %v, their threads %v", events, table.guests, table.threads)
	}
}

// A guest that is found running is one, also where its fork is told after that.
func TestForkIsToldLater(t *testing.T) {
	table := testTable()
	const found = guestPID + 30
	table.add(&Task{Proc: event.Proc{PID: found, Comm: "kvm"}, found: 200})
	events := takeAll(table,
		procs.Event{At: 190, Kind: procs.Fork, TID: found, PID: found, Parent: 2},
		procs.Event{At: 210, Kind: procs.Exit, TID: found, PID: found},
	)
	if len(events) != 1 || events[0].Kind != event.Exit || events[0].Proc.Comm != "kvm" {
		t.Errorf("events %+v", events)
	}
}
