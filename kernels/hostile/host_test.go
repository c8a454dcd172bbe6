package hostile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/proc"
	"github.com/bootrace/bootrace/tracer/service"
)

// The guarded programs: a guest that says what it saw, and one that does nothing,
// for those who start many.
const (
	honest = "qemu-system-x86_64"
	idle   = "qemu-system-idle"
	plain  = "plain" // the first one, which nobody guards
)

// lateDeadline is that of guests whose disks never come; others have the usual one.
const lateDeadline = 3 * time.Second

const configuration = `mode: enforce
probes: %s
enforce:
  binaries: [%s/bin/qemu-system-*]
  guests:
    - name: honest-late-*
      deadline: %s
`

// host is this machine with bootrace as its service, in a mount namespace of its own.
type host struct {
	t        *testing.T
	dir      string // a tmpfs that everybody may enter
	out      string // for what is to be looked at afterwards
	journal  *os.File
	cmd      *exec.Cmd
	ended    chan struct{}
	err      error
	systemd  *net.UnixConn
	noise    *os.File      // what attackers say
	quiet    atomic.Bool   // nobody asks
	watchdog time.Duration // of the unit
	capacity int           // starts that can be held at a time

	mu     sync.Mutex
	ready  bool
	fed    event.Time    // when it last said that all is well
	hungry time.Duration // the longest time that it did not, but for stalls
	rss    int64         // bytes, the most that it had resident
	rssAt  time.Time
	asked  int
	answer time.Duration // the slowest answer to a question for its status
	hanged int           // the most threads that hung
	deaf   []error       // questions without an answer
	seen   service.Status
	stalls []stall
}

// stall is a time in which this process itself did not get a processor.
type stall struct{ from, to event.Time }

// stalled is how much of a time this process got no processor.
func (h *host) stalled(from, to event.Time) (sum time.Duration) {
	for _, s := range h.stalls {
		sum += max(0, min(s.to, to).Sub(max(s.from, from)))
	}
	return sum
}

// longest is the longest stall.
func (h *host) longest() (most time.Duration) {
	for _, s := range h.stalls {
		most = max(most, s.to.Sub(s.from))
	}
	return most
}

// newHost starts the service and waits until it holds starts.
func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, ended: make(chan struct{})}
	h.folders()
	h.programs()
	var err error
	h.systemd, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(h.dir, "notify"), Net: "unixgram"})
	h.must(err)
	go h.listen()
	h.journal, err = os.Create(filepath.Join(h.out, "journal"))
	h.must(err)
	h.noise, err = os.Create(filepath.Join(h.out, "attackers"))
	h.must(err)
	h.cmd = exec.Command(filepath.Join(h.dir, "bootraced"), "run", "--config", filepath.Join(h.dir, "config.yaml"), "--state-dir", h.state())
	h.cmd.Env = append(h.unit(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "NOTIFY_SOCKET="+filepath.Join(h.dir, "notify"))
	h.cmd.Stdout, h.cmd.Stderr = h.journal, h.journal
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL} // a session, as systemd's
	h.must(h.cmd.Start())
	go func() { h.err = h.cmd.Wait(); close(h.ended) }()
	t.Cleanup(func() { _ = h.stop() })
	h.await("the service to hold starts", time.Minute, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.ready && (h.seen.Hold != nil || h.seen.HoldErr != "")
	}, h.ask)
	return h
}

func (h *host) state() string { return filepath.Join(h.out, "state") }

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// folders makes a folder that everybody may enter, and hides the service's own from
// the rest of this machine.
func (h *host) folders() {
	h.t.Helper()
	root, err := lab.Repo(".")
	h.must(err)
	h.out = filepath.Join(root, "build", "hostile")
	h.must(os.RemoveAll(h.out))
	h.must(os.MkdirAll(h.state(), 0o700))
	h.dir = filepath.Join(os.TempDir(), "bootrace-hostile")
	for _, dir := range []string{h.dir, service.RunDir} {
		h.must(os.MkdirAll(dir, 0o755))
		h.must(unix.Mount("hostile", dir, "tmpfs", 0, "mode=0755"))
	}
	h.must(os.Mkdir(filepath.Join(h.dir, "bin"), 0o755))
	h.must(os.Mkdir(filepath.Join(h.dir, "reports"), 0o755))
	h.must(os.Chmod(filepath.Join(h.dir, "reports"), 0o1777))
	// Everybody may have it where udev runs.
	h.must(unix.Mknod(filepath.Join(h.dir, "fuse"), unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))))
	h.must(os.Chmod(filepath.Join(h.dir, "fuse"), 0o666))
	probes := os.Getenv("BOOTRACE_PROBES")
	if probes == "" {
		probes = "auto"
	}
	text := fmt.Sprintf(configuration, probes, h.dir, lateDeadline)
	h.must(os.WriteFile(filepath.Join(h.dir, "config.yaml"), []byte(text), 0o644))
}

// programs builds the service and the guests.
func (h *host) programs() {
	h.t.Helper()
	root, err := lab.Repo(".")
	h.must(err)
	bin := filepath.Join(h.dir, "bin")
	for name, pkg := range map[string]string{filepath.Join(h.dir, "bootraced"): "./cmd/bootraced", filepath.Join(bin, plain): "./kernels/hostile/guest"} {
		build := exec.Command("go", "build", "-trimpath", "-tags", "urfave_cli_no_docs", "-ldflags", "-s -w", "-o", name, pkg)
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			h.t.Fatalf("build %s: %v: %s", pkg, err, out)
		}
	}
	for to, from := range map[string]string{honest: filepath.Join(bin, plain), idle: "/bin/true", "attacker": "/proc/self/exe"} {
		data, err := os.ReadFile(from)
		h.must(err)
		h.must(os.WriteFile(filepath.Join(bin, to), data, 0o755))
	}
}

// unit is the environment that the unit gives to the service, watched over as it is
// by systemd; its limit of descriptors becomes that of this process.
func (h *host) unit() []string {
	h.t.Helper()
	root, err := lab.Repo(".")
	h.must(err)
	f, err := os.Open(filepath.Join(root, "packaging/systemd/bootrace.service"))
	h.must(err)
	defer f.Close()
	var env []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		switch key {
		case "Environment":
			env = append(env, value)
		case "LimitNOFILE":
			n, err := strconv.ParseUint(value, 10, 64)
			h.must(err)
			limit := unix.Rlimit{Cur: n, Max: n}
			if unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) != nil { // more than we may have
				h.must(unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
				h.t.Logf("the service may have %d descriptors here, and %d in its unit", limit.Max, n)
				limit.Cur = limit.Max
				h.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
			}
			h.capacity = int(min(limit.Max-1024, 16384)) // as of hold's gate
		case "WatchdogSec":
			period, err := time.ParseDuration(value)
			h.must(err)
			h.watchdog = period
			env = append(env, "WATCHDOG_USEC="+strconv.FormatInt(period.Microseconds(), 10))
		}
	}
	return env
}

// listen is systemd's part: it takes note of what the service says of itself.
func (h *host) listen() {
	buf := make([]byte, 4096)
	for {
		n, err := h.systemd.Read(buf)
		if err != nil {
			return
		}
		now := event.Now()
		h.mu.Lock()
		for line := range strings.Lines(string(buf[:n])) {
			switch strings.TrimSpace(line) {
			case "READY=1":
				h.ready, h.fed = true, now
			case "WATCHDOG=1":
				if h.ready {
					h.hungry, h.fed = max(h.hungry, now.Sub(h.fed)-h.stalled(h.fed, now)), now
				}
			}
		}
		h.mu.Unlock()
	}
}

// await waits until there is something. Meanwhile the service must live.
func (h *host) await(what string, limit time.Duration, there func() bool, also ...func()) {
	h.t.Helper()
	for end := time.Now().Add(limit); ; {
		for _, f := range also {
			f()
		}
		if there() {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("wait for %s: not after %s\n%s", what, limit, h.tail())
		}
		select {
		case <-h.ended:
			h.t.Fatalf("wait for %s: the service has ended: %v\n%s", what, h.err, h.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tail is the end of the journal.
func (h *host) tail() string {
	data, err := os.ReadFile(h.journal.Name())
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(len(lines)-20, 0):], []byte("\n")))
}

// answerLimit is how long `bootrace status` may take.
const answerLimit = 5 * time.Second

// ask asks for the status and looks at the memory.
func (h *host) ask() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*answerLimit)
	defer cancel()
	var st service.Status
	begin := event.Now()
	err := control.Call(ctx, control.Socket, control.Request{Do: control.Status}, &st)
	end := event.Now()
	took := end.Sub(begin)
	rss, rssErr := resident(h.cmd.Process.Pid)
	h.mu.Lock()
	defer h.mu.Unlock()
	if rssErr == nil && rss > h.rss {
		h.rss, h.rssAt = rss, time.Now()
	}
	if !h.ready && errors.Is(err, control.ErrNoService) {
		return
	}
	h.asked++
	if err != nil {
		h.deaf = append(h.deaf, fmt.Errorf("after %s: %w", took.Round(time.Millisecond), err))
		return
	}
	h.answer, h.seen = max(h.answer, took), st
	// A question takes some turns of this process: it connects, asks and reads.
	if took-h.stalled(begin, end) > answerLimit {
		h.deaf = append(h.deaf, fmt.Errorf("it took %s", took.Round(time.Millisecond)))
	}
	if st.Hold != nil {
		h.hanged = max(h.hanged, st.Hold.Counts.Hanging)
	}
}

// oversleep takes note of when this process itself got no processor, until done is
// closed: what it sees late was not late, and on a machine that gives nobody a
// processor no service is in time.
func (h *host) oversleep(done <-chan struct{}) {
	const nap, noteworthy = 20 * time.Millisecond, 20 * time.Millisecond
	for {
		begin := event.Now()
		select {
		case <-done:
			return
		case <-time.After(nap):
		}
		if s := (stall{begin.Add(nap), event.Now()}); s.to.Sub(s.from) > noteworthy {
			h.mu.Lock()
			h.stalls = append(h.stalls, s)
			h.mu.Unlock()
		}
	}
}

// watch asks again and again until done is closed.
func (h *host) watch(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(500 * time.Millisecond):
			if !h.quiet.Load() {
				h.ask()
			}
		}
	}
}

func (h *host) status() service.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen
}

// alive fails where the service has ended.
func (h *host) alive() bool {
	select {
	case <-h.ended:
		return false
	default:
		return true
	}
}

// stop ends the service as systemd does. The error is its own.
func (h *host) stop() error {
	if h.alive() {
		_ = h.cmd.Process.Signal(unix.SIGTERM)
	}
	select {
	case <-h.ended:
	case <-time.After(30 * time.Second):
		_ = h.cmd.Process.Kill()
		<-h.ended
		return errors.New("it had to be killed")
	}
	h.systemd.Close()
	return h.err
}

// resident is how much memory of a process is resident, in bytes.
func resident(pid int) (int64, error) {
	data, err := os.ReadFile(proc.Path(pid, "statm"))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm %q", data)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// used is how long a process has run on a processor.
func used(pid int) (time.Duration, error) {
	data, err := os.ReadFile(proc.Path(pid, "stat"))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// terminalOf is the number of the terminal that controls a process, 0: none.
func terminalOf(pid int) (string, error) {
	data, err := os.ReadFile(proc.Path(pid, "stat"))
	if err != nil {
		return "", err
	}
	return strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))[4], nil
}
