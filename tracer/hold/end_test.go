package hold

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
)

// envHolder makes this test a process that holds, for one that ends it.
const envHolder = "BOOTRACE_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envHolder); dir != "" {
		if err := holdForever(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func holdForever(dir string) error {
	cfg := config.Default().Enforce
	cfg.Binaries = []string{filepath.Join(dir, "qemu-system-*")}
	h, err := Open(context.Background(), Options{
		attempts: allAttempts[:1], Watch: newDisks().watch, Record: func(event.Event) {}, Config: cfg, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return h.Run(context.Background())
}

// held reports whether a start waits in the kernel.
func (l *launched) held() bool {
	where, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", l.Process.Pid))
	return err == nil && strings.Contains(string(where), "fanotify")
}

// holdElsewhere has another process hold the starts of a program.
func holdElsewhere(t *testing.T) (*host, *exec.Cmd) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may hold starts")
	}
	h := &host{t: t, program: filepath.Join(t.TempDir(), "qemu-system-x86_64")}
	unpack(t, h.program)
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), envHolder+"="+filepath.Dir(h.program))
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Skip("NOT RUN: ", line)
	}
	return h, holder
}

// heldGuests returns n guests whose starts wait in the kernel.
func (h *host) heldGuests(n int) []*launched {
	h.t.Helper()
	list := make([]*launched, n)
	for i := range list {
		list[i] = h.guest(fmt.Sprint("g", i))
	}
	for _, l := range list {
		for !l.held() {
			l.waits()
		}
	}
	return list
}

// The process that holds is stopped, and then killed, with 200 starts held. None
// goes on before its end, and all of them after it.
func TestKill(t *testing.T) {
	h, holder := holdElsewhere(t)
	list := h.heldGuests(200)
	if err := holder.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	list[0].waits()
	begin := time.Now()
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if status := l.ends(); status != 0 {
			t.Errorf("%q ended with %d", l.Args, status)
		}
	}
	t.Logf("200 held starts went on and ended within %v of the kill", time.Since(begin).Round(time.Millisecond))
}

// The process that holds is killed, and one of its threads does not go, as one
// that waits for a disk that is dead. Starts go on all the same.
func TestKillStuck(t *testing.T) {
	h, holder := holdElsewhere(t)
	list := h.heldGuests(5)
	stuck := stopAtExit(t, holder.Process.Pid)
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-stuck
	for _, l := range list {
		if status := l.ends(); status != 0 {
			t.Errorf("%q ended with %d", l.Args, status)
		}
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", holder.Process.Pid)); err != nil {
		t.Errorf("the process is gone, so nothing was shown: %v", err)
	}
}

// stopAtExit has thread tid stop at its exit, before it closes anything, until
// the test ends. The channel is closed when it has.
func stopAtExit(t *testing.T, tid int) <-chan struct{} {
	t.Helper()
	traced, over := make(chan error), make(chan struct{})
	stuck, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // one thread traces another
		defer runtime.UnlockOSThread()
		var status syscall.WaitStatus
		err := syscall.PtraceAttach(tid)
		if err == nil {
			_, err = syscall.Wait4(tid, &status, syscall.WALL, nil)
		}
		if err == nil {
			err = syscall.PtraceSetOptions(tid, unix.PTRACE_O_TRACEEXIT)
		}
		if err == nil {
			err = syscall.PtraceCont(tid, 0)
		}
		traced <- err
		if err != nil {
			return
		}
		if _, err := syscall.Wait4(tid, &status, syscall.WALL, nil); err != nil || status.TrapCause() != unix.PTRACE_EVENT_EXIT {
			t.Errorf("thread %d does not stop at its exit: %v, %#x", tid, err, status)
		}
		close(stuck)
		<-over
		_ = syscall.PtraceDetach(tid)
	}()
	if err := <-traced; err != nil {
		t.Skip("NOT RUN: no thread can be stopped: ", err)
	}
	t.Cleanup(func() { close(over); <-done })
	return stuck
}

// The thread that has the group has nothing else of this process, and no other
// thread has the group.
func TestThread(t *testing.T) {
	h := newHost(t, nil)
	threads, err := filepath.Glob("/proc/self/task/*/fd")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, dir := range threads {
		if what := descriptors(dir); slices.Contains(what, "anon_inode:[fanotify]") {
			found++
			for _, one := range what {
				switch one {
				case "anon_inode:[fanotify]", "anon_inode:[eventpoll]", "anon_inode:[eventfd]":
				default:
					t.Errorf("%s has %s, too", dir, one)
				}
			}
		}
	}
	if found != 1 {
		t.Errorf("%d threads have the group", found)
	}
	for range 20 { // Go's runtime works on that thread, too
		l := h.guest("g")
		for !l.held() {
			l.waits()
		}
		runtime.GC()
		h.disks.set("/dev/vg0/g", true)
		if status := l.ends(); status != 0 {
			t.Errorf("a guest ended with %d", status)
		}
		h.disks.set("/dev/vg0/g", false)
	}
}

// descriptors are what the descriptors in a folder of /proc are, but for the
// standard ones.
func descriptors(dir string) []string {
	list, _ := os.ReadDir(dir)
	var what []string
	for _, entry := range list {
		if n, err := strconv.Atoi(entry.Name()); err != nil || n <= 2 {
			continue
		}
		if target, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil {
			what = append(what, target)
		}
	}
	return what
}

// What a start costs: of a program that nobody guards, and of one that is looked
// at and goes on.
func BenchmarkStart(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("NOT RUN: only root may hold starts")
	}
	run := func(b *testing.B, program string) {
		b.Helper()
		for b.Loop() {
			if err := exec.Command("/bin/sh", "-c", `"$0" -machine none -qmp stdio; true`, program).Run(); err != nil {
				b.Fatal(err)
			}
		}
	}
	dir := b.TempDir()
	for _, name := range []string{"qemu-system-x86_64", "other"} {
		data, err := os.ReadFile("/bin/true")
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("trace mode", func(b *testing.B) { run(b, filepath.Join(dir, "qemu-system-x86_64")) })
	cfg := config.Default().Enforce
	cfg.Binaries = []string{filepath.Join(dir, "qemu-system-*")}
	h, err := Open(b.Context(), Options{
		attempts: allAttempts[:1], Watch: newDisks().watch, Record: func(event.Event) {}, Config: cfg, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Skip("NOT RUN: ", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	b.Run("enforce mode, diskless", func(b *testing.B) { run(b, filepath.Join(dir, "qemu-system-x86_64")) })
	b.Run("enforce mode, unrelated", func(b *testing.B) { run(b, filepath.Join(dir, "other")) })
	stop()
	<-done
	b.Logf("the slowest of %d took %v", h.counts.passed.Load(), time.Duration(h.counts.slowest.Load()))
}

// BenchmarkHeld is what 1,000 held starts cost while nothing happens, in thousandths
// of a processor: with their deaths told, and looked for.
func BenchmarkHeld(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("NOT RUN: only root may hold starts")
	}
	const starts, watched = 1000, 5 * time.Second
	program := filepath.Join(b.TempDir(), "qemu-system-x86_64")
	data, err := os.ReadFile("/bin/true")
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(program, data, 0o755); err != nil {
		b.Fatal(err)
	}
	for _, told := range []bool{true, false} {
		b.Run(fmt.Sprintf("told=%t", told), func(b *testing.B) {
			cfg := config.Default().Enforce
			cfg.Binaries, cfg.Deadline = []string{program}, 10*time.Minute
			h, err := Open(b.Context(), Options{
				attempts: allAttempts[:1], Watch: newDisks().watch, Record: func(event.Event) {}, Config: cfg, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				b.Skip("NOT RUN: ", err)
			}
			if !told {
				h.deaths.close()
				h.deaths.epoll = nil
			}
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- h.Run(ctx) }()
			// A shell starts them: a process of ours would wait in each exec.
			shell := exec.Command("/bin/sh", "-c", fmt.Sprintf(`for i in $(seq %d); do "$0" -name g$i -drive file=/dev/vg0/lv$i,if=none & done; wait`, starts), program)
			if err := shell.Start(); err != nil {
				b.Fatal(err)
			}
			for len(h.Status().Holds) < starts {
				time.Sleep(100 * time.Millisecond)
			}
			for b.Loop() {
				var before, after unix.Rusage
				for _, u := range []*unix.Rusage{&before, &after} {
					if err := unix.Getrusage(unix.RUSAGE_SELF, u); err != nil {
						b.Fatal(err)
					}
					if u == &before {
						time.Sleep(watched)
					}
				}
				took := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
				b.ReportMetric(1000*float64(took)/float64(watched), "cpu-‰")
			}
			stop()
			<-done
			_ = shell.Wait()
		})
	}
}
