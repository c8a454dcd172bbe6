package powercut

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/inspect"
)

// hurt is what was done to an image after the power was cut.
type hurt string

const (
	whole   hurt = ""
	cut     hurt = "cut off"
	spoiled hurt = "damaged"
)

// subject is a file system, as bootrace saw it, and its own tools do.
type subject struct {
	name  string
	kind  inspect.Kind
	hurt  hurt
	size  int64          // bytes that are there
	layer *inspect.Layer // nil where bootrace found nothing of its kind
	ask   func(args ...string) Said
	// state and needs are what the tools said of the whole one.
	state inspect.State
	needs int64
}

// asked runs a tool.
func asked(name string, args ...string) Said {
	c := exec.Command(name, args...)
	c.Env = append(c.Environ(), "LC_ALL=C", "TEST_DIR=1", "TEST_DEV=1", "QA_CHECK_FS=1") // mkfs.xfs makes small ones for xfstests only
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		return Said{-1, err.Error()}
	}
	return Said{c.ProcessState.ExitCode(), string(out)}
}

// questions are what the tools are asked of each kind.
var questions = map[inspect.Kind][][]string{
	inspect.KindXFS: {
		{"xfs_logprint", "-t"}, {"xfs_repair", "-n"},
		{"xfs_db", "-r", "-c", "sb 0", "-c", "p dblocks blocksize", "-c", "sb 1", "-c", "p dblocks"},
	},
	inspect.KindExt:   {{"dumpe2fs", "-h"}, {"e2fsck", "-f", "-n"}},
	inspect.KindBtrfs: {{"btrfs", "inspect-internal", "dump-super"}, {"btrfs", "check", "--readonly"}},
	inspect.KindFAT:   {{"fsck.fat", "-n", "-v"}},
	inspect.KindSwap:  {{"swaplabel"}},
	inspect.KindNTFS:  {{"ntfsinfo", "-f", "-m"}},
	inspect.KindLUKS:  {{"cryptsetup", "luksDump"}},
	inspect.KindPV:    {{"pvck", "--dump", "headers"}},
}

// answers are what the tools say.
type answers struct {
	state inspect.State // empty: they do not tell
	needs int64         // 0: they do not tell
	// short is set where they find the device too small, bad where they find damage,
	// and well where they find nothing at all.
	short, bad, well bool
	text             string
}

var beside = map[inspect.Kind]func([]Said) answers{
	inspect.KindXFS: xfsTools, inspect.KindExt: extTools, inspect.KindBtrfs: btrfsTools, inspect.KindFAT: fatTools,
	inspect.KindSwap: swapTools, inspect.KindNTFS: ntfsTools, inspect.KindLUKS: luksTools, inspect.KindPV: pvTools,
}

func (s *subject) tools() answers {
	var said []Said
	text := ""
	for _, q := range questions[s.kind] {
		a := s.ask(q...)
		said = append(said, a)
		text += fmt.Sprintf("%s: status %d\n%s\n", strings.Join(q, " "), a.Status, a.Text[max(0, len(a.Text)-1500):])
	}
	a := beside[s.kind](said)
	a.text = text
	return a
}

func xfsTools(said []Said) (a answers) {
	switch log := said[0].Text; {
	case strings.Contains(log, "<CLEAN>"):
		a.state = inspect.StateClean
	case strings.Contains(log, "<DIRTY>"):
		a.state = inspect.StateDirty
	}
	repair := said[1].Text
	a.short = strings.Contains(repair, "superblock read failed") || strings.Contains(repair, "size check failed") || strings.Contains(repair, "read error")
	a.bad = regexp.MustCompile(`bad CRC|bad magic|bad primary superblock|couldn't verify|unlinked bucket|mismatched`).MatchString(repair)
	// Its counters are behind, in the kernel's own time: not what anybody looks at here.
	a.well = said[1].Status == 0 || strings.Contains(repair, ", counted ")
	block := number(said[2].Text, `blocksize = (\d+)`)
	for _, m := range regexp.MustCompile(`dblocks = (\d+)`).FindAllStringSubmatch(said[2].Text, -1) {
		n, _ := strconv.ParseInt(m[1], 10, 64)
		a.needs = max(a.needs, n*block)
	}
	return a
}

func extTools(said []Said) (a answers) {
	head := said[0].Text
	features, state := word(head, `Filesystem features: +(.*)`), word(head, `Filesystem state: +(.*)`)
	switch {
	case state == "":
	case strings.Contains(state, "errors") || strings.Contains(head, "FS Error count"):
		a.state = inspect.StateErrors
	case strings.Contains(features, "needs_recovery") || !strings.Contains(features, "has_journal") && strings.HasPrefix(state, "not clean"):
		a.state = inspect.StateDirty
	default:
		a.state = inspect.StateClean
	}
	a.needs = number(head, `Block count: +(\d+)`) * number(head, `Block size: +(\d+)`)
	a.short = strings.Contains(said[1].Text, "The physical size of the device")
	a.bad = said[0].Status != 0 || strings.Contains(said[1].Text, "uperblock checksum") ||
		strings.Contains(said[1].Text, "roup descriptors look bad") || strings.Contains(said[1].Text, "Superblock invalid")
	a.well = said[1].Status == 0 && !a.short
	return a
}

func btrfsTools(said []Said) (a answers) {
	super := said[0].Text
	switch word(super, `(?m)^log_root\s+(\d+)`) {
	case "":
	case "0":
		a.state = inspect.StateClean
	default:
		a.state = inspect.StateDirty
	}
	a.needs = number(super, `dev_item.total_bytes\s+(\d+)`)
	a.bad = strings.Contains(super, "DON'T MATCH") || a.needs == 0
	a.short = said[1].Status != 0 && !a.bad
	a.well = said[1].Status == 0
	return a
}

func fatTools(said []Said) (a answers) {
	text := said[0].Text
	a.needs = number(text, `(\d+) sectors total`) * number(text, `(\d+) bytes per logical sector`)
	if a.needs > 0 {
		a.state = inspect.StateClean
	}
	if strings.Contains(text, "Dirty bit is set") {
		a.state = inspect.StateDirty
	}
	a.short = strings.Contains(text, "Read ") || strings.Contains(text, "Seek")
	a.bad = a.needs == 0
	a.well = said[0].Status == 0
	return a
}

func swapTools(said []Said) (a answers) {
	if said[0].Status == 0 {
		a.state = inspect.StateClean
	}
	return a
}

func ntfsTools(said []Said) (a answers) {
	text := said[0].Text
	if flags := word(text, `Volume Flags: +(.*)`); strings.Contains(flags, "DIRTY") {
		a.state = inspect.StateDirty
	} else if flags != "" {
		a.state = inspect.StateClean
	}
	a.bad = said[0].Status != 0
	a.well = said[0].Status == 0
	return a
}

func luksTools(said []Said) (a answers) {
	a.state = inspect.StateEncrypted
	a.bad = said[0].Status != 0
	return a
}

func pvTools(said []Said) (a answers) {
	a.needs = number(said[0].Text, `pv_header.device_size (\d+)`)
	// The power can be cut while LVM changes a group: what it was about to commit does
	// not count.
	text := strings.ReplaceAll(said[0].Text, "for precommit not empty", "")
	a.bad = regexp.MustCompile(`CHECK: \S+ \S`).MatchString(text)
	return a
}

func word(text, pattern string) string {
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return strings.TrimSpace(m[1])
}

func number(text, pattern string) int64 {
	n, _ := strconv.ParseInt(word(text, pattern), 10, 64)
	return n
}

// compare lists what bootrace and the tools do not agree on.
func (s *subject) compare(a *answers) (differ []string) {
	wrong := func(format string, args ...any) { differ = append(differ, fmt.Sprintf(format, args...)) }
	l := s.layer
	if l == nil {
		if s.hurt == whole || s.hurt == cut || a.state != "" {
			wrong("bootrace finds nothing of its kind")
		}
		return differ
	}
	faulty := 0
	for _, d := range l.Damage {
		if !d.Copy {
			faulty++
		}
	}
	// The state: the same, and never clean where it is not.
	want := a.state
	if want == "" {
		want = s.state
	}
	switch {
	case s.kind == inspect.KindPV:
	case l.State == inspect.StateUnknown && (a.state == "" || s.hurt == spoiled):
	case l.State == inspect.StateUnknown && s.hurt == cut: // the superblock does not know of a journal that was cut off
	case l.State == inspect.StateDirty && want == inspect.StateErrors && s.hurt == spoiled: // they were noted in what is damaged now
	case l.State != want:
		wrong("the state is %q (%s), and by the tools %q", l.State, l.Why, want)
	}
	// The size.
	short := max(0, s.needs-s.size)
	switch {
	case s.hurt == whole && a.needs > 0 && l.Needs != a.needs && s.kind != inspect.KindPV:
		wrong("it needs %d, and by the tools %d", l.Needs, a.needs)
	case l.Short() == 0 && short > 0 && !(s.hurt == spoiled && l.Needs == 0):
		wrong("it fits, and is short by %d", short)
	case l.Short() > 0 && short == 0:
		wrong("it is short by %d, and by the tools fits", l.Short())
	case s.hurt == cut && l.Short() != short:
		wrong("it is short by %d, and by the tools %d", l.Short(), short)
	case s.hurt == whole && a.short:
		wrong("a tool finds it too small")
	}
	// All of a whole one can be read. Whether a log is replayed that has a new size is not known.
	if s.hurt == whole && len(l.Unknown) > 0 && !grown(l) {
		wrong("it is not known: %s", strings.Join(l.Unknown, "; "))
	}
	// The headers.
	switch said := faulty > 0 || l.Absent != nil; {
	case s.hurt == spoiled && strings.Contains(strings.Join(l.Notes, " "), "not checked here"): // BLAKE2
	case s.hurt == spoiled && !said && len(l.Damage) == 0:
		wrong("bootrace sees no damage")
	case s.hurt == whole && (said || len(l.Damage) > 0):
		wrong("bootrace sees damage: %v %v", l.Damage, l.Absent)
	case s.hurt == whole && a.bad:
		wrong("a tool finds damage")
	case s.hurt == whole && !a.well && a.state == inspect.StateClean && l.State == inspect.StateClean && s.kind != inspect.KindSwap && s.kind != inspect.KindPV:
		wrong("a tool finds something in what is clean")
	}
	return differ
}
