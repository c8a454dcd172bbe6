package scenarios

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/kernels"
	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// What bootrace may add to a boot: the larger of the two.
const (
	costShare = 0.02
	costTime  = 300 * time.Millisecond
)

// costBoots is how many boots of each kind are compared.
const costBoots = 5

// cost is what one boot took.
type cost struct {
	up    time.Duration // from the kernel's start until the system was up
	guest time.Duration // and until a guest's unit was started

	// With bootrace only.
	attached []time.Duration // from the program's start, of each instance in the boot
	rss      int64           // resident memory of the service, in bytes
	anon     int64           // of that, what is not a file's
}

// How much bootrace slows a boot down: boots of one host with and without it,
// in turn, on a clock that counts instructions.
func TestBootCost(t *testing.T) {
	if os.Getenv("BOOTRACE_COST") == "" {
		t.Skip("NOT RUN: boots virtual machines for a quarter of an hour; `make bench-boot` runs it")
	}
	boots := number(t, "BOOTRACE_COST_BOOTS", costBoots)
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	out := outFolder(t)
	scenario := repeated(t, "clean/boot1.sh", "clean/cost.sh", 1)
	without := newCostHost(t, ctx, scenario, filepath.Join(out, "without"), nil)
	with := newCostHost(t, ctx, scenario, filepath.Join(out, "with"), lab.MakeInstall(repo(t)))
	var plain, traced []cost
	for range boots {
		plain = append(plain, without.boot())
		traced = append(traced, with.boot())
	}
	checkCost(t, "system up", durations(plain, up), durations(traced, up))
	checkCost(t, "guest started", durations(plain, guest), durations(traced, guest))
	reportOwn(t, traced)
}

// What the probes cost what is nothing to them, on each kernel, with both backends. It
// prints what kernels/README.md has.
func TestProbeCost(t *testing.T) {
	if os.Getenv("BOOTRACE_COST") == "" {
		t.Skip("NOT RUN: boots each kernel; `make bench-probes` runs it")
	}
	for _, k := range kernels.Bootable() {
		t.Run(k.Name, func(t *testing.T) {
			out, _ := boot(t, "probes", func(o *lab.Options) {
				o.Kernel, o.Counted, o.Mitigations, o.Install, o.Timeout = k.Name, true, true, nil, time.Hour
				buildTests(t, o.Out, "probe", "probe/ebpf", "probe/tracefs")
			})
			text, err := os.ReadFile(filepath.Join(out, "cost.txt"))
			if err != nil {
				t.Fatal(err)
			}
			told := 0
			for line := range strings.Lines(string(text)) {
				if _, figures, ok := strings.Cut(line, "COST "); ok {
					t.Log(strings.TrimSpace(figures))
					told++
				}
			}
			if told == 0 {
				t.Errorf("nothing was measured: %s", text)
			}
		})
	}
}

func up(c cost) time.Duration    { return c.up }
func guest(c cost) time.Duration { return c.guest }

func durations(costs []cost, of func(cost) time.Duration) []time.Duration {
	var list []time.Duration
	for _, c := range costs {
		list = append(list, of(c))
	}
	return list
}

// checkCost compares medians and fails where bootrace costs too much.
func checkCost(t *testing.T, what string, plain, traced []time.Duration) {
	t.Helper()
	before, after := median(plain), median(traced)
	more := after - before
	share := float64(more) / float64(before)
	t.Logf("%s: %.3f s without, %.3f s with bootrace: %+.0f ms, %+.2f %% (medians of %d boots; without %s, with %s)", what,
		before.Seconds(), after.Seconds(), more.Seconds()*1000, share*100, len(plain), spread(plain), spread(traced))
	if limit := max(costTime, time.Duration(costShare*float64(before))); more > limit {
		t.Errorf("%s: bootrace adds %v, more than %v", what, more, limit)
	}
}

// reportOwn says what the program itself took, instance by instance: the early
// one in the initramfs, then the service.
func reportOwn(t *testing.T, traced []cost) {
	t.Helper()
	for i := range traced[0].attached {
		var list []time.Duration
		for _, c := range traced {
			if i < len(c.attached) {
				list = append(list, c.attached[i])
			}
		}
		t.Logf("instance %d: attached %v after the program's start (%s)", i+1, median(list), spread(list))
	}
	var rss, anon []int64
	for _, c := range traced {
		rss, anon = append(rss, c.rss), append(anon, c.anon)
	}
	t.Logf("service: %.1f MiB resident, %.1f MiB of it anonymous", mebibytes(median(rss)), mebibytes(median(anon)))
}

func mebibytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// median returns the middle of a list that is not empty, the lower one of two.
func median[T int64 | time.Duration](list []T) T {
	return slices.Sorted(slices.Values(list))[(len(list)-1)/2]
}

func spread(list []time.Duration) string {
	return fmt.Sprintf("%.3f to %.3f s", slices.Min(list).Seconds(), slices.Max(list).Seconds())
}

// costHost is a host that is set up, with or without bootrace, and turned off.
type costHost struct {
	t   *testing.T
	ctx context.Context
	m   *lab.Machine
	out string
}

// measuredBoot is the number of the boot that is measured, each time.
const measuredBoot = 2

func newCostHost(t *testing.T, ctx context.Context, scenario, out string, install lab.Install) *costHost {
	t.Helper()
	opts := lab.Options{
		Scenario: scenario,
		Out:      out,
		Kernel:   os.Getenv("BOOTRACE_KERNEL"),
		Install:  install,
		Counted:  true, Mitigations: true,
		Progress: progress{t},
	}
	h := &costHost{t: t, ctx: ctx, m: newMachine(t, ctx, opts), out: opts.Out}
	h.must(h.m.Start(ctx, 1))
	h.must(h.m.Await(ctx, lab.Done, 1))
	h.must(h.m.Kill()) // the script has written everything to the disks
	return h
}

func (h *costHost) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// boot boots the host, turns it off and returns what that took. Each boot is
// of a fresh QEMU, which has translated no code yet.
func (h *costHost) boot() cost {
	h.t.Helper()
	h.must(os.RemoveAll(filepath.Join(h.out, "cost.txt")))
	h.must(h.m.Start(h.ctx, measuredBoot))
	h.must(h.m.Wait())
	if boots := h.m.Boots(); len(boots) == 0 || boots[len(boots)-1].Status != 0 {
		h.t.Fatalf("the boot was not measured: look at %s", h.out)
	}
	text, err := os.ReadFile(filepath.Join(h.out, "cost.txt"))
	h.must(err)
	c, err := parseCost(text)
	h.must(err)
	if c.rss > 0 {
		c.attached = attached(readTimeline(h.t, filepath.Join(h.out, "cost.json")))
	}
	return c
}

// parseCost reads lines of a name and a number.
func parseCost(text []byte) (cost, error) {
	n := map[string]int64{}
	for line := range bytes.Lines(text) {
		name, number, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		value, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return cost{}, fmt.Errorf("%q: %w", line, err)
		}
		n[name] = value
	}
	c := cost{
		up:    time.Duration(n["up_us"]) * time.Microsecond,
		guest: time.Duration(n["guest_us"]) * time.Microsecond,
		rss:   n["rss_kb"] << 10,
		anon:  n["anon_kb"] << 10,
	}
	if c.up == 0 || c.guest == 0 {
		return cost{}, fmt.Errorf("the system was not up, or the guest not started: %q", text)
	}
	return c, nil
}

// attached returns for each instance how long its probes took to attach. An
// instance is ready that long after its start.
func attached(tl *timeline.Timeline) []time.Duration {
	var list []time.Duration
	for _, m := range tl.Marks {
		if m.Name != "ready" {
			continue
		}
		if took, err := time.ParseDuration(strings.Fields(m.Text)[0]); err == nil {
			list = append(list, took)
		}
	}
	return list
}

func TestParseCost(t *testing.T) {
	c, err := parseCost([]byte("up_us 18417409\nguest_us 15992341\nrss_kb 30600\nanon_kb 13072\n"))
	want := cost{up: 18417409 * time.Microsecond, guest: 15992341 * time.Microsecond, rss: 30600 << 10, anon: 13072 << 10}
	if err != nil || c.up != want.up || c.guest != want.guest || c.rss != want.rss || c.anon != want.anon {
		t.Errorf("got %+v, %v, want %+v", c, err, want)
	}
	for _, text := range []string{"", "up_us 1\n", "up_us 1\nguest_us \n"} {
		if _, err := parseCost([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
