// Package service is bootrace as it runs on a host: it opens the sources,
// looks once at what exists already, and records until it is told to stop.
package service

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/hold"
	"github.com/bootrace/bootrace/tracer/inspector"
	"github.com/bootrace/bootrace/tracer/memory"
	"github.com/bootrace/bootrace/tracer/mounts"
	"github.com/bootrace/bootrace/tracer/netif"
	"github.com/bootrace/bootrace/tracer/origin"
	"github.com/bootrace/bootrace/tracer/probe"
	"github.com/bootrace/bootrace/tracer/readers"
	"github.com/bootrace/bootrace/tracer/recorder"
	"github.com/bootrace/bootrace/tracer/rights"
	"github.com/bootrace/bootrace/tracer/roster"
	"github.com/bootrace/bootrace/tracer/snapshot"
	"github.com/bootrace/bootrace/tracer/udev"
)

// The folders of the installed service.
const (
	RunDir   = "/run/bootrace"
	StateDir = "/var/lib/bootrace"
)

// orphaned is how long an instance from the initramfs waits to become the
// service, before it concludes that there is no service on this host.
const orphaned = 15 * time.Minute

// rotateAfter is when the logs of earlier boots are looked after: not while
// the host boots.
const rotateAfter = 2 * time.Minute

// Options say how the service runs.
type Options struct {
	// Config returns the configuration; it is called again to reload.
	Config func() (config.Config, error)
	// Fallback holds where Config fails at the start, nil: nothing does, and Run
	// fails.
	Fallback *config.Config
	// Keep keeps in a folder what Config returned last, and Kept returns what holds
	// by that and when it was kept: the last good configuration, for a start at which
	// Config fails. nil: nothing is kept.
	Keep func(dir string) error
	Kept func(dir string) (config.Config, time.Time, error)
	// Early is set in the initramfs: the log stays in RunDir, and the instance
	// waits to be adopted.
	Early bool
	// VolatileFirst starts the log in RunDir, until the host says that it can
	// move.
	VolatileFirst bool
	RunDir        string
	StateDir      string
	Version       string
	// Replaced is the version of the instance from the initramfs that this one
	// stopped, because it was another build; empty where there was none.
	Replaced string
	// Listening is called as soon as uevents queue up; Ready once every probe
	// is attached and what existed before is recorded.
	Listening, Ready func()
	Reload           <-chan os.Signal
	// Readers returns the group whose members may read what is recorded and ask for
	// the status, 0 where there is none; nil: there is none.
	Readers func() int
	Log     *slog.Logger

	hold func(context.Context, hold.Options) (*hold.Holder, error) // nil: hold.Open; tests say so
}

// Service is one run.
type Service struct {
	opts   Options
	cfg    atomic.Pointer[config.Config]
	log    *slog.Logger
	writer *bootlog.Writer
	server *control.Server
	rec    *recorder.Recorder
	roster *roster.Roster
	memory *memory.Store // what guests ran on in earlier boots
	// inspector looks into the disks of guests.
	inspector *inspector.Inspector
	probes    probe.Backend // nil until attached
	start     event.Time
	root      *root // of an early instance
	bootID    string
	build     string // read at the start: /proc may be out of sight later
	resync    chan struct{}
	asker     asker
	mode      chan struct{} // the mode is to be looked at again
	// attached is closed once everything is, adopted once this is the service.
	attached, adopted chan struct{}
	stop              context.CancelFunc
	enforcer          *enforcer
	hooks             *hooks
	background        sync.WaitGroup

	settling settling
	garbage  int // of the heap, in percent, once the host has booted

	rootMu sync.Mutex
	mu     sync.Mutex
	early  bool // not adopted yet
	ready  event.Time
	// What status says until it is mended: see Status.
	configErr, logRefused string
	defaults              bool // hold for configErr
	logRestored           int
}

func newService(opts Options) *Service {
	s := &Service{
		opts: opts, log: opts.Log, early: opts.Early, start: event.Now(), bootID: bootlog.CurrentBootID(), build: buildID(),
		resync: make(chan struct{}, 1), mode: make(chan struct{}, 1), attached: make(chan struct{}), adopted: make(chan struct{}),
	}
	s.enforcer = newEnforcer(s)
	s.hooks = &hooks{s: s, held: map[int]*hooked{}}
	s.settling.active.Store(int64(s.start))
	if !opts.Early {
		close(s.adopted)
	}
	return s
}

// startGarbage is how much larger than its live part the heap may become while
// the host boots, in percent: enough for the start to go without a collection.
// What it leaves is given back with the first look at earlier boots.
const startGarbage = 300

// memoryLimit is how much memory Go takes before it collects garbage whatever startGarbage
// says, in bytes: all that its users can have it keep (starts that are held, what waits for
// the log's disk) fits in.
const memoryLimit = 112 << 20

// Run traces until ctx ends or a client asks it to stop.
func Run(ctx context.Context, opts Options) error {
	s := newService(opts)
	s.garbage = debug.SetGCPercent(startGarbage)
	defer debug.SetGCPercent(s.garbage)
	if os.Getenv("GOMEMLIMIT") == "" {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(memoryLimit))
	}
	err := s.configure()
	if err != nil {
		return err
	}
	if !opts.Early {
		s.warnOfHost()
	}
	ctx, s.stop = context.WithCancel(ctx)
	defer s.stop()
	if opts.Early {
		if s.root, err = openRoot(); err != nil {
			return err
		}
	}
	server, err := control.Listen(filepath.Join(opts.RunDir, filepath.Base(control.Socket)), s.answer, s.log)
	if err != nil {
		return err
	}
	defer server.Close()
	s.followGuests()
	if err := s.openLog(ctx); err != nil {
		return err
	}
	s.server = server
	s.share(ctx)
	s.keepConfig()
	s.rec = recorder.New(s.writer, s.log, s.observe, s.roster.Observe, s.inspector.Observe)
	s.rec.Fill = origin.NewFinder("/").Fill
	err = s.trace(ctx, server)
	return errors.Join(err, s.writer.Close())
}

// configure reads the configuration. One that is wrong never costs the trace of a
// boot.
func (s *Service) configure() error {
	cfg, err := s.opts.Config()
	if err != nil {
		if s.opts.Fallback == nil {
			return err
		}
		kept, when := s.keptConfig(s.opts.RunDir, s.opts.StateDir)
		if kept != nil {
			cfg = *kept
			s.refuseConfig(err, lastGood(when))
		} else {
			cfg = *s.opts.Fallback
			s.defaults = true
			s.refuseConfig(err, "tracing goes on with the defaults, and no start is held")
		}
	}
	s.cfg.Store(&cfg)
	return nil
}

// keptConfig returns the last good configuration that one of the folders has, and when
// it was kept; nil: none has. An initramfs has one of its own.
func (s *Service) keptConfig(dirs ...string) (*config.Config, time.Time) {
	if s.opts.Kept == nil || s.opts.Early {
		return nil, time.Time{}
	}
	for _, dir := range dirs {
		cfg, when, err := s.opts.Kept(dir)
		if err == nil {
			return &cfg, when
		}
		if !errors.Is(err, fs.ErrNotExist) {
			s.log.Error("the last good configuration is not used", "folder", dir, "error", err)
		}
	}
	return nil, time.Time{}
}

func lastGood(when time.Time) string {
	return "the last good one holds, of " + when.UTC().Format("2006-01-02 15:04:05 MST")
}

// keepConfig keeps a configuration that is good for the next start: in RunDir, for a
// restart, and where the log is on disk, for a reboot. Where that could not be read when
// this one was wrong, it is now.
func (s *Service) keepConfig() {
	s.mu.Lock()
	wrong, defaults, early := s.configErr, s.defaults, s.early
	s.mu.Unlock()
	if s.opts.Keep == nil || early {
		return
	}
	onDisk := filepath.Dir(s.writer.Path()) == filepath.Clean(s.opts.StateDir)
	if wrong != "" {
		if kept, when := s.keptConfig(s.opts.StateDir); onDisk && defaults && kept != nil {
			s.take(kept)
			s.mu.Lock()
			s.defaults = false
			s.configErr = strings.Replace(wrong, "tracing goes on with the defaults, and no start is held", lastGood(when), 1)
			s.mu.Unlock()
			s.log.Warn("the last good configuration holds from now on", "of", when)
		}
		return
	}
	dirs := []string{s.opts.RunDir}
	if onDisk {
		dirs = append(dirs, s.opts.StateDir)
	}
	for _, dir := range dirs {
		if err := s.opts.Keep(dir); err != nil {
			s.log.Warn("the configuration is not kept for a start at which the file is wrong", "folder", dir, "error", err)
		}
	}
}

// refuseConfig notes, until one is read that can be used, why the configuration is
// not used.
func (s *Service) refuseConfig(err error, instead string) {
	s.log.Error("the configuration is not used: "+instead, "error", err, "remedy", "correct it, then `systemctl reload bootrace`")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.configErr = err.Error() + ": " + instead
}

// followGuests prepares what follows the guests that run. It takes events from
// the first one on, and works once everything is attached.
func (s *Service) followGuests() {
	s.memory = memory.NewStore(s.bootID)
	record := func(e event.Event) { s.rec.Record(e) }
	host := roster.NewHost()
	s.inspector = inspector.New(inspector.Options{Host: host, Record: record, Memory: s.memory, On: s.inspects, Dir: roster.WorkingDir, Log: s.log})
	s.roster = roster.New(roster.Options{
		Memory: s.memory, Record: record, Log: s.log, Host: host, Recalls: s.inspector.Recall,
		Started: func(g roster.Start) {
			s.inspector.Start(inspector.Start{Guest: g.Guest, PID: g.PID, UID: g.UID, Dir: g.Dir})
		},
	})
}

// inspects reports whether disks are looked into: not in the initramfs, which has
// guests of nobody.
func (s *Service) inspects() bool { return s.config().Inspect == config.InspectOn && !s.isEarly() }

// warnOfHost says what this host lacks: what is there is traced all the same.
func (s *Service) warnOfHost() {
	if own := rights.Own("/"); own.Complaint() != "" {
		s.log.Warn("not all will be seen: "+own.Complaint(), "remedy", own.Remedy())
	}
	release := header("").Kernel
	if !devmap.Registered("/") && !devmap.Available("/", release) {
		s.log.Warn("this kernel has no device-mapper, so no logical volumes to trace: boot one with CONFIG_BLK_DEV_DM (`bootrace check` tells more)", "kernel", release)
	}
}

// trace opens the sources in the order in which nothing slips between:
// sockets first, which queue from then on, then the probes, then the look at
// what exists already.
func (s *Service) trace(ctx context.Context, server *control.Server) error {
	s.rec.Record(mark("start", s.opts.Version))
	if !s.opts.Early {
		s.recordHost() // an initramfs doesn't know it
	}
	sources, err := s.openSockets()
	if err != nil {
		return err
	}
	defer closeAll(sources)
	defer s.detach()
	s.opts.Listening()

	serveCtx, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	s.background.Go(func() {
		if err := server.Serve(serveCtx); err != nil {
			s.log.Error("control socket lost", "error", err)
		}
	})
	defer s.background.Wait()
	defer stopServing()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.background.Go(func() { s.feed(ctx) })
	// What kind of hold works is found by trying, which takes seconds on old kernels. The
	// probes don't wait for that.
	following := make(chan struct{})
	s.background.Go(func() {
		defer close(following)
		if s.opts.Early { // an initramfs has guests of nobody
			s.enforcer.rest()
		} else {
			s.enforcer.follow(ctx)
		}
	})

	cfg := s.config()
	probes, err := probe.Open(ctx, probe.Choice(cfg.Probes), probe.Options{Guests: cfg.GuestBinaries, Log: s.log, FindRoot: s.findRoot})
	if err != nil {
		return s.withoutProbes(ctx, err)
	}
	info := probes.Info()
	s.log.Info("probes attached", "probes", info.Name, "not_seen", probe.NotSeen(info))
	s.mu.Lock()
	s.probes = probes
	s.mu.Unlock()
	// The probes tell by themselves when they were attached, to the nanosecond.
	sources = append(sources, single{probes})
	s.backfill(ctx)
	s.recordClock()

	s.settling.active.Store(int64(s.start))
	s.background.Go(func() { s.keepHouse(ctx) })
	s.background.Go(func() { s.roster.Run(ctx) })
	s.background.Go(func() {
		if err := s.moveLog(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("the log of this boot stays in memory", "folder", s.opts.RunDir, "error", err)
		}
	})
	s.background.Go(func() { // who is started behind this service is held
		<-following
		if ctx.Err() == nil {
			s.setReady()
		}
	})
	s.rec.Run(ctx, sources...)
	s.enforcer.close()
	s.rec.Record(mark("stop", ""))
	return nil
}

// withoutProbes ends a run that got no probes: it has failed, unless it was
// stopped before it had them.
func (s *Service) withoutProbes(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		s.rec.Record(lossOf("probes", "all", err))
		return err
	}
	s.log.Info("stopped before the probes were attached")
	s.enforcer.close()
	s.rec.Record(mark("stop", ""))
	return nil
}

func (s *Service) setReady() {
	now := event.Now()
	s.mu.Lock()
	s.ready = now
	s.mu.Unlock()
	close(s.attached)
	took := now.Sub(s.start).Round(time.Millisecond)
	s.rec.Record(mark("ready", took.String()+" after the program's start"))
	s.opts.Ready()
	s.log.Info("tracing", "boot", s.bootID, "attached_after", took)
}

func (s *Service) openSockets() ([]recorder.Source, error) {
	var sources []recorder.Source
	uevents, err := udev.Open(udev.Options{Resync: s.needSnapshot, Log: s.log})
	if err != nil {
		return nil, err
	}
	sources = append(sources, uevents)
	s.rec.Attached(uevents)
	if links, err := netif.Open(netif.Options{Log: s.log}); err != nil {
		// Taps explain a guest's start; no verdict depends on them.
		s.log.Warn("network links are not traced", "error", err)
	} else {
		sources = append(sources, single{links})
		s.rec.Attached(single{links})
	}
	if mounted, err := mounts.Open(mounts.Options{FindRoot: s.findRoot, Log: s.log}); err != nil {
		s.log.Warn("mounts are not traced", "error", err)
		s.rec.Record(lossOf(mounts.SourceName, "all", err))
	} else {
		sources = append(sources, single{mounted})
		s.rec.Attached(single{mounted})
	}
	return sources, nil
}

// single is a source that delivers as one.
type single struct {
	source interface {
		Info() event.SourceInfo
		Run(ctx context.Context, emit func(event.Event)) error
		Close() error
	}
}

func (s single) Info() []event.SourceInfo { return []event.SourceInfo{s.source.Info()} }
func (s single) Close() error             { return s.source.Close() }
func (s single) Run(ctx context.Context, emit func(event.Event)) error {
	return s.source.Run(ctx, emit)
}

func closeAll(sources []recorder.Source) {
	for _, src := range sources {
		src.Close()
	}
}

// detach ends the probes. Those in the trace files would stay otherwise.
func (s *Service) detach() {
	s.mu.Lock()
	probes := s.probes
	s.mu.Unlock()
	if probes == nil {
		return
	}
	if err := probes.Close(); err != nil {
		s.log.Warn("detach the probes", "error", err)
	}
}

// observe reacts to what the record says.
func (s *Service) observe(e *event.Event) {
	s.settling.observe(e)
	s.asker.observe(e)
	s.enforcer.observe(e)
	if udev.IsDeviceMapperModule(e) {
		go func() {
			s.findRoot()
			if err := s.probes.DeviceMapperLoaded(); err != nil {
				s.log.Warn("the exact instant of an activation is not known on this host", "error", err)
			}
		}()
	}
}

// findRoot follows the host to its real root, where this instance was started
// in the initramfs and the switch has since taken /proc and all else away.
func (s *Service) findRoot() {
	s.rootMu.Lock()
	defer s.rootMu.Unlock()
	if s.root == nil || exists("/proc/self") {
		return
	}
	if err := s.root.enter(); err != nil {
		s.log.Error("left behind in the initramfs", "error", err)
	}
}

// backfill records what exists now.
func (s *Service) backfill(ctx context.Context) {
	s.findRoot()
	s.recordSnapshot("attached")
	defer s.recordSnapshot("ended")
	found, err := snapshot.Take(ctx, snapshot.Options{Programs: s.config().GuestBinaries, Log: s.log})
	if err != nil {
		s.log.Error("what existed before is not known", "error", err)
		s.rec.Record(lossOf("snapshot", "all", err))
	}
	for _, e := range found {
		if e.Exec != nil {
			if err := s.probes.AddGuest(e.Proc.PID); err != nil {
				s.log.Warn("a running guest is not followed", "pid", e.Proc.PID, "error", err)
			}
		}
		s.rec.Record(e)
	}
}

func (s *Service) recordSnapshot(state string) {
	s.rec.Record(event.Event{At: event.Now(), Kind: event.Source, Src: "snapshot",
		Source: &event.SourceInfo{Name: "snapshot", State: state}})
}

// needSnapshot asks for another look, after a queue overflowed.
func (s *Service) needSnapshot() {
	select {
	case s.resync <- struct{}{}:
	default: // one is pending already
	}
}

// keepHouse does what has its time: reloads, snapshots after a loss, questions
// to LVM, the wall clock once it can be trusted, and the end of an instance that nobody adopts.
func (s *Service) keepHouse(ctx context.Context) {
	clock := time.NewTicker(2 * time.Second)
	defer clock.Stop()
	asking := time.NewTicker(2 * time.Second)
	defer asking.Stop()
	orphan := time.NewTimer(orphaned)
	defer orphan.Stop()
	rotation := time.NewTimer(rotateAfter)
	defer rotation.Stop()
	settle := time.NewTicker(settleEvery)
	defer settle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.resync:
			s.rec.Record(mark("resync", "uevents were lost"))
			s.backfill(ctx)
		case <-clock.C:
			if event.ClockSynchronized() {
				s.recordClock()
				clock.Stop()
			}
		case <-settle.C:
			s.settle()
			s.restoreLog(ctx)
		case <-asking.C:
			s.askLVM(ctx)
		case <-s.opts.Reload:
			s.reload()
		case <-s.mode:
			s.enforcer.follow(ctx)
		case <-rotation.C:
			debug.SetGCPercent(s.garbage)
			debug.FreeOSMemory()
			if !s.isEarly() {
				go s.rotate(ctx) // compressing takes its time
			}
		case <-orphan.C:
			if s.isEarly() {
				s.log.Warn("no service took over from the initramfs: is bootrace.service enabled?", "after", orphaned)
				s.stop()
				return
			}
		}
	}
}

// recordClock records the offset to wall time: at the start, for what it is
// worth, and once more when the kernel says that the clock is synchronized.
func (s *Service) recordClock() {
	c := event.WallOffset()
	c.Trusted = event.ClockSynchronized()
	s.rec.Record(event.Event{At: event.Now(), Kind: event.Clock, Src: "service", Clock: &c})
}

// share lets the group of readers read the folders and logs, and ask: where the group
// is made later, from the next reload on.
func (s *Service) share(ctx context.Context) {
	if s.opts.Readers == nil {
		return
	}
	gid := s.opts.Readers()
	if gid == 0 {
		return
	}
	store, _ := s.store()
	errs := []error{s.writer.Share(ctx, gid), readers.ShareFolder(s.opts.StateDir, gid), readers.ShareFolder(s.opts.RunDir, gid), store.Share(gid)}
	if s.server != nil {
		errs = append(errs, s.server.Share(gid))
	}
	if err := errors.Join(errs...); err != nil {
		s.log.Warn("who is not root can't read all of what is recorded", "group", readers.Name, "error", err)
	}
}

func (s *Service) reload() {
	cfg, err := s.opts.Config()
	if err != nil {
		s.refuseConfig(err, "the one before stays")
		s.rec.Record(mark("reload refused", err.Error()))
		return
	}
	if !slices.Equal(cfg.GuestBinaries, s.config().GuestBinaries) {
		s.log.Warn("guest-binaries change when bootrace is restarted")
	}
	if cfg.Probes != s.config().Probes {
		s.log.Warn("probes change when bootrace is restarted")
	}
	s.use(&cfg)
	s.share(context.Background())
	s.rec.Record(mark("reload", ""))
	s.log.Info("configuration reloaded", "mode", cfg.Mode)
}

// use makes cfg the configuration from now on.
func (s *Service) use(cfg *config.Config) {
	s.mu.Lock()
	s.configErr, s.defaults = "", false
	s.mu.Unlock()
	s.take(cfg)
	s.keepConfig()
}

func (s *Service) take(cfg *config.Config) {
	s.cfg.Store(cfg)
	s.writer.SetMaxSize(int64(cfg.MaxLogSize))
	s.needMode()
}

func (s *Service) config() *config.Config { return s.cfg.Load() }

func (s *Service) isEarly() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.early
}

func mark(name, text string) event.Event {
	return event.Event{At: event.Now(), Kind: event.Mark, Src: "service", Mark: &event.MarkInfo{Name: name, Text: text}}
}

func lossOf(source, what string, err error) event.Event {
	return event.Event{At: event.Now(), Kind: event.Loss, Src: source,
		Loss: &event.LossInfo{Source: source, What: what, Why: err.Error()}}
}

func (s *Service) recordHost() {
	host := hostInfo()
	s.rec.Record(event.Event{At: event.Now(), Kind: event.Host, Src: "service", Host: &host})
}

// hostInfo reads who this host is, from the root that this process sees.
func hostInfo() event.HostInfo {
	var h event.HostInfo
	h.Name, _ = os.Hostname()
	if data, err := os.ReadFile("/etc/machine-id"); err == nil {
		h.MachineID = strings.TrimSpace(string(data))
	}
	h.OS = prettyName()
	return h
}

func prettyName() string {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return runtime.GOOS
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return runtime.GOOS
}
