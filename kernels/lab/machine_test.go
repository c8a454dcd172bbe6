package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeMachine is a machine whose QEMU is a shell script. Its standard
// descriptors are those that QEMU gets.
func fakeMachine(t *testing.T, boots int, qemu string) *Machine {
	t.Helper()
	bin := t.TempDir()
	write(t, bin, map[string]string{
		"qemu-system-x86_64": script + qemu,
		"qemu-img":           script,
	})
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	scenario := t.TempDir()
	for n := 1; n <= boots; n++ {
		write(t, scenario, map[string]string{scriptName(n): script})
	}
	img := &Image{entry: &entry{dir: t.TempDir()}, cache: cache{t.TempDir()}}
	m, err := img.NewMachine(Options{Scenario: scenario, Out: filepath.Join(t.TempDir(), "new", "out")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestMachine(t *testing.T) {
	m := fakeMachine(t, 2, `
echo 'hello, console' >&3
printf 'up 1 12.5 running\r\n' >&4
echo 'done 1 0' >&4
echo 'up 2 13 degraded' >&4
echo 'done 2 7' >&4
`)
	boots, err := play(t.Context(), m, 2, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	want := []Boot{{1, 12500 * time.Millisecond, "running", 0}, {2, 13 * time.Second, "degraded", 7}}
	if len(boots) != 2 || boots[0] != want[0] || boots[1] != want[1] {
		t.Errorf("got %+v, want %+v", boots, want)
	}
	if status := (Result{Boots: boots}).Status(); status != 7 {
		t.Errorf("status %d, want 7", status)
	}
	console, err := os.ReadFile(m.ConsoleLog())
	if err != nil || !strings.HasSuffix(string(console), " hello, console\n") {
		t.Errorf("console %q, %v", console, err)
	}
}

// Where a shutdown is not looked at, nobody waits for it.
func TestPowerIsCutAtTheEnd(t *testing.T) {
	m := fakeMachine(t, 2, `
echo 'up 1 12.5 running' >&4
echo 'done 1 0' >&4
echo 'up 2 13 running' >&4
echo 'done 2 7' >&4
exec sleep 600
`)
	m.cut = true
	boots, err := play(t.Context(), m, 2, time.Minute)
	if err != nil || len(boots) != 2 || boots[1].Status != 7 {
		t.Errorf("%+v, %v", boots, err)
	}
}

// A scenario can be played up to a boot: the machine finds no script of a later one.
func TestSomeBoots(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"boot1.sh": script, "boot2.sh": script, "boot3.sh": script, "boot4.sh": script})
	for boots, want := range map[int]int{0: 4, 2: 2} {
		s, err := Options{Scenario: dir, Boots: boots}.scenario()
		if err != nil {
			t.Fatal(err)
		}
		share := filepath.Join(t.TempDir(), "share")
		if err := s.copyTo(share); err != nil {
			t.Fatal(err)
		}
		if copied, _ := filepath.Glob(filepath.Join(share, "boot*.sh")); s.Boots != want || len(copied) != want {
			t.Errorf("%d boots are asked for: it has %d, and the machine finds %v", boots, s.Boots, copied)
		}
	}
	if _, err := (Options{Scenario: dir, Boots: 5}).scenario(); err == nil || !strings.Contains(err.Error(), "it has 4") {
		t.Errorf("five boots of four: %v", err)
	}
}

func TestMachineFailures(t *testing.T) {
	tests := map[string]struct {
		qemu string
		want []string
	}{
		"stops early":      {"echo 'up 1 1 running' >&4", []string{"stopped before boot1.sh", "console.log"}},
		"stops in boot 2":  {"echo 'up 1 1 running' >&4; echo 'done 1 0' >&4", []string{"stopped before boot2.sh"}},
		"does not start":   {"echo 'no such machine' >&2; exit 1", []string{"exit status 1", "no such machine"}},
		"panics":           {"echo 'Kernel panic - not syncing: oh' >&3; exec sleep 60", []string{"panicked", "console.log"}},
		"finds no root":    {"echo 'ALERT! Dropping to a shell!' >&3; exec sleep 60", []string{"found no root"}},
		"never ends":       {"exec sleep 60", []string{"not done after", "console.log"}},
		"says what is odd": {"echo 'up x' >&4; echo 'up 1' >&4; echo 'done a b' >&4; echo >&4", []string{"stopped before boot1.sh"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := fakeMachine(t, 2, tt.qemu)
			_, err := play(t.Context(), m, 2, 3*time.Second)
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to say %q", err, want)
				}
			}
		})
	}
}

func TestPowerCut(t *testing.T) {
	m := fakeMachine(t, 3, `
while [ $# -gt 0 ]; do case $1 in *id=lab-share,*) share=${1#*path=}; share=${share%%,*};; esac; shift; done
n=$(cat "$share/next")
echo "up $n 1 running" >&4
exec sleep 60
`)
	for _, n := range []int{1, 2, 2} {
		if err := m.Start(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if err := m.Await(t.Context(), Up, n); err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context(), 1); err == nil {
			t.Error("started a machine that runs")
		}
		if err := m.Kill(); err != nil {
			t.Error(err)
		}
	}
	if err := m.Await(t.Context(), Done, 2); err == nil {
		t.Error("a boot without power came to its end")
	}
	if got := m.Boots(); len(got) != 0 {
		t.Errorf("boots that ended: %+v", got)
	}
	if err := m.Start(t.Context(), 4); err == nil {
		t.Error("started with a script that does not exist")
	}
}

func TestMachineEndsWithItsContext(t *testing.T) {
	m := fakeMachine(t, 1, "echo \"up 1 $$ running\" >&4; exec sleep 60\n")
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := m.Start(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := m.Await(ctx, Up, 1); err != nil {
		t.Fatal(err)
	}
	reason := errors.New("enough")
	cancel(reason)
	if err := m.Wait(); !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
	pid := m.run.cmd.Process.Pid
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
}

func TestOutCannotBeShared(t *testing.T) {
	for _, out := range []string{"", filepath.Join(t.TempDir(), "a,b")} {
		img := &Image{entry: &entry{}, cache: cache{t.TempDir()}}
		if _, err := img.machine(Options{Out: out}, Scenario{}, newProgress(nil)); err == nil {
			t.Errorf("no error for the folder %q", out)
		}
	}
}

// A machine is foreign, too: whatever its serial line says is only ever a line.
func FuzzSignal(f *testing.F) {
	for _, line := range []string{"up 1 12.5 running", "done 1 0", "up -1 nan x", "done 9999999999999999999 1", "", "up 1 1e400 \x1b[2J"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		m := &Machine{progress: newProgress(nil), moved: make(chan struct{}), scenario: Scenario{Boots: 1}}
		m.signal(line, func(error) { t.Errorf("%q ends the machine", line) })
		for _, b := range m.Boots() {
			if !strings.Contains(line, strconv.Itoa(b.N)) {
				t.Errorf("%q ended boot %d", line, b.N)
			}
		}
	})
}
