package repair

import (
	"fmt"
	"strings"

	"github.com/bootrace/bootrace/tracer/inspect"
)

// Step is one thing that was done to a file system in the throwaway machine.
type Step struct {
	// What it was: a command line, or "mount" and "count".
	What string `json:"what"`
	// Status is the command's exit status, -1 where it did not run; of mount and count
	// 0 or 1.
	Status int `json:"status"`
	// Text is the end of what it said.
	Text string `json:"text,omitempty"`
	// Files is how many files and folders there are, of count.
	Files int64 `json:"files,omitempty"`
}

// outcome is what came of it in the machine.
type outcome struct {
	Steps []Step `json:"steps"`
	// Failed says why it is not repaired, empty where it is.
	Failed string `json:"failed,omitempty"`
	// LogStays is set where only throwing the log away could go on.
	LogStays bool `json:"log_stays,omitempty"`
	// Before and After are how many files and folders there are, -1: not known.
	Before int64 `json:"before"`
	After  int64 `json:"after"`
}

// doer does what a repair consists of.
type doer interface {
	// run runs a command on the file system, whose device is appended.
	run(args ...string) Step
	// count mounts it, counts its files and unmounts it. Unless it is mounted
	// read-only, its log is replayed.
	count(readOnly bool) Step
}

// mend repairs a file system. XFS's log can be replayed by the kernel alone, so it is
// mounted first; e2fsck replays that of ext itself.
func mend(kind inspect.Kind, dropLog bool, d doer) outcome {
	o := outcome{Before: -1, After: -1}
	do := func(s Step) Step {
		o.Steps = append(o.Steps, s)
		return s
	}
	var fixed, sound Step
	switch kind {
	case inspect.KindXFS:
		first := do(d.count(false))
		if first.Status == 0 {
			o.Before = first.Files
		}
		fixed = do(d.run("xfs_repair"))
		if fixed.Status == 2 && dropLog && first.Status != 0 {
			fixed = do(d.run("xfs_repair", "-L"))
		}
		if fixed.Status == 2 {
			o.LogStays = true
			o.Failed = "its log is dirty, and the kernel can't replay it: " + lastLine(first.Text)
			return o
		}
		if fixed.Status == 0 {
			sound = do(d.run("xfs_repair", "-n"))
		}
	default:
		fixed = do(d.run("e2fsck", "-f", "-p"))
		if fixed.Status > 1 {
			fixed = do(d.run("e2fsck", "-f", "-y"))
		}
		if fixed.Status == 1 {
			fixed.Status = 0 // errors were corrected
		}
		if fixed.Status == 0 {
			sound = do(d.run("e2fsck", "-f", "-n"))
		}
	}
	if fixed.Status != 0 {
		o.Failed = fmt.Sprintf("%s ended with status %d: %s", fixed.What, fixed.Status, lastLine(fixed.Text))
		return o
	}
	if sound.Status != 0 {
		o.Failed = fmt.Sprintf("after the repair %s still finds something, status %d: %s", sound.What, sound.Status, lastLine(sound.Text))
		return o
	}
	last := do(d.count(true))
	if last.Status != 0 {
		o.Failed = "after the repair the kernel can't mount it: " + lastLine(last.Text)
		return o
	}
	o.After = last.Files
	return o
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
