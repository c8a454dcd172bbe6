package probe

import (
	"github.com/bootrace/bootrace/tracer/event"
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
