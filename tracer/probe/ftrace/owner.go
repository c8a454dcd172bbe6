package ftrace

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/proc"
)

// prefix begins the name of each group and instance of ours.
const prefix = "bootrace_"

// owner names a process: pids come again, but not with the same start.
type owner struct {
	pid   int
	start uint64 // in clock ticks since boot
}

func (o owner) String() string { return fmt.Sprintf("%s%d_%d", prefix, o.pid, o.start) }

// Owner is the name of this process, with which the names of whatever it makes in
// the trace files begin.
func Owner() (string, error) {
	me, err := self()
	return me.String(), err
}

// parseOwner reads such a name.
func parseOwner(name string) (owner, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	pid, start, ok2 := strings.Cut(rest, "_")
	if !ok || !ok2 {
		return owner{}, false
	}
	n, err1 := strconv.Atoi(pid)
	s, err2 := strconv.ParseUint(start, 10, 64)
	return owner{n, s}, err1 == nil && err2 == nil && n > 0
}

// self is this process.
func self() (owner, error) {
	stat, err := proc.ReadStat(proc.Dir("/", os.Getpid()))
	return owner{os.Getpid(), stat.Start}, err
}

// stale reports whether the name is of a process that has ended.
func stale(name string) bool {
	o, ok := parseOwner(name)
	if !ok {
		return false
	}
	stat, err := proc.ReadStat(proc.Dir("/", o.pid))
	return errors.Is(err, os.ErrNotExist) || err == nil && stat.Start != o.start
}
