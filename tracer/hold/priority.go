package hold

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// urgent is the nice value of all threads while starts are held. A host that
// boots starts everything at once, on few processors: who has to answer before
// the others can go on must not queue up behind them. Two hundred starts at a
// time on one processor otherwise take the reader seconds to look at.
const urgent = -20

// setNice sets the nice value of every thread of this process. On Linux each
// thread has its own, and a new one takes that of its maker; those that were made
// meanwhile are found by the second pass.
func setNice(nice int) error {
	for range 2 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("set the priority: %w", err)
		}
		for _, thread := range threads {
			tid, err := strconv.Atoi(thread.Name())
			if err != nil {
				continue
			}
			if err := unix.Setpriority(unix.PRIO_PROCESS, tid, nice); err != nil && err != unix.ESRCH {
				return fmt.Errorf("set the priority: %w", err)
			}
		}
	}
	return setSessionNice(nice)
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
	err = os.WriteFile("/proc/self/autogroup", strconv.AppendInt(nil, int64(nice), 10), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // there: a kernel without
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
