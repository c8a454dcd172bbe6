// Package probetest has what the tests of the backends share: processes that play a guest
// or a hostile user, acts for a backend to see, and what must come of them. So both
// backends are held to the same.
//
// A guest has to be a program of its own, under a guest's name, and it has to be static,
// since the tests also run on kernels with nothing around them. So it is a copy of the
// test binary, which Main lets play a role.
package probetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// Runner is the part of a backend that tells what it sees.
type Runner interface {
	Run(ctx context.Context, emit func(event.Event)) error
}

// Trace returns what b sees while act runs.
func Trace(t testing.TB, b Runner, act func()) []event.Event {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var events []event.Event
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, func(e event.Event) { events = append(events, e) }) }()
	act()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return events
}

// TryOpen opens a path, closes it, and returns the error of the open.
func TryOpen(path string, flags int) error {
	fd, err := unix.Open(path, flags, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// OpensOf returns the opens of a path.
func OpensOf(events []event.Event, path string) []event.Event {
	var found []event.Event
	for _, e := range events {
		if e.Kind == event.Open && e.Open.Path == path {
			found = append(found, e)
		}
	}
	return found
}

// LossesOf returns what events say was lost of a user, 0 for what is nobody's in
// particular.
func LossesOf(events []event.Event, uid uint32) map[string]uint64 {
	sums := map[string]uint64{}
	for _, e := range events {
		if e.Kind == event.Loss && e.Loss.UID == uid {
			sums[e.Loss.What] += e.Loss.Count
		}
	}
	return sums
}

// Guest returns a command that runs a copy of this test binary, in a folder of its own
// and under a name, which plays a guest.
func Guest(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, name)
	if err := CopyFile(program, "/proc/self/exe", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, imageName), make([]byte, imageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = []string{roleEnv + "=guest"}
	return cmd
}

// Staying has a guest and its child live for a while, as guests do: without eBPF their
// arguments are read a moment after their exec.
func Staying(guest *exec.Cmd) *exec.Cmd {
	guest.Env = append(guest.Env, stayEnv+"=500ms")
	return guest
}

// CopyFile copies a file.
func CopyFile(to, from string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// ManyArgs are n bytes of arguments of real length, all different.
func ManyArgs(n int) []string {
	var args []string
	for i := 0; n > 0; i++ {
		arg := strings.Repeat(string(rune('a'+i%26)), min(n, 100+i%900))
		args = append(args, arg)
		n -= len(arg) + 1
	}
	return args
}

// CheckGuest checks the events of a guest that has run to its end.
func CheckGuest(t *testing.T, events []event.Event, guest *exec.Cmd) {
	t.Helper()
	pid := guest.Process.Pid
	var kinds []event.Kind
	child := 0
	for _, e := range events {
		if e.Proc == nil || e.Proc.PID != pid && e.Proc.PPID != pid {
			continue
		}
		own := e.Proc.PID == pid
		switch e.Kind {
		case event.Exec:
			if own {
				checkExec(t, e.Exec, guest)
			}
		case event.Fork:
			child = e.Proc.PID
		case event.Exit:
			if own && *e.Exit != (event.ExitInfo{Status: GuestStatus}) {
				t.Errorf("guest's exit: %+v", *e.Exit)
			}
			if !own && *e.Exit != (event.ExitInfo{Signal: int(unix.SIGKILL)}) {
				t.Errorf("child's exit: %+v", *e.Exit)
			}
		case event.Open:
			if own {
				checkOpen(t, e.Open)
			} else if e.Open.Path != childDisk {
				t.Errorf("child's open: %+v", *e.Open)
			}
		}
		kinds = append(kinds, e.Kind)
	}
	want := []event.Kind{event.Exec, event.Open, event.Open, event.Fork, event.Exec, event.Open, event.Exit, event.Exit}
	if !slices.Equal(kinds, want) {
		t.Errorf("events of the guest: %v, want %v", kinds, want)
	}
	if child == 0 {
		t.Error("child was not seen")
	}
}

func checkExec(t *testing.T, x *event.ExecInfo, guest *exec.Cmd) {
	t.Helper()
	if x.Filename != guest.Path {
		t.Errorf("executed %q, want %q", x.Filename, guest.Path)
	}
	bytes := 0
	for _, a := range guest.Args {
		bytes += len(a) + 1
	}
	if x.ArgsBytes != bytes {
		t.Errorf("%d bytes of arguments, want %d", x.ArgsBytes, bytes)
	}
	if !x.Truncated && !slices.Equal(x.Args, guest.Args) {
		t.Errorf("%d arguments, want %d", len(x.Args), len(guest.Args))
	}
	// Beyond the record the rest comes from /proc, if the guest still lives.
	if x.Truncated && (bytes <= 128<<10 || !slices.Equal(x.Args, guest.Args[:len(x.Args)])) {
		t.Errorf("%d of %d arguments, truncated", len(x.Args), len(guest.Args))
	}
}

func checkOpen(t *testing.T, o *event.OpenInfo) {
	t.Helper()
	switch o.Path {
	case MissingDisk:
		if o.Errno != int(unix.ENOENT) {
			t.Errorf("open: %+v", *o)
		}
	case imageName:
		if o.Errno != 0 || o.Type != "file" || o.Size != imageSize || o.Flags&unix.O_ACCMODE != unix.O_RDWR {
			t.Errorf("open: %+v", *o)
		}
	default:
		t.Errorf("open: %+v", *o)
	}
}

// Counter is a Runner that counts what it loses.
type Counter interface {
	Runner
	Losses() map[string]uint64
}

// CheckNothingIsLost has more threads than processors open, and b see all of it,
// whatever kernel this is.
func CheckNothingIsLost(t *testing.T, b Counter) {
	t.Helper()
	const threads, opens = 24, 100
	path := func(i int) string { return fmt.Sprintf("/dev/bootrace-test/thread-%d", i) }
	events := Trace(t, b, func() {
		var all sync.WaitGroup
		for i := range threads {
			all.Go(func() {
				runtime.LockOSThread()
				for range opens {
					_ = TryOpen(path(i), unix.O_RDONLY)
				}
			})
		}
		all.Wait()
	})
	for i := range threads {
		if n := len(OpensOf(events, path(i))); n != opens {
			t.Errorf("thread %d: %d of %d opens were seen", i, n, opens)
		}
	}
	if lost := b.Losses(); len(lost) > 0 {
		t.Errorf("lost: %v", lost)
	}
}

// MakeLinks makes links in a folder as udev does, the second one under a temporary name.
func MakeLinks(dir string) error {
	return errors.Join(
		os.Symlink("../dm-0", dir+"/direct"),
		os.Symlink("../dm-1", dir+"/.#temporary"),
		os.Rename(dir+"/.#temporary", dir+"/renamed"),
	)
}
