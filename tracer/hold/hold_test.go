package hold

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/readiness"
)

// disks are made ready by a test; they stand for a readiness.Tracker.
type disks struct {
	mu      sync.Mutex
	ready   map[string]bool
	watches map[*watch]bool
}

type watch struct {
	disks   *disks
	request readiness.Request
	changed chan struct{}
}

func newDisks() *disks { return &disks{ready: map[string]bool{}, watches: map[*watch]bool{}} }

func (d *disks) watch(r readiness.Request) (Watch, error) {
	w := &watch{d, r, make(chan struct{}, 1)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watches[w] = true
	return w, nil
}

func (d *disks) set(path string, ready bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ready[path] = ready
	for w := range d.watches {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

func (w *watch) Verdict() readiness.Verdict {
	w.disks.mu.Lock()
	defer w.disks.mu.Unlock()
	v := readiness.Verdict{Ready: true, At: event.Now()}
	for _, disk := range w.request.Disks {
		if !w.disks.ready[disk.Path] {
			v.Ready = false
			v.Blockers = append(v.Blockers, readiness.Blocker{Kind: readiness.Missing, Path: disk.Path, Detail: "it does not exist"})
		}
	}
	return v
}

func (w *watch) Changed() <-chan struct{} { return w.changed }
func (w *watch) Close() {
	w.disks.mu.Lock()
	defer w.disks.mu.Unlock()
	delete(w.disks.watches, w)
}

// host is a Holder on this machine, which holds the starts of a program in a
// folder of its own.
type host struct {
	*Holder
	t       *testing.T
	program string
	disks   *disks
	log     bytes.Buffer
	stop    context.CancelCauseFunc
	ended   chan error

	mu     sync.Mutex
	events []event.Event
}

// newHost needs root, and a kernel that holds execs and lets a held task be
// read.
func newHost(t *testing.T, change func(*Options)) *host {
	t.Helper()
	h := openHost(t, change)
	h.run()
	return h
}

// openHost is newHost of a Holder that does not run yet.
func openHost(t *testing.T, change func(*Options)) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may hold starts")
	}
	h := &host{t: t, program: filepath.Join(t.TempDir(), "qemu-system-x86_64"), disks: newDisks(), ended: make(chan error, 1)}
	unpack(t, h.program)
	cfg := config.Default().Enforce
	cfg.Binaries = []string{filepath.Join(filepath.Dir(h.program), "qemu-system-*")}
	cfg.Deadline = time.Minute
	o := Options{attempts: allAttempts[:1], Watch: h.disks.watch, Record: h.record, Config: cfg,
		Log: slog.New(slog.NewTextHandler(&locked{w: &h.log}, nil))}
	if change != nil {
		change(&o)
	}
	holder, err := Open(t.Context(), o)
	if unsupported := new(UnsupportedError); errors.As(err, &unsupported) {
		t.Skip("NOT RUN: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.Holder = holder
	return h
}

func (h *host) run() {
	ctx, stop := context.WithCancelCause(context.Background())
	h.stop = stop
	go func() { h.ended <- h.Run(ctx); close(h.ended) }()
	h.t.Cleanup(func() { stop(nil); <-h.ended })
}

type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// unpack puts a program that does nothing at path.
func unpack(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func (h *host) record(e event.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

func (h *host) of(kind event.Kind) []event.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(func(yield func(event.Event) bool) {
		for _, e := range h.events {
			if e.Kind == kind && !yield(e) {
				return
			}
		}
	})
}

// start runs the program through a launcher. Go itself must not execute what is
// held: all of it would wait.
func (h *host) start(args ...string) *launched { return h.startAs(0, args...) }

func (h *host) startAs(uid uint32, args ...string) *launched {
	h.t.Helper()
	c := exec.Command("/bin/sh", append([]string{"-c", `exec "$0" "$@"`, h.program}, args...)...)
	if uid != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	l := &launched{Cmd: c, t: h.t, done: make(chan struct{})}
	if err := c.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() { l.err = c.Wait(); close(l.done) }()
	return l
}

func (h *host) guest(name string, more ...string) *launched {
	h.t.Helper()
	return h.start(append([]string{"-name", name, "-drive", "file=/dev/vg0/" + name + ",if=none,format=raw"}, more...)...)
}

type launched struct {
	*exec.Cmd
	t    *testing.T
	done chan struct{}
	err  error
}

// ends waits for its end and returns its status, 126 where its exec was denied.
func (l *launched) ends() int {
	l.t.Helper()
	select {
	case <-l.done:
	case <-time.After(20 * time.Second):
		l.t.Fatalf("%q has not ended", l.Args)
	}
	return l.ProcessState.ExitCode()
}

func (l *launched) waits() {
	l.t.Helper()
	select {
	case <-l.done:
		l.t.Fatalf("%q went on: %v", l.Args, l.err)
	case <-time.After(50 * time.Millisecond):
	}
}

// held waits until n starts are held.
func (h *host) held(n int) []Held {
	h.t.Helper()
	for range 2000 {
		if list := h.Status().Holds; len(list) == n {
			return list
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.t.Fatalf("%d starts are held, want %d; counts %+v; log:\n%s", len(h.Status().Holds), n, h.Status().Counts, &h.log)
	return nil
}

// settled waits until every start that was answered is accounted for.
func (h *host) settled() {
	h.t.Helper()
	for range 2000 {
		if len(h.list()) == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.t.Fatal("a start is never accounted for")
}

// holdsUntilReady has guest a, of a certain uuid, wait for /dev/vg0/a and no
// longer.
func (h *host) holdsUntilReady(a *launched) {
	h.t.Helper()
	held := h.held(1)[0]
	if held.Guest != "a" || held.Identity != "uuid:3aad3b6b-ddf8-474a-8906-06d83ef318cb" || held.PID != a.Process.Pid ||
		held.Reason != "disks" || held.OnTimeout != "allow" || len(held.Blockers) != 1 || held.Blockers[0].Path != "/dev/vg0/a" {
		h.t.Errorf("held: %+v", held)
	}
	a.waits()
	h.disks.set("/dev/vg0/a", true)
	if status := a.ends(); status != 0 {
		h.t.Errorf("a ended with %d", status)
	}
	h.settled()
}

// A start is held until its disk is ready, and another one not at all.
func TestHold(t *testing.T) {
	h := newHost(t, nil)
	h.disks.set("/dev/vg0/b", true)
	a := h.guest("a", "-uuid", "3AAD3B6B-ddf8-474a-8906-06d83ef318cb")
	if status := h.guest("b").ends(); status != 0 {
		t.Errorf("b ended with %d", status)
	}
	h.holdsUntilReady(a)
	holds, releases := h.of(event.Hold), h.of(event.Release)
	if len(holds) != 1 || len(releases) != 1 {
		t.Fatalf("%d holds, %d releases are recorded", len(holds), len(releases))
	}
	if e := holds[0]; e.Proc.PID != a.Process.Pid || e.Hold.Guest != "a" || e.Hold.Disk != "/dev/vg0/a" || e.Hold.Deadline != e.At.Add(time.Minute) {
		t.Errorf("hold: %s", e.AppendJSON(nil))
	}
	if e := releases[0]; e.Hold.Reason != "ready" || e.Hold.Outcome != "allowed" || e.At < holds[0].At {
		t.Errorf("release: %s", e.AppendJSON(nil))
	}
	if c := h.Status().Counts; c.Seen != 2 || c.Passed != 1 || c.Held != 1 || c.Allowed != 1 || c.Denied != 0 {
		t.Errorf("counts %+v", c)
	}
}

// What is no guest, and what needs nothing, is not kept waiting.
func TestPassed(t *testing.T) {
	h := newHost(t, func(o *Options) {
		none := time.Duration(0)
		o.Config.Guests = []config.GuestRule{{Name: "router-*", Deadline: &none}}
	})
	for _, args := range [][]string{
		{"-machine", "none", "-qmp", "stdio"},
		{"-device", "virtio-net-pci,help"},
		{"-version"},
		{"-name", "diskless", "-nodefaults"},
		{"-name", "cdrom", "-drive", "id=cd,media=cdrom,if=none"},
		{"-name", "router-7", "-drive", "file=/dev/vg0/late"},
		{},
	} {
		if status := h.start(args...).ends(); status != 0 {
			t.Errorf("%q ended with %d", args, status)
		}
	}
	if n := len(h.of(event.Hold)) + len(h.of(event.Release)); n != 0 {
		t.Errorf("%d events", n)
	}
}

func TestDeadline(t *testing.T) {
	deny := config.Deny
	h := newHost(t, func(o *Options) {
		o.Config.Deadline = 300 * time.Millisecond
		o.Config.Guests = []config.GuestRule{{UUID: "3AAD3B6B-*", OnTimeout: &deny}}
	})
	a, b := h.guest("a"), h.guest("b", "-uuid", "3aad3b6b-ddf8-474a-8906-06d83ef318cb")
	if status := a.ends(); status != 0 {
		t.Errorf("a ended with %d", status)
	}
	if status := b.ends(); status != 126 {
		t.Errorf("b ended with %d", status)
	}
	h.settled()
	for _, e := range h.of(event.Release) {
		if e.Hold.Reason != "deadline" || e.At < e.Hold.Deadline || e.At.Sub(e.Hold.Deadline) > 5*time.Second ||
			len(e.Hold.Blockers) != 1 || (e.Hold.Guest == "b") != (e.Hold.Outcome == "denied") {
			t.Errorf("release: %s", e.AppendJSON(nil))
		}
	}
	st := h.Status()
	if len(st.Refused) != 1 || st.Refused[0].Guest != "b" || st.Refused[0].Why != "deadline" || st.Refused[0].Remedy == "" {
		t.Errorf("refused: %+v", st.Refused)
	}
}

// A launcher may execute a script of that name, which executes qemu: a deadline
// counts once.
func TestLetGoOnce(t *testing.T) {
	h := newHost(t, func(o *Options) { o.Config.Deadline = 200 * time.Millisecond })
	script := filepath.Join(filepath.Dir(h.program), "qemu-system-script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec "+h.program+` "$@"`+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.Use(*h.cfg.Load())
	h.program = script
	if status := h.guest("a").ends(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	h.settled()
	if c := h.Status().Counts; c.Seen != 2 || c.Held != 1 || c.Passed != 1 {
		t.Errorf("counts %+v", c)
	}
}

// Nor is it where the script forks: its child is the same start, and another guest
// of its is not.
func TestLetGoForks(t *testing.T) {
	h := newHost(t, func(o *Options) { o.Config.Deadline = 200 * time.Millisecond })
	script := filepath.Join(filepath.Dir(h.program), "qemu-system-script")
	program := h.program
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"+program+` "$@"; `+program+" -name b -drive file=/dev/vg0/b,if=none,format=raw\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.Use(*h.cfg.Load())
	h.program = script
	if status := h.guest("a").ends(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	h.settled()
	if c := h.Status().Counts; c.Seen != 3 || c.Held != 2 || c.Passed != 1 {
		t.Errorf("counts %+v", c)
	}
}

func TestKilled(t *testing.T) {
	h := newHost(t, nil)
	a := h.guest("a")
	h.held(1)
	begin := time.Now()
	if err := a.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.ends()
	if took := time.Since(begin); took > 5*time.Second { // a loaded machine
		t.Errorf("died after %s", took)
	}
	h.settled()
	if e := h.of(event.Release); len(e) != 1 || e[0].Hold.Outcome != "gone" {
		t.Errorf("releases %+v", e)
	}
}

// Held guests of which nothing is heard are not looked at, and one that is killed goes
// all the same: the kernel tells it.
func TestKilledIsTold(t *testing.T) {
	h := openHost(t, nil)
	if h.deaths.epoll == nil {
		t.Skip("NOT RUN: there is no epoll")
	}
	if fd, err := unix.PidfdOpen(os.Getpid(), 0); err != nil {
		t.Skip("NOT RUN: this kernel has no pidfd: ", err)
	} else {
		unix.Close(fd)
	}
	looks, seen := map[int]int{}, sync.Mutex{}
	h.alive = func(task *Task) bool { // and lies
		seen.Lock()
		defer seen.Unlock()
		looks[task.PID]++
		return true
	}
	h.run()
	list := make([]*launched, 20)
	for i := range list {
		list[i] = h.guest(fmt.Sprint("g", i))
	}
	h.held(len(list))
	h.sweeps(1) // one may be under way
	seen.Lock()
	clear(looks)
	seen.Unlock()
	h.sweeps(3)
	seen.Lock()
	for pid, n := range looks {
		if n > 1 { // twice a minute all are looked at
			t.Errorf("the held guest of process %d was looked at %d times in 3 sweeps", pid, n)
		}
	}
	seen.Unlock()
	if err := list[0].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	list[0].ends()
	h.held(len(list) - 1)
	if e := h.of(event.Release); len(e) != 1 || e[0].Hold.Outcome != event.HoldGone || e[0].Proc.PID != list[0].Process.Pid {
		t.Errorf("releases %+v", e)
	}
}

// Where nothing is told, a killed guest is found.
func TestKilledIsFound(t *testing.T) {
	h := openHost(t, nil)
	h.deaths.close()
	h.deaths.epoll = nil
	h.run()
	a := h.guest("a")
	h.held(1)
	if err := a.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.ends()
	h.settled()
	if e := h.of(event.Release); len(e) != 1 || e[0].Hold.Outcome != event.HoldGone {
		t.Errorf("releases %+v", e)
	}
}

// sweeps waits until all holds were looked over n times more.
func (h *host) sweeps(n int) {
	h.t.Helper()
	for range n {
		before := h.swept.Load()
		for h.swept.Load() == before {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// Where a held task can't be killed, who was killed is let go at once, and is told as
// gone: not held to the end, and then as a guest that was started.
func TestKilledWhereItCannotBe(t *testing.T) {
	h := openHost(t, nil)
	h.method.Longest = time.Minute
	var dying atomic.Int64
	h.method.killed = func(task *Task) bool { return int64(task.PID) == dying.Load() }
	h.run()
	a, b := h.guest("a"), h.guest("b")
	h.held(2)
	dying.Store(int64(a.Process.Pid))
	begin := time.Now()
	a.ends()
	if took := time.Since(begin); took > 5*time.Second { // a loaded machine
		t.Errorf("let go after %s", took)
	}
	if e := h.of(event.Release); len(e) != 1 || e[0].Hold.Outcome != event.HoldGone || e[0].Hold.Reason != event.ReleaseKilled {
		t.Errorf("releases %+v", e)
	}
	h.disks.set("/dev/vg0/b", true)
	b.ends()
	h.settled()
	if c := h.Status().Counts; c.Gone != 1 || c.Allowed != 1 {
		t.Errorf("counts %+v", c)
	}
}

func TestByHand(t *testing.T) {
	h := newHost(t, nil)
	a, b := h.guest("a", "-uuid", "3aad3b6b-ddf8-474a-8906-06d83ef318cb"), h.guest("b")
	h.held(2)
	if _, err := h.Release("c"); err == nil || !strings.Contains(err.Error(), `"c" is held`) {
		t.Errorf("got %v", err)
	}
	for _, who := range []string{"3AAD3B6B-ddf8-474a-8906-06d83ef318cb", "b"} {
		if _, err := h.Release(who); err != nil {
			t.Error(err)
		}
	}
	if a.ends() != 0 || b.ends() != 0 {
		t.Error("a released guest did not start")
	}
}

// 200 starts at once, and disks that come in any order: each goes on for its
// own, none before.
func TestMany(t *testing.T) {
	h := newHost(t, nil)
	const guests, volumes = 200, 50
	list := make([]*launched, guests)
	for i := range list {
		list[i] = h.start("-name", fmt.Sprint("g", i), "-drive", fmt.Sprintf("file=/dev/vg0/lv%d,if=none", i%volumes))
	}
	h.held(guests)
	left := guests
	for _, v := range rand.Perm(volumes) {
		h.disks.set(fmt.Sprint("/dev/vg0/lv", v), true)
		for i := v; i < guests; i += volumes {
			if status := list[i].ends(); status != 0 {
				t.Errorf("guest %d ended with %d", i, status)
			}
		}
		left -= guests / volumes
		h.held(left)
	}
}

// The end of holding, for whatever reason, lets all starts go on.
func TestEnd(t *testing.T) {
	h := newHost(t, nil)
	list := []*launched{h.guest("a"), h.guest("b")}
	h.held(2)
	h.stop(errors.New("trace mode"))
	for _, l := range list {
		if status := l.ends(); status != 0 {
			t.Errorf("ended with %d", status)
		}
	}
	if err := <-h.ended; err != nil {
		t.Error(err)
	}
	for _, e := range h.of(event.Release) {
		if e.Hold.Reason != "trace mode" || e.Hold.Outcome != "allowed" {
			t.Errorf("release %+v", e.Hold)
		}
	}
	if status := h.guest("c").ends(); status != 0 {
		t.Errorf("a later one ended with %d", status)
	}
	if text := h.log.String(); strings.Contains(text, "level=ERROR") {
		t.Errorf("the log has errors:\n%s", text)
	}
}

// Nobody answers as he should.
func TestBroken(t *testing.T) {
	for what, change := range map[string]func(*Options){
		"a watch panics": func(o *Options) { o.Watch = func(readiness.Request) (Watch, error) { panic("broken") } },
		"a watch fails":  func(o *Options) { o.Watch = func(readiness.Request) (Watch, error) { return nil, io.EOF } },
		"the comparison panics": func(o *Options) {
			o.Compare = func(*guest.Guest, []readiness.Member) ([]Doubt, error) { panic("broken") }
		},
	} {
		t.Run(what, func(t *testing.T) {
			h := newHost(t, change)
			h.disks.set("/dev/vg0/a", true)
			if status := h.guest("a").ends(); status != 0 {
				t.Errorf("ended with %d", status)
			}
		})
	}
}

// An upgrade replaces the program. The new one is guarded while it is unpacked,
// so that the first start after the rename is held.
func TestReplaced(t *testing.T) {
	h := newHost(t, nil)
	fresh := h.program + ".dpkg-new"
	for i := range 5 {
		unpack(t, fresh)
		for !slices.Contains(h.Status().Programs, fresh) {
			time.Sleep(time.Millisecond)
		}
		if err := os.Rename(fresh, h.program); err != nil {
			t.Fatal(err)
		}
		a := h.guest("a")
		h.held(1)
		if _, err := h.Release("a"); err != nil || a.ends() != 0 {
			t.Fatalf("after upgrade %d: %v", i, err)
		}
	}
	for !slices.Equal(h.Status().Programs, []string{h.program}) {
		time.Sleep(time.Millisecond)
	}
}

func TestIdentity(t *testing.T) {
	hold, deny := config.IdentityHold, config.IdentityDeny
	var known atomic.Bool
	h := newHost(t, func(o *Options) {
		o.Compare = func(g *guest.Guest, _ []readiness.Member) ([]Doubt, error) {
			switch {
			case g.Name == "fine":
				return nil, nil
			case g.Name == "hunknown" && !known.Load():
				return nil, errors.New("not known yet")
			case g.Name == "hunknown":
				return nil, nil
			}
			return []Doubt{{Kind: "shrunk", Disk: g.Disks[0].Path, Text: "/dev/vg0/x has 1 GiB, and had 2 GiB"}}, nil
		}
		o.Config.Guests = []config.GuestRule{{Name: "h*", Identity: &hold}, {Name: "d*", Identity: &deny}, {Name: "late", Identity: &hold}}
	})
	for _, name := range []string{"fine", "warned", "h1", "hunknown", "denied"} {
		h.disks.set("/dev/vg0/"+name, true)
	}
	for name, want := range map[string]int{"fine": 0, "warned": 0, "denied": 126} {
		if status := h.guest(name).ends(); status != want {
			t.Errorf("%s ended with %d", name, status)
		}
	}
	h1, late := h.guest("h1"), h.guest("late")
	h.held(2)
	h.disks.set("/dev/vg0/late", true)
	for slices.ContainsFunc(h.held(2), func(d Held) bool { return d.Reason != "identity" }) {
		time.Sleep(time.Millisecond)
	}
	for _, held := range h.held(2) {
		if held.OnTimeout != "deny" || len(held.Doubts) != 1 {
			t.Errorf("held %+v", held)
		}
	}
	h1.waits()
	for _, who := range []string{"h1", "late"} {
		if _, err := h.Release(who); err != nil {
			t.Error(err)
		}
	}
	if h1.ends() != 0 || late.ends() != 0 {
		t.Error("a released guest did not start")
	}
	unknown := h.guest("hunknown")
	h.held(1)
	known.Store(true)
	if unknown.ends() != 0 {
		t.Error("a guest did not start when it was known to be right")
	}
	h.settled()
	if r := h.Status().Refused; len(r) != 1 || r[0].Guest != "denied" || !strings.Contains(r[0].Details[0], "had 2 GiB") || r[0].Remedy == "" {
		t.Errorf("refused %+v", r)
	}
}

// What is waited for is activated once that is due, and what turns out to be
// beneath it, too.
func TestActivate(t *testing.T) {
	var h *host
	there := make(chan struct{})
	h = newHost(t, func(o *Options) {
		o.Config.Activate = config.Activate{After: 100 * time.Millisecond, On: true}
		o.Activate = func(_ context.Context, blockers []readiness.Blocker) {
			<-there
			for _, b := range blockers {
				h.disks.set(b.Path, true)
			}
		}
	})
	close(there)
	a := h.guest("a", "-drive", "file=/dev/vg0/more")
	if status := a.ends(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	h.settled()
	if e := h.of(event.Release); len(e) != 1 || e[0].Hold.Reason != "ready" || e[0].At.Sub(h.of(event.Hold)[0].At) < 100*time.Millisecond {
		t.Errorf("releases %+v", e)
	}
}

// Command lines of all sizes are read in full, and hundreds of them at a time.
func TestArguments(t *testing.T) {
	h := newHost(t, nil)
	long := []string{"-name", "a", "-drive", "file=/dev/vg0/a"}
	for i := range 2000 {
		long = append(long, "-fw_cfg", fmt.Sprintf("name=opt/x%d,string=%s", i, strings.Repeat("y", i%300)))
	}
	long = append(long, "-drive", "file=/dev/vg0/last")
	a := h.start(long...)
	if b := h.held(1)[0].Blockers; len(b) != 2 || b[1].Path != "/dev/vg0/last" {
		t.Errorf("blockers %+v", b)
	}
	h.disks.set("/dev/vg0/a", true)
	a.waits()
	h.disks.set("/dev/vg0/last", true)
	if status := a.ends(); status != 0 {
		t.Errorf("ended with %d", status)
	}
}

// A pattern that a reload takes away holds nothing any more, but for what it holds
// already, and for what another pattern leads to.
func TestPatternTakenAway(t *testing.T) {
	h := newHost(t, nil)
	dir, program := filepath.Dir(h.program), h.program
	other, link := filepath.Join(dir, "kvm"), filepath.Join(dir, "emulator")
	unpack(t, other)
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	use := func(patterns ...string) {
		c := *h.cfg.Load()
		c.Binaries = patterns
		h.Use(c)
	}
	use(program, link, other)
	h.guards(other, program)
	h.program = other
	a := h.guest("before")
	h.held(1)
	use(link)
	h.guards(link)
	a.waits()
	if status := h.guest("after").ends(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	if c := h.Status().Counts; c.Seen != 1 {
		t.Errorf("a program was looked at that no pattern leads to: %+v", c)
	}
	if _, err := h.Release("before"); err != nil || a.ends() != 0 {
		t.Errorf("released: %v", err)
	}
	h.program = program
	h.isHeld()
	use(other)
	h.guards(other)
	if status := h.guest("after").ends(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	use(program)
	h.isHeld()
}

// A guest for which libvirt's hook has waited until its deadline is not held a second
// time, unless its disks have to be compared; its next start is.
func TestWaitedElsewhere(t *testing.T) {
	deny := config.IdentityDeny
	h := newHost(t, func(o *Options) {
		o.Config.Guests = []config.GuestRule{{Name: "strict", Identity: &deny}}
	})
	script := filepath.Join(filepath.Dir(h.program), "qemu-system-script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec "+h.program+` "$@"`+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.Use(*h.cfg.Load())
	h.program = script
	const a, strict = "3aad3b6b-ddf8-474a-8906-06d83ef318cb", "5bd1b1ba-8d15-4f60-b1a5-3a0c43f4c7f5"
	h.LetGo(strings.ToUpper(a))
	h.LetGo(strict)
	if status := h.guest("a", "-uuid", a).ends(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	h.settled()
	if c := h.Status().Counts; c.Seen != 2 || c.Passed != 2 { // the script, and what it executes
		t.Errorf("counts %+v", c)
	}
	for _, l := range []*launched{h.guest("a", "-uuid", a), h.guest("strict", "-uuid", strict)} {
		defer l.ends()
	}
	for _, held := range h.held(2) {
		if _, err := h.Release(held.Guest); err != nil {
			t.Error(err)
		}
	}
}
