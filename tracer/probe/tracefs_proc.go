package probe

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
)

// readProc reads who a thread is. It never waits for the thread, also not for
// one that is held in its exec (/proc/PID/status and cmdline are safe then).
func readProc(tid int) (event.Proc, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return event.Proc{}, err
	}
	return parseStatus(tid, string(status)), nil
}

func parseStatus(tid int, status string) event.Proc {
	p := event.Proc{PID: tid}
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":\t")
		first, _, _ := strings.Cut(value, "\t")
		n, _ := strconv.ParseUint(first, 10, 32)
		switch key {
		case "Name":
			p.Comm = value
		case "Tgid":
			p.PID = int(n)
		case "PPid":
			p.PPID = int(n)
		case "Uid": // real, effective, ...
			p.UID = uint32(n)
		}
	}
	if p.PID != tid {
		p.TID = tid
	}
	return p
}
