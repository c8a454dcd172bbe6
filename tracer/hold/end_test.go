package hold

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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
		Open: OpenFanotify, Watch: newDisks().watch, Record: func(event.Event) {}, Config: cfg, Log: slog.New(slog.DiscardHandler),
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

// The process that holds is stopped, and then killed, with 200 starts held. None
// goes on before its end, and all of them after it.
func TestKill(t *testing.T) {
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
	list := make([]*launched, 200)
	for i := range list {
		list[i] = h.guest(fmt.Sprint("g", i))
	}
	for _, l := range list {
		for !l.held() {
			l.waits()
		}
	}
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
		Open: OpenFanotify, Watch: newDisks().watch, Record: func(event.Event) {}, Config: cfg, Log: slog.New(slog.DiscardHandler),
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
