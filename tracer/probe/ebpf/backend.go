// Package ebpf watches a kernel with the programs of package bpf: it finds out what this
// kernel can have attached, loads no more than that, and makes events of the records that
// the programs send. It is the best backend, for kernels from 5.8 on that describe their
// types (BTF): what is nothing to us is dropped in the kernel, and each event has its
// instant to the nanosecond.
//
// The way of one open: the programs of bpf/open.h see it return, and write a record into
// the ring buffer; Run reads it (run.go), the decoder makes an event of it (decode.go),
// asking package syscalls what of it is worth telling, and hands it to emit. A request of
// device-mapper goes the same way from bpf/dm.h. What the kernel could not deliver is
// counted there, and Run makes losses of the counters.
//
// No kernel can do all, and none is asked for its version: each family of probes
// (attach.go) has several ways to attach, which are tried, the cheapest first. Which those
// are depends on whether the kernel preempts itself (preempt.go). Device-mapper is a
// module, and can come and go: requests.go follows it. The layout of the kernel's
// structures is in its types (load.go, package ktypes).
package ebpf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/proc"
	"github.com/bootrace/bootrace/tracer/rights"
)

// Name is the backend's, as the source of its events.
const Name = "ebpf"

// Backend is the programs, attached.
type Backend struct {
	log      *slog.Logger
	interval time.Duration
	kernel   kernel
	programs *programs
	feeds    map[string]bpf.Kind // attached programs, and what they feed
	reader   *ringbuf.Reader
	decoder  decoder
	began    event.Time // of attaching
	attached event.Time // everything from here on is seen

	mu       sync.Mutex
	links    []link.Link // in the order of attaching
	live     link.Link   // nil: not attached
	requests *requests
	status   backend.Status
	owned    map[backend.Loss]uint64
	ownedSum uint64 // as of owned
	closed   bool
}

// asIf has the backend take this kernel for another one. Tests do.
type asIf struct {
	preempts      func() bool // whether the kernel preempts itself
	noTaskStorage bool        // it keeps nothing with tasks
	roomOfUser    uint32      // what one user may have in the programs' maps, if not 0
}

// Open loads and attaches the eBPF programs. What it cannot attach on this
// kernel is in the abilities of Info; it fails if it can attach nothing. ctx
// ends the attempt, not the backend.
func Open(ctx context.Context, opts backend.Options) (*Backend, error) {
	return openAs(ctx, opts, asIf{})
}

func openAs(ctx context.Context, opts backend.Options, as asIf) (*Backend, error) {
	b, err := open(ctx, opts.WithDefaults(), as)
	if err != nil {
		return nil, fmt.Errorf("start eBPF probes: %w", err)
	}
	return b, nil
}

func open(ctx context.Context, opts backend.Options, as asIf) (*Backend, error) {
	if err := checkHost(); err != nil {
		return nil, err
	}
	raiseMemlock()
	if as.preempts == nil {
		as.preempts = func() bool { return preempts(opts.Log) }
	}
	b := &Backend{
		log:      opts.Log,
		interval: opts.LossInterval,
		kernel:   kernel{preempts: as.preempts()},
		began:    event.Now(),
		feeds:    make(map[string]bpf.Kind),
		status:   backend.Status{Source: Name},
		owned:    make(map[backend.Loss]uint64),
		decoder:  decoder{cmdline: cmdline},
	}
	if err := ftrace.RemoveStale(); err != nil {
		b.log.Warn("remove what a killed bootrace has left", "err", err)
	}
	if err := b.load(opts, as); err != nil {
		return nil, err
	}
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// checkHost finds the reasons that would otherwise hide in an errno.
func checkHost() error {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return fmt.Errorf("%w (%w): it needs CONFIG_DEBUG_INFO_BTF, and sysfs mounted on /sys", backend.ErrNoBTF, err)
	}
	// There the verifier would say that it does not know bpf_probe_read.
	if rights.Lockdown("/") == rights.Confidentiality {
		return fmt.Errorf("%w: kernel lockdown is %q", backend.ErrNotPermitted, rights.Confidentiality)
	}
	if err := ensureTracefs(); err != nil {
		return err
	}
	return nil
}

// raiseMemlock has maps not count against the limit of locked memory, as they do before
// Linux 5.11. Where it may not be raised and is too low, making them fails, and says so.
// The library's own way asks bpf(2) as each program starts, which taints some kernels
// without BTF: RHEL 7.6 to 7.9.
func raiseMemlock() {
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
}

func (b *Backend) load(opts backend.Options, as asIf) error {
	spec, err := programsFor(opts, as.roomOfUser)
	if err != nil {
		return err
	}
	if b.programs, err = loadMaps(spec, b.kernel.preempts, !as.noTaskStorage, opts.Log); err != nil {
		return err
	}
	b.kernel.faultable, b.kernel.uncounted = b.programs.faultable, b.programs.uncounted
	b.reader, err = ringbuf.NewReader(b.programs.coll.Maps[bpf.ProbesMapEvents])
	if err != nil {
		return errors.Join(fmt.Errorf("open ring buffer: %w", err), b.programs.close())
	}
	return nil
}

// programsFor returns the programs for these options, not loaded yet. roomOfUser is what
// one user may have in their maps, 0 for what they are made for.
func programsFor(opts backend.Options, roomOfUser uint32) (*ebpf.CollectionSpec, error) {
	if err := opts.CheckGuests(); err != nil {
		return nil, err
	}
	spec, err := bpf.LoadProbes()
	if err != nil {
		return nil, fmt.Errorf("read embedded programs: %w", err)
	}
	spec.Maps[bpf.ProbesMapEvents].MaxEntries = uint32(opts.RingBytes)
	err = errors.Join(
		spec.Variables[bpf.ProbesVarGuestNames].Set(guestNames(opts.Guests)),
		spec.Variables[bpf.ProbesVarGuestNamesLen].Set(uint32(len(opts.Guests))),
	)
	if err != nil {
		return nil, fmt.Errorf("set names of guest programs: %w", err)
	}
	heads, n := pathHeads(event.SystemDirs())
	if err := errors.Join(spec.Variables[bpf.ProbesVarSystemDirs].Set(heads), spec.Variables[bpf.ProbesVarSystemDirsLen].Set(n)); err != nil {
		return nil, fmt.Errorf("set folders that hold no disks: %w", err)
	}
	if n := roomOfUser; n > 0 {
		if err := errors.Join(spec.Variables[bpf.ProbesVarGuestsOfUser].Set(n), spec.Variables[bpf.ProbesVarCallsOfUser].Set(n)); err != nil {
			return nil, fmt.Errorf("set the room of one user: %w", err)
		}
	}
	return spec, nil
}

// explain turns what the kernel answered into what to do about it.
func explain(what string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES) && !isVerifierError(err):
		return fmt.Errorf("%s: %w: run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE; kernel lockdown must not be \"confidentiality\" (%w)", what, backend.ErrNotPermitted, err)
	case isVerifierError(err):
		return fmt.Errorf("%s: the kernel's verifier refuses them, please report it: %w", what, err)
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%s: %w: eBPF with a ring buffer needs Linux 5.8 (%w)", what, backend.ErrNotSupported, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func isVerifierError(err error) bool {
	var v *ebpf.VerifierError
	return errors.As(err, &v) && len(v.Log) > 0
}

// start attaches everything and notes what that gives.
func (b *Backend) start(ctx context.Context) error {
	if err := b.setMajor(); err != nil {
		b.log.Warn("device-mapper's major is not known yet", "err", err)
	}
	var reasons []error
	for _, f := range b.kernel.families() {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("attach probes: %w", context.Cause(ctx))
		}
		limits, err := b.begin(f)
		ability := event.Ability{Name: f.ability, OK: err == nil, Why: limits}
		if err != nil {
			ability.Why = err.Error()
			reasons = append(reasons, err)
		}
		b.status.Abilities = append(b.status.Abilities, ability)
	}
	if len(reasons) == len(b.status.Abilities) {
		return errors.Join(reasons...)
	}
	b.status.Abilities = append(b.status.Abilities, b.attachLive())
	b.attached = event.Now()
	return nil
}

// begin attaches a family for good, or the one of device-mapper's requests for now.
func (b *Backend) begin(f family) (limits string, err error) {
	if f.ability == backend.AbilityDM {
		b.requests = b.newRequests(f)
		_, err := b.requests.follow()
		return b.requests.limits, err
	}
	links, limits, err := b.attach(f)
	b.links = append(b.links, links...)
	return limits, err
}

// setMajor tells the kernel side what it otherwise learns from the first
// device-mapper request that succeeds.
func (b *Backend) setMajor() error {
	major := devmap.Major("/")
	if major == 0 {
		return nil // dm_mod is not loaded, or /proc is out of sight
	}
	if err := b.programs.coll.Variables[bpf.ProbesVarDmMajor].Set(major); err != nil {
		return fmt.Errorf("set device-mapper's major number: %w", err)
	}
	return nil
}

// attachLive attaches the probe of the instant at which a table goes live, or
// finds out why it cannot be.
func (b *Backend) attachLive() event.Ability {
	ability := event.Ability{Name: backend.AbilityDMLiveInstant}
	if !devmap.ModuleLoaded() {
		ability.Why = "dm_mod is not loaded yet"
		return ability
	}
	l, err := b.attachOne(attachment{name: "dm_mod", program: bpf.ProbesProgLive, attach: probeLive})
	switch {
	case err == nil:
		ability.OK = true
		if b.live != nil { // of a module that has been unloaded since
			err = b.live.Close()
		}
		if err != nil {
			b.log.Warn("detach earlier probe of dm_mod", "err", err)
		}
		b.live = l
	case !exists("/sys/bus/event_source/devices/kprobe") && errors.Is(err, os.ErrNotExist):
		ability.Why = "kernel has no kprobes (CONFIG_KPROBE_EVENTS)"
	default:
		ability.Why = err.Error()
	}
	return ability
}

// bodies are where the first instruction of a function can be, after the place
// that ftrace patches, on x86-64: without and with an endbr64 before it. The
// kernel refuses the wrong one.
var bodies = []uint64{5, 9}

// probeLive attaches to dm_kobject_uevent, in its body: at its beginning, as at
// the return of dm_resume, the kernel makes a kprobe of ftrace, and walks over
// all its functions for that.
func probeLive(p *ebpf.Program, _ string) (link.Link, error) {
	for _, offset := range bodies {
		if l, err := link.Kprobe("dm_kobject_uevent", p, &link.KprobeOptions{Offset: offset}); err == nil {
			return l, nil
		}
	}
	return link.Kretprobe("dm_resume", p, nil)
}

// Info implements probe.Backend.
func (b *Backend) Info() event.SourceInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status.Info(backend.Attached)
}

// AddGuest implements probe.Backend.
func (b *Backend) AddGuest(pid int) error {
	// In nobody's count: the kernel side has not seen it start.
	if err := b.programs.coll.Maps[bpf.ProbesMapGuests].Put(uint32(pid), uint32(0)); err != nil {
		return fmt.Errorf("watch process %d as a guest: %w", pid, err)
	}
	return nil
}

// DeviceMapperLoaded implements probe.Backend.
func (b *Backend) DeviceMapperLoaded() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	majorErr := b.setMajor()
	changed := b.followRequests()
	live := b.status.Ability(backend.AbilityDMLiveInstant)
	before := *live
	*live = b.attachLive()
	if !live.OK {
		err := fmt.Errorf("attach to dm_mod: %s", live.Why)
		if changed || live.Why != before.Why { // such as: the kernel has no kprobes
			err = errors.Join(err, b.upgrade(event.Now()))
		}
		return err
	}
	now := event.Now()
	if before.OK {
		live.Why = before.Why
	} else {
		live.Why = fmt.Sprintf("from %.3f s after the boot on, when dm_mod had been loaded; what went live before is known as a window as wide as the request", now.Seconds())
	}
	if changed || !before.OK {
		return errors.Join(majorErr, b.upgrade(now))
	}
	return majorErr
}

// followRequests reports whether it changes what is seen of device-mapper's requests.
func (b *Backend) followRequests() bool {
	missed, err := b.requests.follow()
	if missed {
		b.status.Tell(missedRequests(b.requests.seen, event.Now()))
	}
	dm := b.status.Ability(backend.AbilityDM)
	before := *dm
	*dm = event.Ability{Name: backend.AbilityDM, OK: err == nil, Why: b.requests.limits}
	if err != nil {
		dm.Why = err.Error()
	}
	return *dm != before
}

// followModule looks whether dm_mod was loaded or unloaded, of which nobody may have
// told, and whether probes that it took over from can go now.
func (b *Backend) followModule() {
	b.mu.Lock()
	due := !b.closed && b.requests.due(event.Now())
	leaving := due && b.requests.leaving()
	if leaving {
		due = b.followRequests()
	}
	b.mu.Unlock()
	if !due {
		return
	}
	if err := b.DeviceMapperLoaded(); err != nil {
		b.log.Info("dm_mod was loaded or unloaded", "err", err)
	}
}

// upgrade has Run deliver the abilities as they are from now on.
func (b *Backend) upgrade(now event.Time) error {
	b.status.Upgrade(now)
	if err := b.reader.Flush(); err != nil {
		return fmt.Errorf("wake the reader: %w", err)
	}
	return nil
}

// takeUpgraded returns the upgrades that Run has not delivered yet.
func (b *Backend) takeUpgraded() []event.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status.Take()
}

// Close detaches and frees everything. Run, if it still runs, fails.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	links := b.links
	if b.live != nil {
		links = append(links, b.live)
	}
	b.links, b.live, b.closed = nil, nil, true
	var err error
	if b.requests != nil {
		err = b.requests.close()
	}
	return errors.Join(err, closeLinks(links), b.reader.Close(), b.programs.close())
}

// closeLinks detaches in reverse order: an entry before its exit, so that no
// call is left waiting for its exit.
func closeLinks(links []link.Link) error {
	var errs []error
	for _, l := range slices.Backward(links) {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// Losses implements probe.Backend.
func (b *Backend) Losses() map[string]uint64 {
	losses, err := b.countLosses()
	if err != nil {
		b.log.Warn("count lost events", "err", err)
	}
	sums := make(map[string]uint64)
	for l, n := range losses {
		if l.UID == 0 {
			sums[l.What] += n
		}
	}
	return sums
}

// OwnLosses implements probe.Backend.
func (b *Backend) OwnLosses() []event.LossInfo {
	losses, err := b.countLosses()
	if err != nil {
		b.log.Warn("count lost events", "err", err)
	}
	var own []event.LossInfo
	for _, l := range slices.SortedFunc(maps.Keys(losses), backend.CompareLosses) {
		if l.UID != 0 {
			own = append(own, event.LossInfo{Source: Name, What: l.What, Count: losses[l], UID: l.UID})
		}
	}
	return own
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// cmdline reads a process's present arguments.
func cmdline(pid int) ([]byte, error) {
	return os.ReadFile(proc.Path(pid, "cmdline"))
}

// countLosses reads the programs' counters since the start, and adds what the
// kernel did not even hand to a program.
func (b *Backend) countLosses() (map[backend.Loss]uint64, error) {
	b.mu.Lock() // DeviceMapperLoaded loads a program, at any time
	defer b.mu.Unlock()
	losses := make(map[backend.Loss]uint64)
	var counters [bpf.KindMax]uint64
	if err := b.programs.coll.Variables[bpf.ProbesVarLosses].Get(&counters); err != nil {
		return losses, fmt.Errorf("read loss counters: %w", err)
	}
	for kind, n := range counters {
		losses[backend.Loss{What: bpf.Kind(kind).String()}] += n
	}
	for name, kind := range b.feeds {
		stats, err := b.programs.loaded[name].Stats()
		if err != nil {
			return losses, fmt.Errorf("read statistics of %s: %w", name, err)
		}
		losses[backend.Loss{What: kind.String()}] += stats.RecursionMisses // but see kernel.uncounted
	}
	if err := b.countOwners(); err != nil {
		return losses, err
	}
	for l, n := range b.owned {
		losses[l] += n
	}
	maps.DeleteFunc(losses, func(_ backend.Loss, n uint64) bool { return n == 0 })
	return losses, nil
}

// countOwners keeps in b.owned what single users have lost. It looks only when
// that has become more, see bpf/common.h at losses.
func (b *Backend) countOwners() error {
	var sum uint64
	if err := b.programs.coll.Variables[bpf.ProbesVarOwnersLost].Get(&sum); err != nil {
		return fmt.Errorf("read the loss counter of users: %w", err)
	}
	if sum == b.ownedSum {
		return nil
	}
	var key uint32
	var owner bpf.Owner
	owners := b.programs.coll.Maps[bpf.ProbesMapOwners].Iterate()
	for owners.Next(&key, &owner) {
		for kind, n := range owner.Lost {
			l := backend.Loss{What: bpf.Kind(kind).String()}
			if key != bpf.OwnerRest {
				l.UID = bpf.OwnerUID(key)
			}
			if n > 0 {
				b.owned[l] = n
			}
		}
	}
	if err := owners.Err(); err != nil {
		return fmt.Errorf("read the losses of users: %w", err)
	}
	b.ownedSum = sum
	return nil
}
