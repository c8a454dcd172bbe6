package procs

import (
	"fmt"
	"os"
	"strconv"
)

// Threads lists the threads of a process, none where there is no such process.
// It waits for none of them: the folder can be listed while one is in execve.
func Threads(pid int) []int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	var tids []int
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids
}
