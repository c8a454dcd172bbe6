// Package scenarios holds the hosts that the lab boots, and what must hold on
// each.
package scenarios

import (
	"cmp"
	"encoding/json"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/check"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// inLab skips a test where virtual machines are not asked for, and says so.
func inLab(t *testing.T) {
	t.Helper()
	if os.Getenv("BOOTRACE_LAB") == "" {
		t.Skip("NOT RUN: boots a virtual machine; `make lab-test` runs it")
	}
}

// play boots the scenario of that name and returns the folder of its results.
// The test fails if one of its scripts does.
func play(t *testing.T, scenario string, change func(*lab.Options)) (string, lab.Result) {
	t.Helper()
	inLab(t)
	t.Parallel()
	defer machines.take(rank(t.Name()))()
	return boot(t, scenario, change)
}

// longest are the tests whose machines run longest, the longest first: begun last, one
// of them would keep one processor busy while the others have nothing to do. A test that
// is not here comes behind them.
var longest = []string{
	"TestCauses", "TestEnforce", "TestDemo", "TestFirstReport", "TestMatrix", "TestReadiness", "TestLatency",
	"TestFindings", "TestLibvirt", "TestDracut", "TestDemoWithoutInitramfs", "TestCheck",
}

func rank(test string) int {
	test, _, _ = strings.Cut(test, "/")
	if i := slices.Index(longest, test); i >= 0 {
		return i
	}
	return len(longest)
}

// machines are the virtual machines that may run at a time. With QEMU 10, each waits for a
// third of its time, so two processors do three of them; with 7.2, three at a time take
// as long as two.
var machines = queue{free: (3*runtime.NumCPU() + 1) / 2}

// queue lets in as many as are free, those of the lowest rank first.
type queue struct {
	mu      sync.Mutex
	free    int
	waiting []*waiter
}

type waiter struct {
	rank int
	in   chan struct{}
}

// take returns when there is room, and a function that leaves it.
func (q *queue) take(rank int) (leave func()) {
	w := &waiter{rank, make(chan struct{})}
	q.mu.Lock()
	q.waiting = append(q.waiting, w)
	q.mu.Unlock()
	// All tests that are parallel begin at the same time: who comes first has to see
	// who else there is.
	time.AfterFunc(time.Second, q.admit)
	<-w.in
	return func() {
		q.mu.Lock()
		q.free++
		q.mu.Unlock()
		q.admit()
	}
}

func (q *queue) admit() {
	q.mu.Lock()
	defer q.mu.Unlock()
	slices.SortStableFunc(q.waiting, func(a, b *waiter) int { return cmp.Compare(a.rank, b.rank) })
	for q.free > 0 && len(q.waiting) > 0 {
		close(q.waiting[0].in)
		q.waiting = q.waiting[1:]
		q.free--
	}
}

// The longest come first, and no more at a time than there is room for.
func TestQueue(t *testing.T) {
	q := queue{free: 1}
	var mu sync.Mutex
	var order []int
	inside := 0
	var all sync.WaitGroup
	for _, rank := range []int{2, 0, 3, 1} {
		all.Go(func() {
			leave := q.take(rank)
			mu.Lock()
			order = append(order, rank)
			if inside++; inside > 1 {
				t.Error("more are in than there is room for")
			}
			mu.Unlock()
			mu.Lock()
			inside--
			mu.Unlock()
			leave()
		})
	}
	all.Wait()
	if !slices.IsSorted(order) {
		t.Errorf("in the order %v", order)
	}
}

// boot is play of a test that decides by itself whether it runs.
func boot(t *testing.T, scenario string, change func(*lab.Options)) (string, lab.Result) {
	t.Helper()
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	out := outFolder(t)
	opts := lab.Options{
		Scenario: scenario,
		Out:      out,
		Kernel:   os.Getenv("BOOTRACE_KERNEL"),
		Install:  lab.MakeInstall(repo(t)),
		Progress: progress{t},
		Cut:      true,
	}
	if change != nil {
		change(&opts)
	}
	result, err := lab.Run(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range result.Boots {
		t.Logf("boot %d: up after %v, %s, script ended with %d", b.N, b.Up, b.State, b.Status)
	}
	if result.Status() != 0 {
		t.Fatalf("a script failed: look at %s", out)
	}
	return out, result
}

// outFolder is build/lab/TEST, emptied: results are there to be looked at.
func outFolder(t *testing.T) string {
	t.Helper()
	out := filepath.Join(repo(t), "build", "lab", strings.ReplaceAll(t.Name(), "/", "_"))
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
	return out
}

func repo(t *testing.T) string {
	t.Helper()
	dir, err := lab.Repo(".")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// progress writes the lab's progress into the test's log as it comes.
type progress struct{ t *testing.T }

func (p progress) Write(b []byte) (int, error) {
	p.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

func readTimeline(t *testing.T, path string) *timeline.Timeline {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tl timeline.Timeline
	if err := json.Unmarshal(data, &tl); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return &tl
}

// kinds lists the findings as "guest kind", sorted; withheld ones with a question mark,
// but for what enforce mode would have held where tracefs watches: there trace mode does
// not know how long the kernel lets a start be held.
func kinds(tl *timeline.Timeline) []string {
	var list []string
	for _, f := range tl.Findings {
		s := f.Guest + " " + f.Kind
		if f.Withheld != "" && !strings.HasPrefix(f.Withheld, "trace mode does not try") {
			s += "?"
		}
		list = append(list, s)
	}
	slices.Sort(list)
	return list
}

func guestNamed(t *testing.T, tl *timeline.Timeline, name string) *timeline.Guest {
	t.Helper()
	for _, g := range tl.Guests {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("no guest %s in the timeline", name)
	return nil
}

func mappingNamed(t *testing.T, tl *timeline.Timeline, name string) *timeline.Mapping {
	t.Helper()
	for _, m := range tl.Mappings {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("no mapping %s in the timeline", name)
	return nil
}

// report is what `bootrace check --format json` said.
type report struct{ check.Report }

func readReport(t *testing.T, out, name string) *report {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(out, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(data, &r.Report); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return &r
}

func (r *report) item(t *testing.T, name string) check.Item {
	t.Helper()
	i := slices.IndexFunc(r.Items, func(i check.Item) bool { return i.Name == name })
	if i < 0 {
		t.Errorf("no item %q in %+v", name, r.Items)
		return check.Item{}
	}
	return r.Items[i]
}

// volumes are those that are warned of.
func (r *report) volumes() []string {
	var list []string
	for _, i := range r.Items {
		if volume, ok := strings.CutPrefix(i.Name, "volume "); ok {
			list = append(list, volume)
		}
	}
	return list
}
