package hold

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// urgent is the nice value of all threads while a start waits for its answer. A host
// that boots starts everything at once, on few processors: who has to answer before
// the others can go on must not queue up behind them. Two hundred starts at a time on
// one processor otherwise take the reader seconds to look at. While nobody waits, this
// process comes after nobody and before nobody: a start that was answered stood still
// on a host with one processor, for 40 ms, while garbage was collected urgently.
const urgent = -20

// urgency is that of this process.
var urgency urge

// urge has all threads of this process be urgent while starts wait for their answers.
type urge struct {
	mu      sync.Mutex
	holders int          // who hold starts
	waiting int          // starts that wait
	calm    int          // the nice value of this process while none does
	always  map[int]bool // threads that are urgent all the time, by their IDs
}

// enable has starts that wait count from now on. The error says why this process can't
// be urgent.
func (u *urge) enable() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.holders++; u.holders > 1 {
		return nil
	}
	u.calm = niceNow()
	err := setNice(urgent, nil)
	if u.waiting == 0 {
		err = errors.Join(err, setNice(u.calm, u.always))
	}
	return err
}

// disable is the end of what enable began. The nice value of before may be refused
// without rights: no harm.
func (u *urge) disable() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.holders--; u.holders == 0 {
		_ = setNice(u.calm, nil)
	}
}

// begin is called when a start begins to wait.
func (u *urge) begin() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waiting++; u.waiting == 1 && u.holders > 0 {
		_ = setNice(urgent, nil) // enable has told of an error
	}
}

// end is called when it has its answer.
func (u *urge) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waiting--; u.waiting == 0 && u.holders > 0 {
		_ = setNice(u.calm, u.always)
	}
}

// join has the calling thread be urgent all the time, until leave.
func (u *urge) join() (leave func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	tid := unix.Gettid()
	if u.always == nil {
		u.always = map[int]bool{}
	}
	u.always[tid] = true
	_ = setThreadNice(tid, urgent)
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.always, tid)
	}
}

// setNice sets the nice value of every thread of this process but some. On Linux each
// thread has its own, and a new one takes that of its maker.
func setNice(nice int, but map[int]bool) error {
	if err := setThreadsNice(nice, but); err != nil {
		return fmt.Errorf("set the priority: %w", err)
	}
	return setSessionNice(nice)
}

func setThreadsNice(nice int, but map[int]bool) error {
	if ownGroup() {
		err := unix.Setpriority(unix.PRIO_PGRP, 0, nice)
		for tid := range but {
			err = errors.Join(err, setThreadNice(tid, urgent))
		}
		return err
	}
	for range 2 { // the second pass finds those that were made meanwhile
		if err := eachThread(func(tid int) error {
			if but[tid] {
				return nil
			}
			return setThreadNice(tid, nice)
		}); err != nil {
			return err
		}
	}
	return nil
}

func setThreadNice(tid, nice int) error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, tid, nice); err != nil && err != unix.ESRCH {
		return err
	}
	return nil
}

// ownGroup reports whether this process leads its session, as a service does: then its
// process group has nobody else's processes in it, and Linux sets the nice value of all
// threads of a group at once (set_one_prio in setpriority(2), kernel/sys.c).
func ownGroup() bool {
	pid := os.Getpid()
	session, err := unix.Getsid(0)
	return err == nil && session == pid && unix.Getpgrp() == pid
}

// eachThread calls f with the ID of each thread of this process. Like setSessionNice it
// is called with each start, by a thread with descriptors of its own (see thread), where
// what package os keeps open is not: system calls do.
func eachThread(f func(tid int) error) error {
	dir, err := unix.Open("/proc/self/task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("find the threads: %w", err)
	}
	defer unix.Close(dir)
	room := make([]byte, 4<<10)
	for {
		n, err := unix.Getdents(dir, room)
		if err != nil {
			return fmt.Errorf("find the threads: %w", err)
		}
		if n == 0 {
			return nil
		}
		_, _, names := unix.ParseDirent(room[:n], -1, nil)
		for _, name := range names {
			tid, err := strconv.Atoi(name)
			if err != nil {
				continue
			}
			if err := f(tid); err != nil {
				return err
			}
		}
	}
}

// setSessionNice does the same among sessions: where the kernel groups processes by
// these (sched_autogroup_enabled), and no control group of the unit's own does, nice
// values only count within one. It leaves a session alone that is not our own.
func setSessionNice(nice int) error {
	session, err := unix.Getsid(0)
	if err != nil {
		return fmt.Errorf("find out the session: %w", err)
	}
	if session != os.Getpid() {
		return nil
	}
	file, err := unix.Open("/proc/self/autogroup", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) { // a kernel without
		return nil
	}
	if err == nil {
		_, err = unix.Write(file, strconv.AppendInt(nil, int64(nice), 10))
		unix.Close(file)
	}
	if err != nil {
		return fmt.Errorf("set the priority of the session: %w", err)
	}
	return nil
}

// niceNow returns the nice value of the calling thread.
func niceNow() int {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	return 20 - raw // the system call returns 1 to 40
}

// enough is how many of Go's processors there are at least while starts are held.
// A goroutine that waits in a system call, such as the log's for its disk, keeps
// one until Go takes it away, which is noticed after 20 µs, or 4 ms where timers
// are coarse. On a host with one or two, whoever has to answer would wait for that.
const enough = 4

// raiseProcessors makes sure of enough, and returns what puts back what was before.
func raiseProcessors() (restore func()) {
	if runtime.GOMAXPROCS(0) >= enough {
		return func() {}
	}
	runtime.GOMAXPROCS(enough)
	return runtime.SetDefaultGOMAXPROCS
}
