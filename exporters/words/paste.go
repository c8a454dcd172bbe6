package words

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Advice is a cause with its cures, and the commands of those that can be pasted into
// root's shell as they are.
type Advice struct {
	Paragraph
	Commands []string
}

// Names that mean nothing to a shell. Foreign names that are others are left to people:
// no command has them.
var (
	plainName = regexp.MustCompile(`^[A-Za-z0-9_.+][A-Za-z0-9_.+-]*$`)
	plainUnit = regexp.MustCompile(`^[A-Za-z0-9_.@:+][A-Za-z0-9_.@:+-]*\.service$`)
)

// dropIn is where commands put settings of bootrace.
var dropIn = path.Join(path.Dir(config.Path), config.DropIns)

// plainVolume is VG/LV of a disk that is a volume, where its names are plain.
func plainVolume(disk string) (string, bool) {
	vg, lv, ok := devmap.Volume(disk)
	return vg + "/" + lv, ok && plainName.MatchString(vg) && plainName.MatchString(lv)
}

// setting makes a drop-in with those lines the service's.
func setting(name string, lines ...string) []string {
	return []string{
		fmt.Sprintf(`printf '%s\n' | install -D -m 644 /dev/stdin %s/50-%s.yaml`, strings.Join(lines, `\n`), dropIn, name),
		"systemctl reload bootrace",
	}
}

// enoughFor is a deadline that is enough for every guest of list that needs a longer
// hold, with a quarter to spare, and no shorter than what holds already: a command that
// is good for one guest must not be bad for another.
func enoughFor(list []startCause) time.Duration {
	const grain, most = 10 * time.Second, 24 * time.Hour
	deadline := config.Default().Enforce.Deadline
	for i := range list {
		if w := wait(&list[i]); w > 0 {
			deadline = max(deadline, min((w*5/4).Truncate(grain)+grain, most), list[i].cause.Hold.Deadline)
		}
	}
	return deadline
}

// longerHold sets that deadline.
func longerHold(a *timeline.HoldAdvice, deadline time.Duration) []string {
	if a == nil || a.Wait <= 0 {
		return nil
	}
	if a.Untried {
		return tryHolding()
	}
	lines := []string{fmt.Sprintf("enforce: {deadline: %s}", deadline)}
	if a.Mode == string(config.Trace) {
		lines = append([]string{"mode: enforce"}, lines...)
	}
	return setting("deadline", lines...)
}

// startHolding turns enforce mode on.
func startHolding(a *timeline.HoldAdvice) []string {
	if a != nil && a.Untried {
		return tryHolding()
	}
	return setting("enforce", "mode: enforce")
}

// tryHolding comes first where it is not known whether this kernel lets a start be held:
// to turn enforce mode on is for who has read the answer.
func tryHolding() []string { return []string{"bootrace check"} }

// order is a drop-in with After= of the unit that was seen to activate the disks: for
// the unit that was seen to look for them, else for the one that starts the guest,
// which the record does not have.
func order(c *timeline.Cause) []string {
	if c.By == nil || !plainUnit.MatchString(c.By.Unit) {
		return nil
	}
	if l := c.Looker; l != nil && plainUnit.MatchString(l.Unit) && l.Unit != c.By.Unit {
		return []string{
			fmt.Sprintf(`printf '[Unit]\nAfter=%s\n' | install -D -m 644 /dev/stdin /etc/systemd/system/%s.d/50-disks.conf`, c.By.Unit, l.Unit),
			"systemctl daemon-reload",
		}
	}
	return []string{
		"# systemctl edit UNIT, where UNIT starts the guest, and there:",
		"[Unit]",
		"After=" + c.By.Unit,
	}
}

// maxCommands is how many commands are told for one reason.
const maxCommands = 8

// groupCommands are those of all causes of a group that were not told yet.
func groupCommands(group []startCause, deadline time.Duration, told map[string]bool) []string {
	var list []string
	for i := range group {
		if group[i].cause == nil {
			continue
		}
		for _, block := range blocks(commands(group[i].verdict, group[i].cause, deadline)) {
			key := strings.Join(block, "\n")
			if told[key] {
				continue
			}
			if len(list)+len(block) > maxCommands {
				return append(list, "# and so on: --guest NAME tells those of one guest")
			}
			told[key] = true
			list = append(list, block...)
		}
	}
	return list
}

// blocks splits commands where one does not need the one before: those that make a
// drop-in stay together.
func blocks(list []string) [][]string {
	var out [][]string
	for len(list) > 0 {
		n := 1
		switch {
		case strings.HasPrefix(list[0], "printf "):
			n = 2
		case strings.HasPrefix(list[0], "#"):
			n = 3
		}
		n = min(n, len(list))
		out, list = append(out, slices.Clone(list[:n])), list[n:]
	}
	return out
}
