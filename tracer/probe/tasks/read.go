package tasks

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/proc"
)

// readProc reads who a thread is. It never waits for the thread, also not for
// one that is held in its exec.
func readProc(tid int) (event.Proc, error) {
	s, err := proc.ReadStatus(proc.Dir("/", tid))
	if err != nil {
		return event.Proc{}, err
	}
	p := event.Proc{PID: s.PID, PPID: s.PPID, UID: s.UID, Comm: s.Comm}
	if p.PID != tid {
		p.TID = tid
	}
	return p, nil
}

// readComm reads what the kernel calls a process, empty if it has ended. It is called
// for each exec of the host, and takes three system calls.
func readComm(pid int) string {
	fd, err := unix.Open(proc.Path(pid, "comm"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var buf [4 * guest.CommLen]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(buf[:n]), "\n")
}
