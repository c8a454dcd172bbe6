package service

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/hold"
	"github.com/bootrace/bootrace/tracer/recorder"
)

func TestCgroupFolder(t *testing.T) {
	unified := "/sys/fs/cgroup"
	if exists(unified + "/unified/cgroup.procs") {
		unified += "/unified"
	}
	for line, want := range map[string]string{
		"0::/system.slice/bootrace.service": unified + "/system.slice/bootrace.service",
		"0::/":                              unified,
		"1:name=systemd:/system.slice/bootrace.service": "/sys/fs/cgroup/systemd/system.slice/bootrace.service",
		"1:name=systemd:/system.slice/a:b.service":      "/sys/fs/cgroup/systemd/system.slice/a:b.service",
		"4:cpu,cpuacct:/system.slice/bootrace.service":  "",
		"12:name=openrc:/bootrace":                      "",
		"0:memory:/x":                                   "",
		"":                                              "",
		"0:":                                            "",
		"not a control group, and has no colon whatever": "",
	} {
		if got := cgroupFolder(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

var discard = slog.New(slog.DiscardHandler)

// testService is a service without sources, with its log in a temporary RunDir.
func testService(t *testing.T, change func(*Options)) *Service {
	t.Helper()
	root := t.TempDir()
	opts := Options{
		Config:   func() (config.Config, error) { return config.Default(), nil },
		RunDir:   filepath.Join(root, "run"),
		StateDir: filepath.Join(root, "var"),
		Version:  "test",
		Log:      discard,
	}
	if change != nil {
		change(&opts)
	}
	s := newService(opts)
	cfg, err := opts.Config()
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.Store(&cfg)
	_, s.stop = context.WithCancel(t.Context())
	s.followGuests()
	if err := s.openLog(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.writer.Close() })
	s.rec = recorder.New(s.writer, s.log)
	return s
}

func (s *Service) do(t *testing.T, do string) (any, error) {
	t.Helper()
	return s.answer(t.Context(), os.Getpid(), control.Request{Do: do})
}

func (s *Service) statusOf(t *testing.T) Status {
	t.Helper()
	got, err := s.do(t, control.Status)
	if err != nil {
		t.Fatal(err)
	}
	return got.(Status)
}

func TestAnswers(t *testing.T) {
	s := testService(t, nil)
	s.rec.Record(mark("start", ""))
	if _, err := s.do(t, control.Sync); err != nil {
		t.Error(err)
	}
	st := s.statusOf(t)
	if st.PID != os.Getpid() || st.Version != "test" || st.Mode != config.Trace || st.BootID != bootlog.CurrentBootID() ||
		st.Ready != 0 || st.LogErr != "" || st.Events[event.Mark] != 1 || len(st.Lost) != 0 {
		t.Errorf("status %+v", st)
	}
	if filepath.Dir(st.Log) != s.opts.StateDir {
		t.Errorf("the log is %s, not in %s", st.Log, s.opts.StateDir)
	}
	l, err := bootlog.Open(st.Log)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := s.do(t, "dance"); err == nil || !strings.Contains(err.Error(), `"dance" is not known to this version`) {
		t.Errorf("got %v", err)
	}
	if _, err := s.do(t, control.Relinquish); err != nil {
		t.Error(err)
	}
	s.rec.Record(mark("late", ""))
	if st := s.statusOf(t); st.Log != "" || st.Lost["log"] != 1 {
		t.Errorf("after the log has ended: %+v", st)
	}
}

// Until the disk is known to be writable the log stays in RunDir.
func TestVolatileFirst(t *testing.T) {
	s := testService(t, func(o *Options) { o.VolatileFirst = true })
	if got := filepath.Dir(s.statusOf(t).Log); got != s.opts.RunDir {
		t.Errorf("the log is in %s", got)
	}
	moved := make(chan error)
	go func() { moved <- s.moveLog(t.Context()) }()
	setFlag(t, s.opts.RunDir)
	if err := <-moved; err != nil {
		t.Fatal(err)
	}
	if got := filepath.Dir(s.statusOf(t).Log); got != s.opts.StateDir {
		t.Errorf("after the flush the log is in %s", got)
	}
	// An instance that starts after the flush finds its flag.
	s = testService(t, func(o *Options) {
		o.VolatileFirst = true
		setFlag(t, o.RunDir)
	})
	if got := filepath.Dir(s.statusOf(t).Log); got != s.opts.StateDir {
		t.Errorf("with the flag the log is in %s", got)
	}
}

// setFlag does what systemd does once the state folder can be written.
func setFlag(t *testing.T, dir string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(dir, 0o700), unix.Mkfifo(filepath.Join(dir, flushed), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// An instance from the initramfs keeps away from the disk until it is adopted,
// and can't be adopted before it is attached.
func TestEarly(t *testing.T) {
	s := testService(t, func(o *Options) { o.Early = true })
	setFlag(t, s.opts.RunDir)
	soon, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if err := s.moveLog(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("move the log: %v", err)
	}
	if st := s.statusOf(t); !st.Early || filepath.Dir(st.Log) != s.opts.RunDir {
		t.Errorf("status %+v", st)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.answer(ctx, 1, control.Request{Do: control.Adopt}); !errors.Is(err, context.Canceled) {
		t.Errorf("adopt: %v", err)
	}
}

func TestAdoptService(t *testing.T) {
	s := testService(t, nil)
	close(s.attached)
	if _, err := s.do(t, control.Adopt); err == nil || !strings.Contains(err.Error(), "is the service already") {
		t.Errorf("got %v", err)
	}
}

func TestStop(t *testing.T) {
	s := testService(t, nil)
	stopped := false
	s.stop = func() { stopped = true }
	if _, err := s.do(t, control.Stop); err != nil || !stopped {
		t.Errorf("%v, stopped %v", err, stopped)
	}
}

// To be stopped before the probes are attached is no failure, and no loss.
func TestStopWhileAttaching(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root to open the sources")
	}
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	err := Run(ctx, Options{
		Config:    func() (config.Config, error) { return config.Default(), nil },
		RunDir:    dir,
		StateDir:  dir,
		Listening: stop,
		Ready:     func() { t.Error("ready") },
		Log:       discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	last := event.Event{}
	for _, e := range eventsOf(t, filepath.Join(dir, bootlog.CurrentBootID()+".jsonl")) {
		if last = e; e.Kind == event.Loss {
			t.Errorf("loss: %+v", *e.Loss)
		}
	}
	if last.Mark == nil || last.Mark.Name != "stop" {
		t.Errorf("the log ends with %+v", last)
	}
}

// saying calls of with each message that is logged.
type saying struct {
	slog.Handler
	of func(message string)
}

func (h saying) Handle(_ context.Context, r slog.Record) error { h.of(r.Message); return nil }
func (h saying) Enabled(context.Context, slog.Level) bool      { return true }

// On old kernels it takes seconds to find out how starts can be held. The boot is traced
// meanwhile, and who is started behind the service waits for it.
func TestProbesDoNotWaitForHolding(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: needs root to open the sources")
	}
	dir := t.TempDir()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	traced := make(chan struct{})
	var tried atomic.Bool
	cfg := config.Default()
	cfg.Mode = config.Enforcing
	ready := false
	err := Run(ctx, Options{
		Config:    func() (config.Config, error) { return cfg, nil },
		RunDir:    dir,
		StateDir:  dir,
		Listening: func() {},
		Ready: func() {
			if ready = true; !tried.Load() {
				t.Error("ready before it is known whether starts can be held")
			}
			stop()
		},
		Log: slog.New(saying{slog.DiscardHandler, func(message string) {
			if message == "probes attached" {
				close(traced)
			}
		}}),
		hold: func(ctx context.Context, _ hold.Options) (*hold.Holder, error) {
			select {
			case <-traced:
			case <-ctx.Done():
				t.Error("the probes wait for the trial")
			}
			tried.Store(true)
			return nil, &hold.UnsupportedError{Reason: "it is only tried here"}
		},
	})
	if err != nil || !ready {
		t.Errorf("%v, ready %v", err, ready)
	}
}

// The state folder can't be made: recording goes on in memory.
func TestStateUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := testService(t, func(o *Options) { o.VolatileFirst = true })
	s.opts.StateDir = filepath.Join(file, "var")
	setFlag(t, s.opts.RunDir)
	if err := s.moveLog(t.Context()); err == nil || !strings.Contains(err.Error(), s.opts.StateDir) {
		t.Errorf("move the log: %v", err)
	}
	if got := filepath.Dir(s.statusOf(t).Log); got != s.opts.RunDir {
		t.Errorf("the log is in %s", got)
	}
}

func TestReload(t *testing.T) {
	next, nextErr := config.Default(), error(nil)
	s := testService(t, func(o *Options) {
		o.Config = func() (config.Config, error) { return next, nextErr }
	})
	next.KeepBoots = 3
	s.reload()
	if s.config().KeepBoots != 3 {
		t.Error("the new configuration is not used")
	}
	next.KeepBoots, nextErr = 4, fs.ErrInvalid
	s.reload()
	if s.config().KeepBoots != 3 {
		t.Error("a broken configuration is used")
	}
	if got := s.statusOf(t).ConfigErr; !strings.Contains(got, fs.ErrInvalid.Error()) {
		t.Errorf("status says of a rejected reload %q", got)
	}
	nextErr = nil
	if s.reload(); s.config().KeepBoots != 4 || s.statusOf(t).ConfigErr != "" {
		t.Errorf("after it was corrected, status says %q", s.statusOf(t).ConfigErr)
	}
}

// A configuration that is wrong costs enforce mode, never the trace.
func TestWrongConfiguration(t *testing.T) {
	s := testService(t, nil)
	s.opts.Config = func() (config.Config, error) { return config.Config{}, errors.New("line 3: what is this") }
	if err := s.configure(); err == nil {
		t.Error("without a fallback it is an error")
	}
	fallback := config.Default()
	s.opts.Fallback = &fallback
	if err := s.configure(); err != nil {
		t.Fatal(err)
	}
	if st := s.statusOf(t); st.Mode != config.Trace || !strings.Contains(st.ConfigErr, "line 3: what is this: tracing goes on") {
		t.Errorf("mode %s, %q", st.Mode, st.ConfigErr)
	}
}

// A configuration that is wrong gives the last good one, over a restart and a reboot,
// also where that can be read only once the host's disks are there.
func TestLastGoodConfiguration(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "config.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fallback := config.Default()
	start := func() *Service {
		s := testService(t, func(o *Options) { o.RunDir, o.StateDir = filepath.Join(root, "run"), filepath.Join(root, "var") })
		s.opts.Config = func() (config.Config, error) { return config.Load(path) }
		s.opts.Fallback, s.opts.Kept = &fallback, config.Kept
		s.opts.Keep = func(dir string) error { return config.Keep(path, dir) }
		if err := os.MkdirAll(s.opts.RunDir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := s.configure(); err != nil {
			t.Fatal(err)
		}
		s.keepConfig()
		return s
	}
	expect := func(when string, s *Service, boots int, says string) {
		t.Helper()
		if st := s.statusOf(t); s.config().KeepBoots != boots || !strings.Contains(st.ConfigErr, says) || (says == "") != (st.ConfigErr == "") {
			t.Errorf("%s: keep-boots %d, status says %q", when, s.config().KeepBoots, st.ConfigErr)
		}
	}
	write("keep-boots: 7\nmode: enforce\n")
	s := start()
	expect("at first", s, 7, "")
	write("keep-boots: 8\nmode: enforce\n")
	s.reload()
	s.writer.Close()
	write("keep-boots: 9\nmode: ludicrous\n")
	s = start()
	expect("restarted", s, 8, "the last good one holds")
	s.writer.Close()
	if err := os.RemoveAll(s.opts.RunDir); err != nil {
		t.Fatal(err)
	}
	s = start()
	expect("rebooted", s, 8, "the last good one holds")
	s.writer.Close()

	if err := errors.Join(os.RemoveAll(s.opts.RunDir), os.Rename(filepath.Join(s.opts.StateDir, config.KeptName), filepath.Join(root, "kept"))); err != nil {
		t.Fatal(err)
	}
	s = start()
	expect("before the disks are there", s, config.Default().KeepBoots, "the defaults")
	if err := os.Rename(filepath.Join(root, "kept"), filepath.Join(s.opts.StateDir, config.KeptName)); err != nil {
		t.Fatal(err)
	}
	s.keepConfig()
	expect("once they are", s, 8, "the last good one holds")
	write("keep-boots: 10\n")
	s.reload()
	expect("corrected", s, 10, "")
}

// The log outlives its file, and its folder: what it had is there again.
func TestLogRemoved(t *testing.T) {
	s := testService(t, nil)
	s.rec.Record(mark("first", ""))
	if _, err := s.do(t, control.Sync); err != nil {
		t.Fatal(err)
	}
	s.restoreLog(t.Context())
	if st := s.statusOf(t); st.LogRestored != 0 {
		t.Errorf("restored %d times while nothing happened", st.LogRestored)
	}
	if err := os.RemoveAll(s.opts.StateDir); err != nil {
		t.Fatal(err)
	}
	s.rec.Record(mark("second", ""))
	s.restoreLog(t.Context())
	s.rec.Record(mark("third", ""))
	if _, err := s.do(t, control.Sync); err != nil {
		t.Fatal(err)
	}
	st := s.statusOf(t)
	text, err := os.ReadFile(st.Log)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"first", "second", "third", "log restored"} {
		if !strings.Contains(string(text), `"name":"`+name+`"`) {
			t.Errorf("the log has no %q:\n%s", name, text)
		}
	}
	if st.LogRestored != 1 || st.LogRefused != "" {
		t.Errorf("status says %d times, %q", st.LogRestored, st.LogRefused)
	}
}

// A link where the log belongs is not followed, and costs no boot.
func TestLinkInPlaceOfLog(t *testing.T) {
	var target, link string
	s := testService(t, func(o *Options) {
		target = filepath.Join(t.TempDir(), "passwd")
		link = filepath.Join(o.StateDir, bootlog.FileName(bootlog.CurrentBootID()))
		for _, err := range []error{os.MkdirAll(o.StateDir, 0o700), os.WriteFile(target, []byte("root"), 0o600), os.Symlink(target, link)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	s.rec.Record(mark("here", ""))
	if _, err := s.do(t, control.Sync); err != nil {
		t.Fatal(err)
	}
	st := s.statusOf(t)
	if text, err := os.ReadFile(st.Log); err != nil || !strings.Contains(string(text), `"here"`) || st.Log != link {
		t.Errorf("the log is %s: %v\n%s", st.Log, err, text)
	}
	if text, _ := os.ReadFile(target); string(text) != "root" {
		t.Errorf("the link's target has %q", text)
	}
	if to, err := os.Readlink(link + refusedSuffix); err != nil || to != target || !strings.Contains(st.LogRefused, refusedSuffix) {
		t.Errorf("%v; status says %q", err, st.LogRefused)
	}
}

// The log's limit comes from the configuration, and shows.
func TestMaxLogSize(t *testing.T) {
	cfg := config.Default()
	cfg.MaxLogSize = 32 << 10
	s := testService(t, func(o *Options) {
		o.Config = func() (config.Config, error) { return cfg, nil }
	})
	for range 1000 {
		s.rec.Record(mark("noise", "some text that takes room"))
	}
	st := s.statusOf(t)
	if !strings.Contains(st.LogErr, "limit of 32 KiB") || st.Lost["log"] == 0 {
		t.Errorf("status %+v", st)
	}
	cfg.MaxLogSize = 1 << 20
	s.reload()
	if st := s.statusOf(t); st.LogErr != "" {
		t.Errorf("after the reload: %s", st.LogErr)
	}
}

// A service that begins again in the same boot says that it was away.
func TestRestart(t *testing.T) {
	s := testService(t, nil)
	s.rec.Record(mark("start", ""))
	if _, err := s.do(t, control.Relinquish); err != nil {
		t.Fatal(err)
	}
	if err := s.openLog(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := s.writer.Path()
	if err := s.writer.Close(); err != nil {
		t.Fatal(err)
	}
	var why []string
	for _, e := range eventsOf(t, path) {
		if e.Kind == event.Loss {
			why = append(why, e.Loss.Why)
		}
	}
	if len(why) != 1 || why[0] != "bootrace did not run" {
		t.Errorf("losses %q", why)
	}
}

func eventsOf(t *testing.T, log string) []event.Event {
	t.Helper()
	l, err := bootlog.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var events []event.Event
	for e, err := range l.Events() {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// TakeOver, against services of all kinds.
func TestTakeOver(t *testing.T) {
	serve := func(t *testing.T, handle control.Handler) string {
		socket := filepath.Join(t.TempDir(), "control")
		server, err := control.Listen(socket, handle, discard)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- server.Serve(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		return socket
	}
	if _, err := TakeOver(t.Context(), filepath.Join(t.TempDir(), "absent"), discard); err != nil {
		t.Errorf("nobody there: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("the socket answers to root only")
	}
	socket := serve(t, func(context.Context, int, control.Request) (any, error) { return Status{PID: 4711}, nil })
	if _, err := TakeOver(t.Context(), socket, discard); err == nil || !strings.Contains(err.Error(), "running already, as process 4711") {
		t.Errorf("a service: %v", err)
	}
	socket = serve(t, func(context.Context, int, control.Request) (any, error) {
		return Status{PID: 4711, Early: true, Build: buildID()}, nil
	})
	_, err := TakeOver(t.Context(), socket, discard)
	if adopted := new(Adopted); !errors.As(err, &adopted) || adopted.PID != 4711 {
		t.Error("an early instance of this build is not adopted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var asked []string
	server := serve(t, func(_ context.Context, _ int, r control.Request) (any, error) {
		asked = append(asked, r.Do)
		if r.Do == control.Stop {
			cancel()
		}
		return Status{PID: 4711, Early: true, Build: "another"}, nil
	})
	if _, err := TakeOver(ctx, server, discard); err == nil || len(asked) < 2 || asked[1] != control.Stop {
		t.Errorf("an early instance of another build: %v, asked %v", err, asked)
	}
}
