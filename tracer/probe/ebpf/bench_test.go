package ebpf

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/probetest"
)

// measure reports what the programs cost per call that act makes, by the
// kernel's own statistics. They count all processes: run on a quiet machine.
func measure(b *testing.B, programs []*ebpf.Program, act func()) {
	b.Helper()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	for b.Loop() {
		act()
	}
	b.StopTimer()
	mean := 0.0
	for _, p := range programs {
		s, err := p.Stats()
		if err != nil {
			b.Fatal(err)
		}
		if s.RunCount > 0 {
			mean += float64(s.Runtime.Nanoseconds()) / float64(s.RunCount)
		}
	}
	b.ReportMetric(mean, "bpf-ns/call")
}

func BenchmarkOpen(b *testing.B) {
	file := filepath.Join(b.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	for _, bb := range []struct{ name, path string }{
		{"filtered", file},
		{"filtered in dev", "/dev/null"},
		{"traced", "/dev/bootrace-test/missing"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p := openTest(b, backend.Options{})
			measure(b, p.of(bpf.KindOpen), func() {
				_ = probetest.TryOpen(bb.path, unix.O_RDONLY)
			})
		})
	}
}

func BenchmarkIoctl(b *testing.B) {
	p := openTest(b, backend.Options{})
	measure(b, p.of(bpf.KindDM), func() {
		_, _ = unix.IoctlGetInt(0, unix.TIOCINQ)
	})
}

func BenchmarkExec(b *testing.B) {
	for _, bb := range []struct{ name, program string }{
		{"filtered", "true"},
		{"traced", "qemu-system-x86_64"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p := openTest(b, backend.Options{})
			truth, err := exec.LookPath("true")
			if err != nil {
				b.Fatal(err)
			}
			program := filepath.Join(b.TempDir(), bb.program)
			if err := probetest.CopyFile(program, truth, 0o755); err != nil {
				b.Fatal(err)
			}
			args := probetest.ManyArgs(4000)
			measure(b, p.of(bpf.KindExec), func() {
				if err := exec.Command(program, args...).Run(); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkThroughput is one failing open under /dev, from the system call to
// the event.
func BenchmarkThroughput(b *testing.B) {
	p := openTest(b, backend.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var n int
	done := make(chan error, 1)
	go func() {
		done <- p.Run(ctx, func(e event.Event) {
			if e.Kind == event.Open {
				n++
			}
		})
	}()
	b.ReportAllocs()
	for b.Loop() {
		_ = probetest.TryOpen("/dev/bootrace-test/missing", unix.O_RDONLY)
		runtime.Gosched()
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(p.Losses()["open"]), "lost")
}

func BenchmarkAttach(b *testing.B) {
	for b.Loop() {
		p := openTest(b, backend.Options{})
		b.StopTimer()
		p.Close()
		b.StartTimer()
	}
}
