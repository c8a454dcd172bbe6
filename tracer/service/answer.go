package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/hold"
)

// Status is what a running service says of itself. Its JSON form is printed
// by `bootrace status --format json`; what ends in _ns is nanoseconds since the
// boot. exporters/json/schema.json describes it.
type Status struct {
	PID     int         `json:"pid"`
	Version string      `json:"version"`
	Build   string      `json:"build"`
	Mode    config.Mode `json:"mode"`
	// Early is set while it is an instance from the initramfs that nobody has
	// adopted.
	Early bool `json:"early,omitempty"`
	// FromInitramfs is set if it was started there.
	FromInitramfs bool `json:"from_initramfs,omitempty"`
	// InitramfsVersion is the version in the initramfs, where that is another build
	// than this one, and was seen to be at this boot.
	InitramfsVersion string `json:"initramfs_version,omitempty"`

	BootID string     `json:"boot_id"`
	Start  event.Time `json:"start_ns"`
	Ready  event.Time `json:"ready_ns"` // 0: not yet
	Log    string     `json:"log"`      // path of this boot's log
	// LogErr says why nothing can be written to the log at the moment: the
	// disk failed, or the log has reached its largest size. Events then wait in
	// memory, or are counted in Lost.
	LogErr string `json:"log_error,omitempty"`
	// LogRefused says why a log of this boot that was there was not continued: it
	// was set aside, and a new one begun, or it stays where it is in memory.
	LogRefused string `json:"log_refused,omitempty"`
	// LogRestored is how often the log's file, or its folder, was removed while it
	// was being written, and was put back.
	LogRestored int `json:"log_restored,omitempty"`
	// ConfigErr says why the configuration file is not used, and what holds
	// instead.
	ConfigErr string `json:"config_error,omitempty"`

	Sources []event.SourceInfo `json:"sources"`
	// Events counts what was recorded, by kind.
	Events map[event.Kind]uint64 `json:"events"`
	// Lost counts what was missed in the kernel, by what it was, or could not
	// be stored: log.
	Lost map[string]uint64 `json:"lost,omitempty"`
	// OverShare is what is missing of single users and guests alone, who had used up
	// their share of the kernel's buffers or of the log. What is look was opens by
	// programs that are no known guests: no guest is in doubt for these, and of
	// users other than root they leave the outcome of the boot as it is.
	OverShare []event.LossInfo `json:"over_share,omitempty"`
	// Settled is when the boot last settled, 0: not yet.
	Settled event.Time `json:"settled_ns"`
	// Hold is what enforce mode does now. HoldErr says why it does nothing,
	// although the mode is enforce.
	Hold    *hold.Status `json:"hold,omitempty"`
	HoldErr string       `json:"hold_error,omitempty"`
}

// mostShares bounds Status.OverShare.
const mostShares = 128

// status waits for nothing that can take long, such as a disk: whoever asks wants to
// know what is wrong.
func (s *Service) status() Status {
	s.mu.Lock()
	probes, ready, early := s.probes, s.ready, s.early
	configErr, logRefused, logRestored := s.configErr, s.logRefused, s.logRestored
	s.mu.Unlock()
	st := Status{
		PID: os.Getpid(), Version: s.opts.Version, Build: s.build, Mode: s.config().Mode,
		Early: early, FromInitramfs: s.opts.Early, InitramfsVersion: s.opts.Replaced, BootID: s.bootID, Start: s.start, Ready: ready, Log: s.writer.Path(),
		Sources: s.rec.Sources(), Events: s.rec.Counts(), Lost: map[string]uint64{},
		Settled: event.Time(s.settling.last.Load()),

		ConfigErr: configErr, LogRefused: logRefused, LogRestored: logRestored,
	}
	if probes != nil {
		maps.Copy(st.Lost, probes.Losses())
		st.OverShare = probes.OwnLosses()
	}
	st.OverShare = append(st.OverShare, s.writer.OwnLosses()...)
	st.OverShare = st.OverShare[:min(len(st.OverShare), mostShares)]
	if err := s.writer.Err(); err != nil {
		st.LogErr = err.Error()
	}
	if n := s.writer.Dropped(); n > 0 {
		st.Lost["log"] = n
	}
	holder, why := s.enforcer.holder()
	st.HoldErr = why
	if holder != nil {
		held := holder.Status()
		st.Hold = &held
	}
	if st.Hold != nil || s.hooks.used() {
		if st.Hold == nil { // libvirt's hook waits without the kernel's help
			st.Hold = &hold.Status{Holds: []hold.Held{}}
		}
		s.hooks.add(st.Hold)
		st.Hold.Bound()
	}
	return st
}

// longestStep bounds what is recorded of one step of a repair, in bytes.
const longestStep = 2000

// answer is the control socket's handler.
func (s *Service) answer(ctx context.Context, pid int, r control.Request) (any, error) {
	switch r.Do {
	case control.Status:
		return s.status(), nil
	case control.Sync:
		return nil, s.writer.Sync(ctx)
	case control.Relinquish:
		return nil, s.relinquish()
	case control.Adopt:
		return nil, s.adopt(ctx, pid, r.Args)
	case control.Release:
		return s.enforcer.release(r.Args["guest"])
	case control.Policy:
		s.domain(pid, r.Args["domain"])
		return s.startPolicy(r.Args["name"], r.Args["uuid"]), nil
	case control.Disks:
		return s.disksOf(r.Args["guest"])
	case control.Accept:
		return s.accept(r.Args["guest"], r.Args["disk"])
	case control.Repair:
		text := r.Args["text"]
		s.rec.Record(mark("repair", strings.ToValidUTF8(text[:min(len(text), longestStep)], "")))
		return nil, nil
	case control.HookHeld:
		return nil, s.hookOver(pid, r.Args)
	case control.HookHold:
		return s.hooks.wait(ctx, pid, r.Args["start"])
	case control.Stop:
		s.rec.Record(mark("asked to stop", r.Args["why"]))
		s.stop()
		return nil, nil
	}
	return nil, fmt.Errorf("request %q is not known to this version", r.Do)
}

// openLog continues or begins this boot's log: in the state folder, unless it
// is too early to know that /var is there.
func (s *Service) openLog(ctx context.Context) error {
	w, err := s.newWriter()
	var locked *bootlog.LockedError
	if err != nil && !errors.As(err, &locked) {
		s.setAside(err)
		w, err = s.newWriter()
	}
	if err != nil {
		return err
	}
	s.writer = w
	if found := w.Recovered(); found.LastID > 0 {
		w.Append(&event.Event{At: event.Now(), From: found.LastAt, Kind: event.Loss, Src: "service",
			Loss: &event.LossInfo{Source: "service", What: "all", Why: "bootrace did not run", Recovered: true}})
	}
	if s.opts.Early || (s.opts.VolatileFirst && !exists(filepath.Join(s.opts.RunDir, flushed))) {
		return nil
	}
	if err := w.MoveTo(ctx, s.opts.StateDir); err != nil {
		s.staysInMemory(err)
		s.log.Error("the log of this boot stays in memory", "folder", s.opts.RunDir, "error", err)
		return nil
	}
	s.roster.Opened(s.opts.StateDir)
	return nil
}

func (s *Service) newWriter() (*bootlog.Writer, error) {
	return bootlog.NewWriter(bootlog.WriterOptions{
		Header: header(s.opts.Version),
		Dirs:   []string{s.opts.StateDir, s.opts.RunDir},
		Logger: s.log,

		MaxSize: int64(s.config().MaxLogSize),
	})
}

func header(version string) bootlog.Header {
	h := bootlog.Header{BootID: bootlog.CurrentBootID(), Program: version, Started: event.Now()}
	h.HostName, _ = os.Hostname()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel, h.Machine = unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
	}
	return h
}

// rotate compresses the logs of earlier boots and thins them out.
func (s *Service) rotate(ctx context.Context) {
	store, limits := s.store()
	if err := store.Rotate(ctx, limits); err != nil {
		s.log.Warn("old boots are not thinned out", "error", err)
	}
}

// thin removes boots that are too many. It does not wait for the time to
// rotate: a host may never run that long.
func (s *Service) thin() {
	store, limits := s.store()
	if err := store.Thin(limits); err != nil {
		s.log.Warn("old boots are not thinned out", "error", err)
	}
}

func (s *Service) store() (bootlog.Store, bootlog.Limits) {
	return bootlog.Store{Dirs: []string{s.opts.StateDir, s.opts.RunDir}, Current: s.bootID},
		bootlog.Limits{Boots: s.config().KeepBoots, Bytes: int64(s.config().KeepSize)}
}

// relinquish ends the log, so that it doesn't keep /var busy.
func (s *Service) relinquish() error {
	s.rec.Record(mark("relinquish", "the host goes down"))
	return errors.Join(s.memory.Close(), s.writer.Close())
}

// adopt makes an instance from the initramfs the service of the unit that
// process pid belongs to, and env the environment.
func (s *Service) adopt(ctx context.Context, pid int, env map[string]string) error {
	select {
	case <-s.attached:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.early {
		return fmt.Errorf("process %d is the service already", os.Getpid())
	}
	s.findRoot()
	if err := joinCgroups(pid); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		s.log.Warn("may be chosen when memory runs out", "error", err)
	}
	if err := joinUnit(env); err != nil {
		s.log.Warn("systemd does not watch over this process", "error", err)
	}
	s.early = false
	close(s.adopted)
	s.rec.Record(mark("adopted", ""))
	s.share(ctx)
	s.recordHost()
	if cfg, err := s.opts.Config(); err != nil {
		s.configErr = err.Error() + ": what the initramfs had stays" // s.mu is held
		s.log.Error("the configuration is not used, what the initramfs had stays", "error", err)
	} else {
		s.configErr = "" // s.mu is held
		s.take(&cfg)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil || !os.IsNotExist(err)
}
