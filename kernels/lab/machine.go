package lab

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/emulate"
)

// Machine is a virtual machine with its disks. It can be started, also after a
// power cut, until it is closed.
type Machine struct {
	image        *Image
	scenario     Scenario
	progress     *progress
	dir          *entry
	out          string
	disks        []string
	append       string
	memory       int
	counted      bool
	mitigations  bool
	ownInitramfs bool
	cpus         int // there is room for
	after        func(Boot)
	cut          bool

	run *run // nil before the first start

	mu      sync.Mutex
	boots   []Boot
	reached []mark
	moved   chan struct{} // closed and replaced at each mark
}

// run is one QEMU process.
type run struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and err is set
	err  error
	kill context.CancelCauseFunc
}

// Phase is how far a boot has come.
type Phase string

// The phases of a boot.
const (
	Up   Phase = "up"   // the system is up, the script starts
	Done Phase = "done" // the script has ended; reboot or shutdown begins
)

type mark struct {
	phase Phase
	boot  int
}

const defaultMemory = 1536

// errPowerCut is why a run ended that Kill ended.
var errPowerCut = errors.New("power cut")

func (img *Image) machine(o Options, s Scenario, p *progress) (*Machine, error) {
	out, err := filepath.Abs(o.Out)
	if err != nil || o.Out == "" {
		return nil, fmt.Errorf("folder for the results %q: %w", o.Out, cmpErr(err, errors.New("name one")))
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder for the results: %w", err)
	}
	if strings.Contains(out, ",") {
		return nil, fmt.Errorf("folder for the results %q: QEMU cannot share a folder with a comma in its path", out)
	}
	dir, err := img.cache.temp()
	if err != nil {
		return nil, err
	}
	m := &Machine{
		image: img, scenario: s, progress: p, dir: dir, out: out,
		append: o.Append, memory: cmp.Or(o.Memory, defaultMemory), counted: o.Counted, mitigations: o.Mitigations,
		ownInitramfs: o.OwnInitramfs, cpus: cmp.Or(o.MaxProcessors, 1), after: o.After, cut: o.Cut, moved: make(chan struct{}),
	}
	if err := m.makeDisks(o.Disks); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if err := s.copyTo(filepath.Join(dir.dir, "share", "scenario")); err != nil {
		return nil, errors.Join(fmt.Errorf("copy the scenario: %w", err), m.Close())
	}
	return m, nil
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// makeDisks makes the root disk as an overlay of the image's, and the empty
// ones.
func (m *Machine) makeDisks(sizes []int64) error {
	if sizes == nil {
		sizes = []int64{512 << 20, 512 << 20, 512 << 20}
	}
	root := m.dir.path("root.qcow2")
	if err := m.image.host.run(context.Background(), nil, "qemu-img", "create", "-q", "-f", "qcow2",
		"-F", "raw", "-b", m.image.path(rootFile), root); err != nil {
		return fmt.Errorf("make the root disk: %w", err)
	}
	for i, size := range sizes {
		disk := m.dir.path("vd" + string(rune('b'+i)) + ".img")
		f, err := os.Create(disk)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			return fmt.Errorf("make a disk of %d bytes: %w", size, err)
		}
		m.disks = append(m.disks, disk)
	}
	return nil
}

// ConsoleLog returns the path of the console's log. Each line has the seconds
// since the machine was started before it.
func (m *Machine) ConsoleLog() string { return filepath.Join(m.out, "console.log") }

// Boots returns the boots whose scripts have ended, in order.
func (m *Machine) Boots() []Boot {
	m.mu.Lock()
	defer m.mu.Unlock()
	var done []Boot
	for _, b := range m.boots {
		if slices.Contains(m.reached, mark{Done, b.N}) {
			done = append(done, b)
		}
	}
	return done
}

// Start turns the machine on; its first boot runs the script of boot n. The
// machine ends with ctx.
func (m *Machine) Start(ctx context.Context, n int) error {
	if m.run != nil {
		select {
		case <-m.run.done:
		default:
			return errors.New("start the machine: it is running")
		}
	}
	if n < 1 || n > m.scenario.Boots {
		return fmt.Errorf("start the machine: the scenario has no %s", scriptName(n))
	}
	next := m.dir.path(filepath.Join("share", "next"))
	if err := os.WriteFile(next, []byte(strconv.Itoa(n)+"\n"), 0o644); err != nil {
		return fmt.Errorf("start the machine: %w", err)
	}
	m.mu.Lock()
	m.reached = slices.DeleteFunc(m.reached, func(r mark) bool { return r.boot >= n })
	m.mu.Unlock()
	m.progress.printf("boot %d: starting the machine", n)
	return m.start(ctx)
}

func (m *Machine) start(ctx context.Context) error {
	console, err := openConsole(m.ConsoleLog(), m.run == nil)
	if err != nil {
		return err
	}
	qemu, err := lookPath("qemu-system-x86_64")
	if err != nil {
		return errors.Join(err, console.Close())
	}
	ctx, kill := context.WithCancelCause(ctx)
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, qemu, m.args()...)
	cmd.Stdout, cmd.Stderr = &output, &output
	pipes, err := readPipes(cmd, console.line(kill), func(line string) { m.signal(line, kill) })
	if err != nil {
		kill(nil)
		return errors.Join(err, console.Close())
	}
	r := &run{cmd: cmd, done: make(chan struct{}), kill: kill}
	ended, err := emulate.Start(cmd)
	if err != nil {
		kill(nil)
		pipes.wait()
		return errors.Join(err, console.Close())
	}
	go func() {
		err := <-ended
		pipes.wait()
		r.err = errors.Join(m.why(ctx, err, output.String()), console.Close())
		kill(nil)
		close(r.done)
	}()
	m.run = r
	return nil
}

// why says why QEMU ended, nil where the machine turned itself off.
func (m *Machine) why(ctx context.Context, err error, output string) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errPowerCut):
		return nil
	case cause != nil:
		return fmt.Errorf("run the machine: %w", cause)
	case err != nil:
		return fmt.Errorf("run QEMU: %w%s", err, quoted(lastLines(output, 5)))
	}
	return nil
}

// Wait returns when the machine has turned itself off, or the power was cut.
func (m *Machine) Wait() error {
	if m.run == nil {
		return errors.New("wait for the machine: it was not started")
	}
	<-m.run.done
	return m.run.err
}

// Kill cuts the power: what the machine's disks hold at that instant is what
// the next Start finds on them.
func (m *Machine) Kill() error {
	if m.run == nil {
		return nil
	}
	m.run.kill(errPowerCut)
	return m.Wait()
}

// Close cuts the power and removes the disks.
func (m *Machine) Close() error {
	_ = m.Kill() // how it ended was Wait's to tell
	return m.dir.remove()
}

// Await returns when boot n has reached the phase, or with an error when the
// machine ends before.
func (m *Machine) Await(ctx context.Context, phase Phase, n int) error {
	if m.run == nil {
		return errors.New("wait for the machine: it was not started")
	}
	for {
		m.mu.Lock()
		moved, there := m.moved, slices.Contains(m.reached, mark{phase, n})
		m.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for boot %d to be %s: %w", n, phase, context.Cause(ctx))
		case <-m.run.done:
			return fmt.Errorf("the machine ended before boot %d was %s: look at %s", n, phase, m.ConsoleLog())
		}
	}
}

// signal takes a line from lab-boot, the lab's program in the machine:
// "up N SECONDS STATE" or "done N STATUS". It ends the machine with kill when the last
// script has ended, where that is asked for.
func (m *Machine) signal(line string, kill context.CancelCauseFunc) {
	f := strings.Fields(line)
	if len(f) < 3 {
		return
	}
	n, err := strconv.Atoi(f[1])
	if err != nil {
		return
	}
	switch {
	case f[0] == string(Up) && len(f) == 4:
		seconds, _ := strconv.ParseFloat(f[2], 64)
		m.up(Boot{N: n, Up: time.Duration(seconds * float64(time.Second)), State: f[3]})
	case f[0] == string(Done):
		status, _ := strconv.Atoi(f[2])
		m.ended(n, status)
		if m.cut && n == m.scenario.Boots {
			kill(errPowerCut)
		}
	}
}

func (m *Machine) up(b Boot) {
	m.progress.printf("boot %d: %s %.1f s after the kernel's start; running %s", b.N, plain(b.State), b.Up.Seconds(), scriptName(b.N))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boots = slices.DeleteFunc(m.boots, func(old Boot) bool { return old.N >= b.N })
	m.boots = append(m.boots, b)
	m.reach(mark{Up, b.N})
}

func (m *Machine) ended(n, status int) {
	next := "rebooting"
	switch {
	case n < m.scenario.Boots:
	case m.cut:
		next = "cutting the power"
	default:
		next = "turning off"
	}
	m.progress.printf("boot %d: %s ended with status %d; %s", n, scriptName(n), status, next)
	if status != 0 {
		m.showLog(n)
	}
	m.mu.Lock()
	boot := Boot{N: n, Status: status}
	for i := range m.boots {
		if m.boots[i].N == n {
			m.boots[i].Status = status
			boot = m.boots[i]
		}
	}
	m.reach(mark{Done, n})
	m.mu.Unlock()
	if m.after != nil {
		m.after(boot)
	}
}

// showLog shows the end of what a failed script wrote.
func (m *Machine) showLog(n int) {
	log, err := os.ReadFile(filepath.Join(m.out, fmt.Sprintf("boot%d.log", n)))
	if err != nil {
		m.progress.printf("boot %d: %v", n, err)
		return
	}
	for _, line := range lastLines(string(log), 30) {
		m.progress.printf("boot %d:   %s", n, line)
	}
}

// reach is called with m.mu held.
func (m *Machine) reach(r mark) {
	m.reached = append(m.reached, r)
	close(m.moved)
	m.moved = make(chan struct{})
}
