package scenarios

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/event"
)

// agreement is how far the instants of two records of one event may lie apart.
const agreement = 5 * time.Millisecond

// readLate is how far they may where bootrace's is that of reading what the
// kernel had sent. The witness reads with real-time priority, so its instant is
// as good as the kernel's. bootrace waits for its turn, on one emulated
// processor that LVM, udev and guests keep busy.
const readLate = 100 * time.Millisecond

// sight is one event as a record tells it: what happened, which is the same in
// each record, and the window in which it did.
type sight struct {
	what     string
	from, at event.Time
}

// bootrace against the kernel's own tracing and udevadm monitor.
func TestWitness(t *testing.T) {
	// On a busy host, an emulated processor may stand still between two probes
	// on one function. A clock that counts instructions stands still, too.
	out, _ := play(t, "witness", func(o *lab.Options) { o.Counted = true })
	trace := parseFile(t, filepath.Join(out, "trace.txt"), parseTrace)
	monitor := parseFile(t, filepath.Join(out, "monitor.txt"), parseMonitor)
	log := readLog(t, filepath.Join(out, "trace.jsonl"))

	within := span(trace)
	compare(t, "resumes and opens", trace, kernelSights(log, within), agreement)
	compare(t, "kernel's uevents", monitor[event.Uevent], deviceSights(log, event.Uevent, monitor[event.Uevent]), readLate)
	compare(t, "udev's events", monitor[event.Udev], deviceSights(log, event.Udev, monitor[event.Udev]), agreement)
}

// What the witnesses wrote on a 6.1 kernel.
func TestParseWitness(t *testing.T) {
	trace := parseFile(t, filepath.Join("testdata", "witness", "trace.txt"), parseTrace)
	want := []string{
		"resume 253:0", "open /dev/vg0/early: 0", "open /dev/vg0/early: 0",
		"open /dev/vg0/late: 2", "open /dev/vg0/late: 2", "resume 253:1",
		"resume 253:2", "open /dev/vg0/again: 0", "open /dev/vg0/again: 0",
		"open /dev/vg0/again: 2", "open /dev/vg0/again: 2", "resume 253:2",
		"resume 253:0", // after a suspend, which is none
	}
	if diff := gocmp.Diff(want, names(trace)); diff != "" {
		t.Errorf("trace (-want +got):\n%s", diff)
	}
	if first := trace[1]; first.from != 108_955_456_000 || first.at != 108_957_391_000 {
		t.Errorf("the first open: %+v", first)
	}

	monitor := parseFile(t, filepath.Join("testdata", "witness", "monitor.txt"), parseMonitor)
	kernel := []string{
		"1597 add /devices/virtual/block/dm-0", "1598 change /devices/virtual/block/dm-0",
		"1600 add /devices/virtual/block/dm-1",
	}
	if diff := gocmp.Diff(kernel, names(monitor[event.Uevent])); diff != "" {
		t.Errorf("uevents (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(kernel[:2], names(monitor[event.Udev])); diff != "" {
		t.Errorf("udev's events (-want +got):\n%s", diff)
	}
	if at := monitor[event.Udev][0].at; at != 104_472_619_000 {
		t.Errorf("udev's first event at %d", at)
	}
}

// compare requires the same events in the same order, and instants that agree:
// bootrace's may not lie before the witness's, and not further behind them than
// late.
func compare(t *testing.T, subject string, witness, got []sight, late time.Duration) {
	t.Helper()
	if len(witness) == 0 {
		t.Errorf("%s: the witness saw none", subject)
	}
	if diff := gocmp.Diff(names(witness), names(got)); diff != "" {
		t.Errorf("%s (-witness +bootrace):\n%s", subject, diff)
		return
	}
	var before, behind time.Duration
	for i, w := range witness {
		g := got[i]
		early, lag := max(0, w.at.Sub(g.at)), max(0, g.from.Sub(w.from))
		before, behind = max(before, early), max(behind, lag)
		if early > agreement || lag > late {
			t.Errorf("%s: %s: bootrace has %d to %d ns, the witness %d to %d ns", subject, g.what, g.from, g.at, w.from, w.at)
		}
	}
	t.Logf("%s: %d events in the same order, at most %v before and %v behind the witness", subject, len(witness), before, behind)
}

func names(sights []sight) []string {
	var list []string
	for _, s := range sights {
		list = append(list, s.what)
	}
	return list
}

// span is the window in which all sights lie, with room for disagreement.
func span(sights []sight) sight {
	if len(sights) == 0 {
		return sight{}
	}
	all := sights[0]
	for _, s := range sights {
		all.from, all.at = min(all.from, s.from), max(all.at, s.at)
	}
	return sight{"", all.from.Add(-agreement), all.at.Add(agreement)}
}

func byTime(a, b sight) int { return cmp.Compare(a.from, b.from) }

// kernelSights are the resumes of mappings and the guests' opens in a log, in
// the order of their instants.
func kernelSights(log []event.Event, within sight) []sight {
	var list []sight
	for _, e := range log {
		switch {
		case e.Kind == event.DMResume && e.DM.Errno == 0 && e.DM.Dev != nil:
			list = append(list, sight{resumeName(e.DM.Dev.Major, e.DM.Dev.Minor), e.DM.LiveAt, e.DM.LiveAt})
		case e.Kind == event.Open && isGuest(e.Proc.Comm) && isVolume(e.Open.Path):
			list = append(list, sight{openName(e.Open.Path, e.Open.Errno), e.From, e.At})
		}
	}
	slices.SortStableFunc(list, byTime)
	return slices.DeleteFunc(list, func(s sight) bool { return s.from < within.from || s.from > within.at })
}

// deviceSights are the uevents of block devices in a log, or udev's events,
// between the first and the last that the witness saw.
func deviceSights(log []event.Event, kind event.Kind, witness []sight) []sight {
	var list []sight
	for _, e := range log {
		if e.Kind == kind && e.Dev.Subsystem == "block" {
			list = append(list, sight{deviceName(e.Dev.Seq, e.Dev.Action, e.Dev.Path), e.Earliest(), e.At})
		}
	}
	if len(witness) == 0 {
		return list
	}
	is := func(what string) func(sight) bool { return func(s sight) bool { return s.what == what } }
	first := slices.IndexFunc(list, is(witness[0].what))
	last := slices.IndexFunc(list, is(witness[len(witness)-1].what))
	if first < 0 || last < first {
		return list
	}
	return list[first : last+1]
}

func isGuest(comm string) bool  { return strings.HasPrefix(comm, "qemu-system") }
func isVolume(path string) bool { return strings.HasPrefix(path, "/dev/vg0/") }

func resumeName(major, minor uint32) string { return fmt.Sprintf("resume %d:%d", major, minor) }

func openName(path string, errno int) string { return fmt.Sprintf("open %s: %d", path, errno) }

func deviceName(seq uint64, action, path string) string {
	return fmt.Sprintf("%d %s %s", seq, action, path)
}

func readLog(t *testing.T, path string) []event.Event {
	t.Helper()
	log, err := bootlog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var events []event.Event
	for e, err := range log.Events() {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func parseFile[T any](t *testing.T, path string, parse func(io.Reader) (T, error)) T {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parsed, err := parse(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return parsed
}

// traceLine is "TASK-TID [CPU] FLAGS SECONDS.MICROSECONDS: WHAT".
var traceLine = regexp.MustCompile(`^\s*.+-(\d+)\s+\[\d+\]\s+\S+\s+(\d+\.\d{6}): (.*)$`)

// traceField is a field of an event, a string in quotes without them.
var traceField = regexp.MustCompile(`\b(\w+)=(?:"([^"]*)"|(\S+))`)

// tracer puts together what one thread does from the events that it is traced
// by.
type tracer struct {
	request uint64 // device of the resume that runs, 0 if none runs
	entered event.Time
	path    string
}

// parseTrace reads what the kernel traced: resumes, and opens of volumes.
func parseTrace(r io.Reader) ([]sight, error) {
	var list []sight
	threads := map[string]*tracer{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		m := traceLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		at, err := parseSeconds(m[2])
		if err != nil {
			return nil, err
		}
		if threads[m[1]] == nil {
			threads[m[1]] = &tracer{}
		}
		s, err := threads[m[1]].step(at, m[3])
		if err != nil {
			return nil, fmt.Errorf("%q: %w", lines.Text(), err)
		}
		if s != nil {
			list = append(list, *s)
		}
	}
	slices.SortStableFunc(list, byTime)
	return list, lines.Err()
}

// suspendFlag is DM_SUSPEND_FLAG of linux/dm-ioctl.h: without it the request
// is to resume.
const suspendFlag = 1 << 1

func (t *tracer) step(at event.Time, what string) (*sight, error) {
	fields := map[string]string{}
	for _, m := range traceField.FindAllStringSubmatch(what, -1) {
		fields[m[1]] = m[2] + m[3]
	}
	switch {
	case strings.HasPrefix(what, "request:"):
		return nil, t.asked(fields)
	case strings.HasPrefix(what, "resumed:") && t.request != 0 && fields["ret"] == "0":
		name := resumeName(unix.Major(t.request), unix.Minor(t.request))
		t.request = 0
		return &sight{name, at, at}, nil
	case strings.HasPrefix(what, "sys_openat("):
		t.entered, t.path = at, ""
	case strings.HasPrefix(what, "path:"):
		t.path = fields["path"]
	case strings.HasPrefix(what, "sys_openat -> ") && isVolume(t.path):
		ret, err := strconv.ParseUint(strings.TrimPrefix(what, "sys_openat -> "), 0, 64)
		return &sight{openName(t.path, max(0, -int(int64(ret)))), t.entered, at}, err
	}
	return nil, nil
}

func (t *tracer) asked(fields map[string]string) error {
	flags, err := strconv.ParseUint(fields["flags"], 0, 64)
	if err != nil {
		return err
	}
	t.request = 0
	if flags&suspendFlag == 0 {
		t.request, err = strconv.ParseUint(fields["dev"], 0, 64)
	}
	return err
}

// monitorLine is "KERNEL[SECONDS] ACTION PATH (SUBSYSTEM)", or UDEV.
var monitorLine = regexp.MustCompile(`^(KERNEL|UDEV) *\[(\d+\.\d{6})\] (\w+) +(.+) \((\w+)\)$`)

// parseMonitor reads what udevadm monitor wrote about block devices. Its times
// are CLOCK_MONOTONIC's, which is CLOCK_BOOTTIME in a machine that never
// slept.
func parseMonitor(r io.Reader) (map[event.Kind][]sight, error) {
	kinds := map[string]event.Kind{"KERNEL": event.Uevent, "UDEV": event.Udev}
	seen := map[event.Kind][]sight{}
	var head []string // of the event whose properties follow
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if m := monitorLine.FindStringSubmatch(lines.Text()); m != nil {
			head = m
			continue
		}
		number, ok := strings.CutPrefix(lines.Text(), "SEQNUM=")
		if !ok || head == nil || head[5] != "block" {
			continue
		}
		seq, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return nil, err
		}
		at, err := parseSeconds(head[2])
		if err != nil {
			return nil, err
		}
		kind := kinds[head[1]]
		seen[kind] = append(seen[kind], sight{deviceName(seq, head[3], head[4]), at, at})
		head = nil
	}
	return seen, lines.Err()
}

// parseSeconds reads seconds with six decimals.
func parseSeconds(s string) (event.Time, error) {
	micros, err := strconv.ParseInt(strings.Replace(s, ".", "", 1), 10, 64)
	return event.Time(micros) * 1000, err
}
