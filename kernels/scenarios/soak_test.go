package scenarios

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/event"
)

// soakBoots is how often the host of a soak test boots.
const soakBoots = 20

// inSoak skips a test that takes long where that is not asked for, and says
// so. It returns the number of boots.
func inSoak(t *testing.T) int {
	t.Helper()
	if os.Getenv("BOOTRACE_SOAK") == "" {
		t.Skip("NOT RUN: boots virtual machines for a quarter of an hour and more; `make soak` runs it")
	}
	return number(t, "BOOTRACE_SOAK_BOOTS", soakBoots)
}

// number returns a variable of the environment that is a positive number, or
// its default.
func number(t *testing.T, name string, byDefault int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return byDefault
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is not a number of boots", name, text)
	}
	return n
}

// repeated makes a scenario whose first boot runs one script and whose further
// n boots run another, and returns its folder. The scripts are relative to
// this folder; the root of the first one's scenario is the new one's.
func repeated(t *testing.T, first, again string, n int) string {
	t.Helper()
	dir := t.TempDir()
	link(t, filepath.Join(filepath.Dir(first), "rootfs"), filepath.Join(dir, "rootfs"))
	for boot := 1; boot <= n+1; boot++ {
		script := again
		if boot == 1 {
			script = first
		}
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("boot%d.sh", boot)), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func link(t *testing.T, to, at string) {
	t.Helper()
	to, err := filepath.Abs(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

// Boot after boot in which every volume is there in time: nothing is reported,
// and nothing is lost.
func TestSoakClean(t *testing.T) {
	boots := inSoak(t)
	out, _ := boot(t, repeated(t, "clean/boot1.sh", "clean/boot2.sh", boots), nil)
	records, err := filepath.Glob(filepath.Join(out, "*-*-*-*-*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != boots {
		t.Errorf("%d of %d boots are recorded", len(records), boots)
	}
	for _, path := range records {
		tl := readTimeline(t, path)
		if len(tl.Findings) > 0 {
			t.Errorf("%s: findings %v", path, kinds(tl))
		}
		if !tl.Complete || len(tl.Losses) > 0 {
			t.Errorf("%s: the record is not complete: %+v, losses %+v", path, tl.Incomplete, tl.Losses)
		}
		for _, name := range []string{"web-a", "db-b", "shop-c"} {
			for _, d := range guestNamed(t, tl, name).Disks {
				if len(d.Uses) == 0 || d.Uses[0].Margin == nil || !d.Uses[0].Positive() {
					t.Errorf("%s: %s: %s has no positive margin: %+v", path, name, d.Path, d.Uses)
				}
			}
		}
	}
}

// lastMoment is how much of a boot may be missing from its log after a power
// cut.
const lastMoment = time.Second

// cutWithin is how long after the first heartbeat the power is cut, at the
// most. The log moves to the disk some seconds after that heartbeat.
const cutWithin = 40 * time.Second

// newMachine makes a machine with fresh disks for a test that starts and stops
// it by itself.
func newMachine(t *testing.T, ctx context.Context, opts lab.Options) *lab.Machine {
	t.Helper()
	scenario, err := lab.ReadScenario(opts.Scenario)
	if err != nil {
		t.Fatal(err)
	}
	image, err := lab.Prepare(ctx, opts, scenario.Rootfs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { image.Close() })
	m, err := image.NewMachine(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// mostCuts is how many boots bootrace keeps by default, without the one in which
// the others are read back.
const mostCuts = 29

// The power goes at any moment: what was recorded more than a moment before is
// there afterwards, in a log that can be read.
func TestSoakPowerCut(t *testing.T) {
	cuts := min(inSoak(t), mostCuts)
	seed := uint64(number(t, "BOOTRACE_SOAK_SEED", int(time.Now().UnixNano()&0xffffff)+1))
	t.Logf("BOOTRACE_SOAK_SEED=%d cuts the power at the same moments", seed)
	moments := rand.New(rand.NewPCG(seed, 0))

	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	h := newCutHost(t, ctx)
	for range cuts {
		h.cut(time.Duration(moments.Int64N(int64(cutWithin))))
	}
	h.readBack()
}

// cutHost is a host whose power is cut again and again.
type cutHost struct {
	t   *testing.T
	ctx context.Context
	m   *lab.Machine
	out string
}

func newCutHost(t *testing.T, ctx context.Context) *cutHost {
	t.Helper()
	opts := lab.Options{
		Scenario: "powercut",
		Out:      outFolder(t),
		Kernel:   os.Getenv("BOOTRACE_KERNEL"),
		Install:  lab.MakeInstall(repo(t)),
		Progress: progress{t},
	}
	return &cutHost{t, ctx, newMachine(t, ctx, opts), opts.Out}
}

func (h *cutHost) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// cut boots the host and cuts its power that long after its first heartbeat.
func (h *cutHost) cut(after time.Duration) {
	h.t.Helper()
	before := len(h.heartbeats())
	h.must(h.m.Start(h.ctx, 1))
	h.await("a heartbeat", func() bool { return len(h.heartbeats()) > before })
	select {
	case <-time.After(after):
	case <-h.ctx.Done():
	}
	h.must(h.m.Kill())
}

// bootLimit bounds the time of a boot.
const bootLimit = 10 * time.Minute

// await waits until there is something on the console, which is a file.
func (h *cutHost) await(what string, there func() bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeoutCause(h.ctx, bootLimit, errors.New("it took too long"))
	defer cancel()
	for !there() {
		select {
		case <-ctx.Done():
			h.t.Fatalf("wait for %s: %v: look at %s", what, context.Cause(ctx), h.m.ConsoleLog())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// readBack boots the host once more, for what the cuts have left on its disk,
// and compares it with what the console said.
func (h *cutHost) readBack() {
	h.t.Helper()
	boots := map[string][]heartbeat{}
	for _, b := range h.heartbeats() {
		boots[b.boot] = append(boots[b.boot], b)
	}
	before := h.handedOut()
	h.must(h.m.Start(h.ctx, 1))
	h.await("the logs", func() bool { return h.handedOut() > before })
	h.must(h.m.Kill())
	for boot, beats := range boots {
		checkCut(h.t, boot, beats, recordedBeats(h.t, filepath.Join(h.out, "logs"), boot))
	}
}

// handedOut returns how many boots have handed out the logs of those before.
func (h *cutHost) handedOut() int { return strings.Count(h.console(), "handed out after") }

func (h *cutHost) console() string {
	text, err := os.ReadFile(h.m.ConsoleLog())
	h.must(err)
	return string(text)
}

// heartbeat is what the machine says of one event before it goes on.
type heartbeat struct {
	boot    string
	n       int
	at      event.Time // before the event, to 10 ms
	durable bool       // the log was on the disk before the event
}

var heartbeatLine = regexp.MustCompile(`heartbeat ([0-9a-f-]{36}) (\d+) (\d+\.\d\d) (durable|volatile)\s*$`)

func (h *cutHost) heartbeats() []heartbeat {
	h.t.Helper()
	var beats []heartbeat
	if _, err := os.Stat(h.m.ConsoleLog()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lines := bufio.NewScanner(strings.NewReader(h.console()))
	for lines.Scan() {
		m := heartbeatLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		n, err := strconv.Atoi(m[2])
		h.must(err)
		seconds, err := strconv.ParseFloat(m[3], 64)
		h.must(err)
		beats = append(beats, heartbeat{m[1], n, event.Time(seconds * 1e9), m[4] == "durable"})
	}
	h.must(lines.Err())
	return beats
}

// recordedBeats returns the numbers of the heartbeats in the log of the boot,
// nil if there is no log. The log must be readable.
func recordedBeats(t *testing.T, dir, boot string) map[int]bool {
	t.Helper()
	log, err := bootlog.Open(filepath.Join(dir, boot+".jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		log, err = bootlog.Open(filepath.Join(dir, boot+".jsonl.zst"))
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, bootlog.ErrEmpty) {
		return nil
	}
	if err != nil {
		t.Errorf("boot %s: its log does not open: %v", boot, err)
		return nil
	}
	defer log.Close()
	beats := map[int]bool{}
	for e, err := range log.Events() {
		if err != nil {
			t.Errorf("boot %s: %v", boot, err)
			break
		}
		if e.Kind != event.Open {
			continue
		}
		if n, ok := strings.CutPrefix(e.Open.Path, "/dev/heartbeat-"); ok {
			number, _ := strconv.Atoi(n)
			beats[number] = true
		}
	}
	for _, d := range log.Damage() {
		t.Logf("boot %s: %d bytes at %d: %s", boot, d.Bytes, d.Offset, d.Why)
	}
	return beats
}

// checkCut requires what was recorded a moment before the last heartbeat, once
// the log had been on the disk for a moment. Before that it is in /run, and
// lost with the power.
func checkCut(t *testing.T, boot string, beats []heartbeat, recorded map[int]bool) {
	t.Helper()
	slices.SortFunc(beats, func(a, b heartbeat) int { return cmp.Compare(a.n, b.n) })
	end := beats[len(beats)-1].at
	durable := slices.IndexFunc(beats, func(b heartbeat) bool { return b.durable })
	if durable < 0 {
		t.Logf("boot %s: cut after %.2f s, its log in /run still: %d of %d heartbeats are left", boot, end.Seconds(), len(recorded), len(beats))
		return
	}
	var missing time.Duration // from the first heartbeat that is not in the log
	for _, b := range beats {
		if recorded[b.n] {
			continue
		}
		missing = max(missing, end.Sub(b.at))
		if end.Sub(b.at) > lastMoment {
			t.Errorf("boot %s: heartbeat %d at %.2f s is not in its log, although the power went %v later", boot, b.n, b.at.Seconds(), end.Sub(b.at))
		}
	}
	t.Logf("boot %s: cut after %.2f s, %.2f s after the log came to the disk: %v are missing", boot,
		end.Seconds(), end.Sub(beats[durable].at).Seconds(), missing)
}
