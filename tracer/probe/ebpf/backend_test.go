package ebpf

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/probetest"
)

func TestMain(m *testing.M) { probetest.Main(m) }

// openTest opens the backend, or skips where no kernel could do it: without
// root. Everything else that keeps it from working is a failure, except a
// kernel that was built without BTF.
func openTest(t testing.TB, opts backend.Options) *Backend {
	t.Helper()
	return openTestAs(t, opts, asIf{})
}

func openTestAs(t testing.TB, opts backend.Options, as asIf) *Backend {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root to load eBPF programs")
	}
	b, err := openAs(context.Background(), opts, as)
	if errors.Is(err, backend.ErrNoBTF) {
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
	return b
}

func TestFailingOpenUnderDev(t *testing.T) {
	b := openTest(t, backend.Options{})
	const path = "/dev/bootrace-test/nothing-here"
	const short = "/dev/\x01"
	elsewhere := filepath.Join(t.TempDir(), "nothing-here")
	var before, after event.Time
	events := probetest.Trace(t, b, func() {
		before = event.Now()
		if err := probetest.TryOpen(path, unix.O_RDWR|unix.O_CLOEXEC); !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
		after = event.Now()
		if err := probetest.TryOpen(short, unix.O_RDONLY); !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
		if err := probetest.TryOpen(elsewhere, unix.O_RDONLY); !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
		if err := probetest.TryOpen("/dev/null", unix.O_RDONLY); err != nil {
			t.Error(err)
		}
	})
	found := probetest.OpensOf(events, path)
	if len(found) != 1 {
		t.Fatalf("%d events, want 1", len(found))
	}
	if len(probetest.OpensOf(events, short)) != 1 {
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
		if n := len(probetest.OpensOf(events, other)); n > 0 {
			t.Errorf("%d events about %s", n, other)
		}
	}
}

func TestGuestLife(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"small", []string{"-drive", "file=/dev/vg/lv,if=none", ""}},
		{"medium", probetest.ManyArgs(10 << 10)},
		{"large", probetest.ManyArgs(100 << 10)},
		{"beyond the record", probetest.ManyArgs(200 << 10)},
	} {
		for _, kernel := range kernelsToBe {
			t.Run(tt.name+kernel.name, func(t *testing.T) {
				b := openTestAs(t, backend.Options{}, asIf{preempts: kernel.preempts})
				guest := probetest.Guest(t, "qemu-system-x86_64", tt.args...)
				events := probetest.Trace(t, b, func() { _ = guest.Run() })
				probetest.CheckGuest(t, events, guest)
			})
		}
	}
}

func TestOthersAreNoGuests(t *testing.T) {
	b := openTest(t, backend.Options{})
	other := probetest.Guest(t, "qemu-img")
	events := probetest.Trace(t, b, func() { _ = other.Run() })
	for _, e := range events {
		if e.Proc != nil && e.Proc.PID == other.Process.Pid && (e.Kind != event.Open || e.Open.Path != probetest.MissingDisk) {
			t.Errorf("unexpected %s: %+v %+v", e.Kind, *e.Proc, e.Open)
		}
	}
	if len(probetest.OpensOf(events, probetest.MissingDisk)) == 0 {
		t.Error("failing open under /dev was not seen")
	}
}

func TestAddGuest(t *testing.T) {
	b := openTest(t, backend.Options{})
	path := filepath.Join(t.TempDir(), "nothing-here")
	events := probetest.Trace(t, b, func() {
		if err := b.AddGuest(os.Getpid()); err != nil {
			t.Fatal(err)
		}
		_ = probetest.TryOpen(path, unix.O_RDONLY)
	})
	if n := len(probetest.OpensOf(events, path)); n != 1 {
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
	b := openTest(t, backend.Options{})
	events := probetest.Trace(t, b, func() {
		if err := probetest.MakeLinks(dir); err != nil {
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
	b := openTest(t, backend.Options{RingBytes: os.Getpagesize()})
	guest := probetest.Guest(t, "qemu-system-x86_64", probetest.ManyArgs(100<<10)...)
	events := probetest.Trace(t, b, func() { _ = guest.Run() })
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
	b := openTest(t, backend.Options{})
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
	if devmap.ModuleLoaded() {
		t.Skip("NOT TESTED: dm_mod is loaded")
	}
	b := openTest(t, backend.Options{})
	b.mu.Lock()
	b.status.Ability(backend.AbilityDMLiveInstant).Why = "as it was"
	b.mu.Unlock()
	events := probetest.Trace(t, b, func() {
		for range 2 { // the second time nothing is new
			if err := b.DeviceMapperLoaded(); err == nil {
				t.Error("it is attached to what is not there")
			}
		}
	})
	told := slices.DeleteFunc(events, func(e event.Event) bool { return e.Kind != event.Source || e.Source.State != "upgraded" })
	if len(told) != 1 || !slices.Contains(told[0].Source.Abilities, event.Ability{Name: backend.AbilityDMLiveInstant, Why: "dm_mod is not loaded yet"}) {
		t.Errorf("told: %+v", told)
	}
}

// TestNothingIsLeftInTheRing: what happened before the context ended is
// delivered, however much it is.
func TestNothingIsLeftInTheRing(t *testing.T) {
	b := openTest(t, backend.Options{})
	const n = 5000
	ctx, cancel := context.WithCancel(context.Background())
	for range n {
		_ = probetest.TryOpen("/dev/bootrace-test/drain", unix.O_RDONLY)
	}
	cancel()
	var events []event.Event
	if err := b.Run(ctx, func(e event.Event) { events = append(events, e) }); err != nil {
		t.Fatal(err)
	}
	if got := len(probetest.OpensOf(events, "/dev/bootrace-test/drain")); got != n {
		t.Errorf("%d of %d events", got, n)
	}
	first, last := events[0], events[len(events)-1]
	if first.Kind != event.Source || first.Source.State != "attached" || last.Kind != event.Source || last.Source.State != "ended" {
		t.Errorf("events begin with %+v and end with %+v", first.Source, last.Source)
	}
}

func TestAbilities(t *testing.T) {
	b := openTest(t, backend.Options{})
	for _, a := range b.Info().Abilities {
		t.Logf("%+v", a)
		if !a.OK && a.Name != backend.AbilityDMLiveInstant {
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
	openTest(t, backend.Options{}).Close() // what the library keeps for good
	before := descriptors(t)
	openTest(t, backend.Options{}).Close()
	if _, err := Open(context.Background(), backend.Options{RingBytes: 5}); err == nil {
		t.Error("a ring of 5 bytes was accepted")
	}
	if _, err := Open(context.Background(), backend.Options{Guests: []string{"a/b"}}); err == nil {
		t.Error("a path was accepted as a name")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ended, backend.Options{}); !errors.Is(err, context.Canceled) {
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
