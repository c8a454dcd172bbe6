package hostile

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/kernels/hostile/report"
	"github.com/bootrace/bootrace/tracer/event"
)

// The kinds of honest guests.
const (
	ready   = "ready"   // its disk is there
	ungated = "ungated" // the same, and nobody guards its program: what this machine itself takes
	late    = "late"    // its disk never comes
	comes   = "comes"   // its disk comes while it is held
)

// honestGuest is one guest of somebody who harms nobody, and what became of it.
type honestGuest struct {
	name, kind, phase, disk string
	uid, pid                int
	begin                   event.Time
	came                    event.Time // comes: before this the disk was not there
	saw                     *report.Saw
	wrong                   error
}

// guests start all the time, of root and of a neighbour, beside those who attack.
type guests struct {
	h         *host
	neighbour int
	there     *disk
	pool      chan *disk
	rest      time.Duration // between two guests under attack

	mu     sync.Mutex
	phase  string
	paused bool
	n      int
	list   []*honestGuest
	flying sync.WaitGroup
}

// patience is how long a guest may take in all before it counts as stuck: longer than
// any deadline.
const patience = 100 * time.Second

// pace is the time between two guests.
const pace = 100 * time.Millisecond

// mostGuests is how many start at the most: what a boot's log has room for, beside all
// that it keeps for others. A longer siege has them come more slowly.
const mostGuests = 3000

func newGuests(h *host, neighbour int, siege time.Duration) *guests {
	h.t.Helper()
	const devices = 6
	g := &guests{h: h, neighbour: neighbour, phase: alone, pool: make(chan *disk, devices), rest: max(pace, siege/mostGuests)}
	g.there = newDisk(h, 0)
	h.must(g.there.attach())
	for n := range devices {
		g.pool <- newDisk(h, n+1)
	}
	return g
}

// enter begins a phase, by the name of which what happens in it is judged.
func (g *guests) enter(phase string, paused bool) {
	g.mu.Lock()
	g.phase, g.paused = phase, paused
	g.mu.Unlock()
	g.h.t.Logf("%s %s", time.Now().Format("15:04:05"), phase)
	if paused {
		g.flying.Wait()
	}
}

// run starts guests until done is closed, and waits for all of them.
func (g *guests) run(done <-chan struct{}, random *rand.Rand) {
	wait := pace
	for n := 0; ; n++ {
		select {
		case <-done:
			g.flying.Wait()
			return
		case <-time.After(wait):
		}
		uid := []int{0, g.neighbour}[random.IntN(2)]
		g.mu.Lock()
		paused := g.paused
		wait = g.rest
		if g.phase == alone {
			wait = pace
		}
		g.mu.Unlock()
		switch {
		case paused:
		case n%8 == 0:
			g.start(late, uid, "/dev/vg-honest/late", 0, nil)
		case n%8 == 4:
			select {
			case d := <-g.pool:
				g.start(comes, uid, d.path, time.Duration(200+random.IntN(1500))*time.Millisecond, d)
			default: // all are in use
			}
		case n%2 == 0:
			g.start(ready, uid, g.there.path, 0, nil)
		default:
			g.start(ungated, uid, g.there.path, 0, nil)
		}
	}
}

func (g *guests) start(kind string, uid int, path string, after time.Duration, d *disk) {
	g.mu.Lock()
	g.n++
	one := &honestGuest{name: fmt.Sprintf("honest-%s-%d", kind, g.n), kind: kind, phase: g.phase, disk: path, uid: uid}
	g.list = append(g.list, one)
	g.mu.Unlock()
	g.flying.Go(func() {
		if err := g.live(one, after, d); err != nil {
			one.wrong = err
		}
	})
}

func (g *guests) live(one *honestGuest, after time.Duration, d *disk) (err error) {
	program := honest
	if one.kind == ungated {
		program = plain
	}
	m, err := newImage(one.uid, filepath.Join(g.h.dir, "bin", program),
		[]string{"-name", one.name, "-drive", "file=" + one.disk + ",if=none,format=raw"},
		[]string{report.Folder + "=" + filepath.Join(g.h.dir, "reports")})
	if err != nil {
		return err
	}
	one.begin = event.Now()
	p, err := m.start()
	if err != nil {
		return err
	}
	one.pid = p.Pid
	if d != nil {
		defer func() { g.pool <- d }()
		time.Sleep(after)
		one.came = event.Now()
		if err := d.attach(); err != nil {
			return errors.Join(err, p.Kill())
		}
		defer func() { err = errors.Join(err, d.detach()) }()
	}
	stuck := time.AfterFunc(patience, func() { _ = p.Kill() })
	state, err := p.Wait()
	if err != nil {
		return err
	}
	if !stuck.Stop() {
		return fmt.Errorf("it was stuck, and killed after %s", patience)
	}
	if !state.Success() {
		return fmt.Errorf("it ended: %s", state)
	}
	path := filepath.Join(g.h.dir, "reports", one.name)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	one.saw = &report.Saw{}
	return errors.Join(json.Unmarshal(data, one.saw), os.Remove(path))
}

// of are the guests of a kind in a phase that ran; "" stands for all.
func (g *guests) of(kind, phase string) []*honestGuest {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []*honestGuest
	for _, one := range g.list {
		if (kind == "" || one.kind == kind) && (phase == "" || one.phase == phase) && one.saw != nil {
			list = append(list, one)
		}
	}
	return list
}

// times are how long each took from since to its first instruction, sorted.
func times(list []*honestGuest, since func(*honestGuest) event.Time) []time.Duration {
	var all []time.Duration
	for _, one := range list {
		all = append(all, one.saw.Start.Sub(since(one)))
	}
	slices.Sort(all)
	return all
}

func begin(g *honestGuest) event.Time { return g.begin }

// end is when the hold of a late guest has to end at the latest.
func end(g *honestGuest) event.Time { return g.begin.Add(lateDeadline) }

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// disk is a loop device.
type disk struct {
	path  string
	image string
}

// firstLoop is far above those that others on this machine use.
const firstLoop = 740

func newDisk(h *host, n int) *disk {
	h.t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	h.must(err)
	defer control.Close()
	number := firstLoop
	for err = unix.EEXIST; errors.Is(err, unix.EEXIST); number++ {
		err = unix.IoctlSetInt(int(control.Fd()), unix.LOOP_CTL_ADD, number+1)
	}
	if err != nil {
		h.t.Fatalf("make loop device %d: %v", number, err)
	}
	d := &disk{path: fmt.Sprintf("/dev/loop%d", number), image: filepath.Join(h.dir, fmt.Sprintf("disk-%d", n))}
	h.must(os.WriteFile(d.image, nil, 0o600))
	h.must(os.Truncate(d.image, 1<<20))
	h.await(d.path, 10*time.Second, func() bool { _, err := os.Stat(d.path); return err == nil })
	h.must(os.Chmod(d.path, 0o644)) // guests of others open it, too
	h.t.Cleanup(func() { d.remove(h.t, number) })
	return d
}

func (d *disk) remove(t *testing.T, number int) {
	if err := d.detach(); err != nil {
		t.Error(err)
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer control.Close()
	for range 100 {
		if err = unix.IoctlSetInt(int(control.Fd()), unix.LOOP_CTL_REMOVE, number); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("loop device %d stays: %v", number, err)
}

func (d *disk) attach() error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	loop, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer loop.Close()
	image, err := os.OpenFile(d.image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer image.Close()
	if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_FD, int(image.Fd())); err != nil {
		return fmt.Errorf("attach %s: %w", d.path, err)
	}
	return nil
}

// detach leaves nothing behind the device; where nothing is, it does nothing. Who has
// the device open, to look at it, keeps it a little longer.
func (d *disk) detach() error {
	if err := d.clear(); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach %s: %w", d.path, err)
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		size, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(d.path), "size"))
		if err != nil || string(size) == "0\n" {
			return err
		}
	}
	return fmt.Errorf("detach %s: somebody has had it open for %s", d.path, patience)
}

func (d *disk) clear() error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	loop, err := os.OpenFile(d.path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer loop.Close()
	return unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0)
}
