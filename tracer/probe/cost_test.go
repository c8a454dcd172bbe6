package probe

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/probe/probetest"
)

// costEnv has TestCost run. The machine's clock has to count instructions then, as the
// lab's does when it is asked to.
const costEnv = "BOOTRACE_TEST_COST"

// costs are acts that are nothing to us, and what each may cost with probes, as a
// multiple of what it costs without.
var costs = []struct {
	name          string
	rounds        int
	ebpf, tracefs float64
	act           func(c *costly)
}{
	{"ioctl", 10000, 1.005, 1.005, func(c *costly) {
		_, _, _ = unix.RawSyscall(unix.SYS_IOCTL, uintptr(c.null), unix.TIOCINQ, uintptr(0))
	}},
	{"getppid", 10000, 1.005, 1.005, func(*costly) { _, _, _ = unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0) }},
	{"open and close", 5000, 1.15, 3, func(c *costly) { _ = probetest.TryOpen(c.file, unix.O_RDONLY) }},
	{"fork and exec", 200, 1.05, 3, func(c *costly) {
		if pid, err := syscall.ForkExec(c.program, []string{c.program}, nil); err == nil {
			_, _ = unix.Wait4(pid, nil, 0, nil)
		}
	}},
}

// costly is what the acts need.
type costly struct {
	null          int
	file, program string
}

func newCostly(t *testing.T) *costly {
	t.Helper()
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(null) })
	c := &costly{null: null, file: filepath.Join(t.TempDir(), "file")}
	if err := os.WriteFile(c.file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if c.program, err = exec.LookPath("true"); err != nil {
		t.Fatal(err)
	}
	return c
}

// measure returns what one round costs: all included that happens meanwhile, and
// without what interrupts it now and then.
func (c *costly) measure(rounds int, act func(*costly)) (mean, least float64) {
	const parts = 100
	n := rounds / parts
	begin := time.Now()
	for range parts {
		from := time.Now()
		for range n {
			act(c)
		}
		if took := float64(time.Since(from)) / float64(n); least == 0 || took < least {
			least = took
		}
	}
	return float64(time.Since(begin)) / float64(n*parts), least
}

// TestCost: what is nothing to us costs next to nothing.
func TestCost(t *testing.T) {
	if os.Getenv(costEnv) == "" {
		t.Skip("NOT RUN: the clock has to count instructions; `make bench-probes` runs it")
	}
	c := newCostly(t)
	type price struct{ mean, least float64 }
	measure := func() (prices []price) {
		for _, a := range costs {
			mean, least := c.measure(a.rounds, a.act)
			prices = append(prices, price{mean, least})
		}
		return prices
	}
	without := measure()
	for _, way := range []Choice{EBPF, Tracefs} {
		b, err := Open(t.Context(), way, Options{})
		if err != nil {
			t.Error(err)
			continue
		}
		var with []price
		probetest.Trace(t, b, func() {
			time.Sleep(2 * time.Second) // what probes take over from goes meanwhile
			with = measure()
		})
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		for i, a := range costs {
			limit := a.ebpf
			if way == Tracefs {
				limit = a.tracefs
			}
			// What costs nothing is told from little by the rounds that nothing interrupts.
			before, after := without[i].mean, with[i].mean
			if limit < 1.01 {
				before, after = without[i].least, with[i].least
			}
			t.Logf("COST %-8s %-16s %9.0f without %9.0f with: %.3f", way, a.name, before, after, after/before)
			if after > before*limit {
				t.Errorf("%s: %s costs %.3f of what it did, more than %.3f", way, a.name, after/before, limit)
			}
		}
	}
}
