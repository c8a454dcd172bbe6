package hold

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// oldHost is a host that holds as it has to be done before Linux 5.0: at every
// open of the program, with arguments from a probe.
func oldHost(t *testing.T, change func(*Options)) *host {
	t.Helper()
	return newHost(t, func(o *Options) {
		o.attempts = allAttempts[2:]
		if change != nil {
			change(o)
		}
	})
}

// Held, and let go when its disk is ready; with as many arguments as real guests
// have, and some that are empty or long.
func TestHoldOfOldKernels(t *testing.T) {
	h := oldHost(t, nil)
	h.disks.set("/dev/vg0/b", true)
	var more []string
	for n := range 90 {
		more = append(more, "-device", fmt.Sprintf("virtio-blk-pci,id=d%d", n))
	}
	more = append(more, "-append", "", "-object", strings.Repeat("x", 3000), "-uuid", "3AAD3B6B-ddf8-474a-8906-06d83ef318cb")
	a := h.guest("a", more...)
	if status := h.guest("b").ends(); status != 0 {
		t.Errorf("b ended with %d", status)
	}
	h.holdsUntilReady(a)
	if c := h.Status().Counts; c.Seen != 2 || c.Passed != 1 || c.Held != 1 || c.Allowed != 1 || c.Unread != 0 {
		t.Errorf("counts %+v", c)
	}
}

// Who only reads the program is not kept waiting, and is no start.
func TestOpenOfOldKernels(t *testing.T) {
	h := oldHost(t, nil)
	a := h.guest("a")
	h.held(1)
	for range 20 {
		if out, err := exec.Command("/bin/sh", "-c", `read -r x <"$0"; echo read`, h.program).Output(); err != nil || string(out) != "read\n" {
			t.Fatalf("%s, %v", out, err)
		}
	}
	if _, err := os.ReadFile(h.program); err != nil { // this process itself
		t.Error(err)
	}
	h.disks.set("/dev/vg0/a", true)
	a.ends()
	h.settled()
	if c := h.Status().Counts; c.Seen != 1 || c.Held != 1 || c.Passed != 0 || c.Unread != 0 {
		t.Errorf("counts %+v", c)
	}
}

// More arguments than are recorded: the guest starts, and it is counted.
func TestTooManyArgumentsOfOldKernels(t *testing.T) {
	h := oldHost(t, nil)
	var more []string
	for range 150 { // 2 each; 256 are recorded
		more = append(more, "-device", "virtio-rng-pci")
	}
	if status := h.guest("a", more...).ends(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	h.settled()
	if c := h.Status().Counts; c.Unread != 1 || c.Held != 0 {
		t.Errorf("counts %+v", c)
	}
}

// Many at a time, each with its own arguments, from a launcher with threads.
func TestManyOfOldKernels(t *testing.T) {
	h := oldHost(t, nil)
	const n = 20
	var all []*launched
	for i := range n {
		all = append(all, h.guest(fmt.Sprint("g", i)))
	}
	h.held(n)
	for i, l := range all {
		h.disks.set(fmt.Sprint("/dev/vg0/g", i), true)
		if status := l.ends(); status != 0 {
			t.Errorf("g%d ended with %d", i, status)
		}
	}
	h.settled()
	for _, e := range h.of(event.Release) {
		if e.Hold.Reason != "ready" {
			t.Errorf("release: %s", e.AppendJSON(nil))
		}
	}
}

// Where holding a task makes it unkillable, no hold lasts.
func TestShortHolds(t *testing.T) {
	h := openHost(t, nil)
	h.method.Longest = 300 * time.Millisecond
	h.run()
	if status := h.guest("a").ends(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	h.settled()
	if e := h.of(event.Release); len(e) != 1 || e[0].Hold.Reason != "deadline" || e[0].Hold.Outcome != "allowed" {
		t.Errorf("releases %+v", e)
	}
}

// The ways of old kernels are found by trying, here too.
func TestChooseOldWays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may hold starts")
	}
	for _, a := range allAttempts[1:] {
		method, err := choose(t.Context(), []attempt{a}, slog.New(slog.DiscardHandler))
		if unsupported := new(UnsupportedError); errors.As(err, &unsupported) {
			t.Skip("NOT RUN: ", err)
		}
		if err != nil || method.Longest != 0 { // what is held here can be killed
			t.Fatalf("%+v, %v", method, err)
		}
		if err := method.close(); err != nil {
			t.Error(err)
		}
	}
}

// watched tells when a gate is closed.
type watched struct {
	Gate
	over func()
}

func (w watched) Close() error {
	err := w.Gate.Close()
	w.over()
	return err
}

// This kernel lets a held task be killed (Linux 5.1), and inotify be closed meanwhile
// (4.12). Where it does not, holds are short, and nothing is left that waits.
func TestBound(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may hold starts")
	}
	over, closed := make(chan struct{}), make(chan struct{})
	unkilled := func(context.Context, int) (bool, error) { return false, nil }
	for _, tc := range []struct {
		what  string
		kill  func(context.Context, int) (bool, error)
		close func() error
		want  time.Duration
	}{
		{"this kernel", kill, func() error { <-over; return nil }, 0},
		{"it can't be killed", unkilled, closeWatch, 20 * time.Second},
		{"and inotify can't be tried", unkilled, func() error { return unix.EMFILE }, 5 * time.Second},
		{"and inotify waits with it", unkilled, func() error { <-over; close(closed); return nil }, 5 * time.Second},
	} {
		over = make(chan struct{})
		end := sync.OnceFunc(func() { close(over) })
		got, err := tryBound(t.Context(), func() (Gate, error) {
			gate, err := openFanotify()
			return watched{gate, end}, err
		}, tc.kill, tc.close)
		if unsupported := new(UnsupportedError); errors.As(err, &unsupported) {
			t.Skip("NOT RUN: ", err)
		}
		if err != nil || got.Longest != tc.want || (got.Because == "") != (tc.want == 0) {
			t.Errorf("%s: %+v, %v", tc.what, got, err)
		}
	}
	<-closed
}

// An operator is told why his deadline is not kept.
func TestBoundTold(t *testing.T) {
	var log bytes.Buffer
	allAttempts[1].tell(slog.New(slog.NewTextHandler(&log, nil)), &method{Bound: stalling}, failures{{Reason: "too old"}})
	for _, want := range []string{"longest=5s", "systemd included", "why=\"too old\"", "killable=false"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in %s", want, &log)
		}
	}
}

// The first way that works is taken; where none does, one line says why.
func TestChoose(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	refuse := func(reason string, err error) attempt {
		return attempt{func() (Gate, error) { return nil, &UnsupportedError{reason, err} }, false, true}
	}
	_, err := choose(t.Context(), []attempt{refuse("one", unix.EINVAL), refuse("two", nil), refuse("two", nil)}, log)
	unsupported := new(UnsupportedError)
	if !errors.As(err, &unsupported) || !errors.Is(err, unix.EINVAL) || !strings.HasSuffix(err.Error(), "there is no way: one: invalid argument; two") {
		t.Errorf("got %v", err)
	}
	_, err = choose(t.Context(), []attempt{refuse("one", unix.EINVAL), refuse("one", unix.EINVAL)}, log)
	if !errors.As(err, &unsupported) || err.Error() != "starts can't be held on this host: one: invalid argument" {
		t.Errorf("got %v", err)
	}
	_, err = choose(t.Context(), []attempt{refuse("no right", unix.EPERM), refuse("not tried", nil)}, log)
	if err == nil || strings.Contains(err.Error(), "not tried") {
		t.Errorf("got %v", err)
	}
	_, err = choose(t.Context(), []attempt{refuse("late", context.DeadlineExceeded), refuse("two", nil)}, log)
	if !errors.Is(err, context.DeadlineExceeded) { // so that it is tried again
		t.Errorf("got %v", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	method, err := choose(t.Context(), []attempt{refuse("one", nil), {openFanotify, false, true}}, log)
	if errors.As(err, &unsupported) {
		t.Skip("NOT RUN: ", err)
	}
	if err != nil || method.Longest != 0 || method.close() != nil {
		t.Errorf("got %+v, %v", method, err)
	}
}

// Before Linux 3.17 there are no files in memory.
func TestProgramOnDisk(t *testing.T) {
	file, err := onDisk()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if out, err := exec.Command("/bin/sh", "-c", `. "$0"; echo gone on`, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd())).CombinedOutput(); err != nil || string(out) != "gone on\n" {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := os.Stat(file.Name()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is left behind: %v", err)
	}
}
