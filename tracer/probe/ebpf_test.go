package probe

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/event"
)

// openTest opens the backend, or skips where no kernel could do it: without
// root. Everything else that keeps it from working is a failure, except a
// kernel that was built without BTF.
func openTest(t testing.TB, opts Options) *eBPF {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root to load eBPF programs")
	}
	b, err := OpenEBPF(context.Background(), opts)
	if errors.Is(err, ErrNoBTF) {
		t.Skip("NOT TESTED:", err)
	}
	var v *ebpf.VerifierError
	if errors.As(err, &v) {
		t.Fatalf("%+v", v)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b.(*eBPF)
}

// trace returns what b sees while act runs.
func trace(t testing.TB, b Backend, act func()) []event.Event {
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

func openErrno(path string, flags int) error {
	fd, err := unix.Open(path, flags, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func opensOf(events []event.Event, path string) []event.Event {
	var found []event.Event
	for _, e := range events {
		if e.Kind == event.Open && e.Open.Path == path {
			found = append(found, e)
		}
	}
	return found
}

func TestFailingOpenUnderDev(t *testing.T) {
	b := openTest(t, Options{})
	const path = "/dev/bootrace-test/nothing-here"
	const short = "/dev/\x01"
	elsewhere := filepath.Join(t.TempDir(), "nothing-here")
	var before, after event.Time
	events := trace(t, b, func() {
		before = event.Now()
		if err := openErrno(path, unix.O_RDWR|unix.O_CLOEXEC); !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
		after = event.Now()
		if err := openErrno(short, unix.O_RDONLY); !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
		if err := openErrno(elsewhere, unix.O_RDONLY); !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
		if err := openErrno("/dev/null", unix.O_RDONLY); err != nil {
			t.Error(err)
		}
	})
	found := opensOf(events, path)
	if len(found) != 1 {
		t.Fatalf("%d events, want 1", len(found))
	}
	if len(opensOf(events, short)) != 1 {
		t.Errorf("%q was not seen", short)
	}
	e := found[0]
	if e.From < before || e.From > e.At || e.At > after {
		t.Errorf("window [%d, %d] is not in [%d, %d]", e.From, e.At, before, after)
	}
	if e.Open.Errno != int(unix.ENOENT) || e.Open.Flags&unix.O_ACCMODE != unix.O_RDWR || e.Open.Size != -1 || e.Open.Type != "" {
		t.Errorf("open: %+v", *e.Open)
	}
	if e.Proc.PID != os.Getpid() || e.Proc.PPID != os.Getppid() || e.Proc.Comm == "" || e.Src != "ebpf" {
		t.Errorf("process: %+v", *e.Proc)
	}
	for _, other := range []string{elsewhere, "/dev/null"} {
		if n := len(opensOf(events, other)); n > 0 {
			t.Errorf("%d events about %s", n, other)
		}
	}
}

// fakeGuest copies this test binary to a directory of its own, under a name.
func fakeGuest(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, name)
	if err := copyFile(program, "/proc/self/exe", 0o755); err != nil {
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

// staying has a fake guest and its child live for a while, as guests do: without
// eBPF their arguments are read a moment after their exec.
func staying(guest *exec.Cmd) *exec.Cmd {
	guest.Env = append(guest.Env, stayEnv+"=500ms")
	return guest
}

func copyFile(to, from string, mode os.FileMode) error {
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

// manyArgs are n bytes of arguments of real length, all different.
func manyArgs(n int) []string {
	var args []string
	for i := 0; n > 0; i++ {
		arg := strings.Repeat(string(rune('a'+i%26)), min(n, 100+i%900))
		args = append(args, arg)
		n -= len(arg) + 1
	}
	return args
}

func TestGuestLife(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"small", []string{"-drive", "file=/dev/vg/lv,if=none", ""}},
		{"medium", manyArgs(10 << 10)},
		{"large", manyArgs(100 << 10)},
		{"beyond the record", manyArgs(200 << 10)},
	} {
		for _, kernel := range kernelsToBe {
			t.Run(tt.name+kernel.name, func(t *testing.T) {
				b := openTest(t, Options{preempts: kernel.preempts})
				guest := fakeGuest(t, "qemu-system-x86_64", tt.args...)
				events := trace(t, b, func() { _ = guest.Run() })
				checkGuest(t, events, guest)
			})
		}
	}
}

func checkGuest(t *testing.T, events []event.Event, guest *exec.Cmd) {
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
			if own && *e.Exit != (event.ExitInfo{Status: guestStatus}) {
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
	case missingDisk:
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

func TestOthersAreNoGuests(t *testing.T) {
	b := openTest(t, Options{})
	other := fakeGuest(t, "qemu-img")
	events := trace(t, b, func() { _ = other.Run() })
	for _, e := range events {
		if e.Proc != nil && e.Proc.PID == other.Process.Pid && (e.Kind != event.Open || e.Open.Path != missingDisk) {
			t.Errorf("unexpected %s: %+v %+v", e.Kind, *e.Proc, e.Open)
		}
	}
	if len(opensOf(events, missingDisk)) == 0 {
		t.Error("failing open under /dev was not seen")
	}
}

func TestAddGuest(t *testing.T) {
	b := openTest(t, Options{})
	path := filepath.Join(t.TempDir(), "nothing-here")
	events := trace(t, b, func() {
		if err := b.AddGuest(os.Getpid()); err != nil {
			t.Fatal(err)
		}
		_ = openErrno(path, unix.O_RDONLY)
	})
	if n := len(opensOf(events, path)); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestLinks(t *testing.T) {
	runtime.LockOSThread() // who makes a link renames it
	defer runtime.UnlockOSThread()
	dir, err := os.MkdirTemp("/dev", "bootrace-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	b := openTest(t, Options{})
	events := trace(t, b, func() {
		err := errors.Join(
			os.Symlink("../dm-0", dir+"/direct"),
			os.Symlink("../dm-1", dir+"/.#temporary"),
			os.Rename(dir+"/.#temporary", dir+"/renamed"),
		)
		if err != nil {
			t.Error(err)
		}
		if err := os.Symlink("../dm-2", dir+"/direct"); err == nil {
			t.Error("made the same link twice")
		}
	})
	got := map[string]string{}
	for _, e := range events {
		if e.Kind == event.Link {
			got[strings.TrimPrefix(e.Open.Path, dir+"/")] = e.Open.Target
		}
	}
	for path, target := range map[string]string{"direct": "../dm-0", ".#temporary": "", "renamed": "../dm-1"} {
		if got[path] != target {
			t.Errorf("%s leads to %q, want %q", path, got[path], target)
		}
	}
}

func TestLossesAreCounted(t *testing.T) {
	b := openTest(t, Options{RingBytes: os.Getpagesize()})
	guest := fakeGuest(t, "qemu-system-x86_64", manyArgs(100<<10)...)
	events := trace(t, b, func() { _ = guest.Run() })
	counted := b.Losses()["exec"]
	if counted == 0 {
		t.Error("an exec that has no room was not counted")
	}
	var reported uint64
	for _, e := range events {
		if e.Kind == event.Loss && e.Loss.What == "exec" {
			reported += e.Loss.Count
		}
	}
	if reported != counted {
		t.Errorf("%d reported, %d counted", reported, counted)
	}
}

// TestLossesWhileLoading: losses are counted at any time, also while the program
// for device-mapper is loaded. It is the race detector (-race) that judges.
func TestLossesWhileLoading(t *testing.T) {
	b := openTest(t, Options{})
	var loading sync.WaitGroup
	loading.Go(func() {
		for range 20 { // as DeviceMapperLoaded does, which needs dm_mod
			b.mu.Lock()
			_, err := b.programs.load(bpf.ProbesProgLive)
			err = errors.Join(err, b.programs.drop(bpf.ProbesProgLive))
			b.mu.Unlock()
			if err != nil {
				t.Error(err)
			}
		}
	})
	for range 100 {
		if _, err := b.countLosses(); err != nil {
			t.Error(err)
		}
	}
	loading.Wait()
}

// TestDeviceMapperCannotBeProbed: why there is no exact instant is in the record,
// also where that is known only when dm_mod is loaded.
func TestDeviceMapperCannotBeProbed(t *testing.T) {
	if exists("/sys/module/dm_mod") {
		t.Skip("NOT TESTED: dm_mod is loaded")
	}
	b := openTest(t, Options{})
	b.mu.Lock()
	i := slices.IndexFunc(b.abilities, func(a event.Ability) bool { return a.Name == AbilityDMLiveInstant })
	b.abilities[i].Why = "as it was"
	b.mu.Unlock()
	events := trace(t, b, func() {
		for range 2 { // the second time nothing is new
			if err := b.DeviceMapperLoaded(); err == nil {
				t.Error("it is attached to what is not there")
			}
		}
	})
	told := slices.DeleteFunc(events, func(e event.Event) bool { return e.Kind != event.Source || e.Source.State != "upgraded" })
	if len(told) != 1 || told[0].Source.Abilities[i].OK || told[0].Source.Abilities[i].Why != "dm_mod is not loaded yet" {
		t.Errorf("told: %+v", told)
	}
}

// TestNothingIsLeftInTheRing: what happened before the context ended is
// delivered, however much it is.
func TestNothingIsLeftInTheRing(t *testing.T) {
	b := openTest(t, Options{})
	const n = 5000
	ctx, cancel := context.WithCancel(context.Background())
	for range n {
		_ = openErrno("/dev/bootrace-test/drain", unix.O_RDONLY)
	}
	cancel()
	var events []event.Event
	if err := b.Run(ctx, func(e event.Event) { events = append(events, e) }); err != nil {
		t.Fatal(err)
	}
	if got := len(opensOf(events, "/dev/bootrace-test/drain")); got != n {
		t.Errorf("%d of %d events", got, n)
	}
	first, last := events[0], events[len(events)-1]
	if first.Kind != event.Source || first.Source.State != "attached" || last.Kind != event.Source || last.Source.State != "ended" {
		t.Errorf("events begin with %+v and end with %+v", first.Source, last.Source)
	}
}

func TestAbilities(t *testing.T) {
	b := openTest(t, Options{})
	for _, a := range b.Info().Abilities {
		t.Logf("%+v", a)
		if !a.OK && a.Name != AbilityDMLiveInstant {
			t.Errorf("%s: %s", a.Name, a.Why)
		}
		if !a.OK && a.Why == "" {
			t.Errorf("%s: no reason", a.Name)
		}
	}
}

func TestNoDescriptorLeaks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root to load eBPF programs")
	}
	openTest(t, Options{}).Close() // what the library keeps for good
	before := descriptors(t)
	openTest(t, Options{}).Close()
	if _, err := OpenEBPF(context.Background(), Options{RingBytes: 5}); err == nil {
		t.Error("a ring of 5 bytes was accepted")
	}
	if _, err := OpenEBPF(context.Background(), Options{Guests: []string{"a/b"}}); err == nil {
		t.Error("a path was accepted as a name")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := OpenEBPF(ended, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context ended: %v", err)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}
