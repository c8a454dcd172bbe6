package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/rights"
)

// eBPF is the backend whose probes are the programs of package bpf.
type eBPF struct {
	log      *slog.Logger
	interval time.Duration
	kernel   kernel
	programs *programs
	feeds    map[string]bpf.Kind // attached programs, and what they feed
	reader   *ringbuf.Reader
	decoder  decoder
	began    event.Time // of attaching
	attached event.Time // everything from here on is seen

	mu        sync.Mutex
	links     []link.Link // in the order of attaching
	live      link.Link   // nil: not attached
	requests  *requests
	abilities []event.Ability
	upgraded  []event.Event // for Run to deliver
	owned     map[loss]uint64
	ownedSum  uint64 // as of owned
	closed    bool
}

// OpenEBPF loads and attaches the eBPF programs. What it cannot attach on this
// kernel is in the abilities of Info; it fails if it can attach nothing. ctx
// ends the attempt, not the backend.
func OpenEBPF(ctx context.Context, opts Options) (Backend, error) {
	b, err := openEBPF(ctx, opts.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("start eBPF probes: %w", err)
	}
	return b, nil
}

func openEBPF(ctx context.Context, opts Options) (*eBPF, error) {
	if err := checkHost(); err != nil {
		return nil, err
	}
	raiseMemlock()
	b := &eBPF{
		log:      opts.Log,
		interval: opts.LossInterval,
		kernel:   kernel{preempts: opts.preempts()},
		began:    event.Now(),
		feeds:    make(map[string]bpf.Kind),
		owned:    make(map[loss]uint64),
		decoder: decoder{
			cmdline:  cmdline,
			symlinks: make(map[uint32]symlink),
		},
	}
	if err := removeStale(); err != nil {
		b.log.Warn("remove what a killed bootrace has left", "err", err)
	}
	if err := b.load(opts); err != nil {
		return nil, err
	}
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// removeStale removes what processes that were killed have left in the trace
// files.
func removeStale() error {
	dir, err := ftrace.Find()
	if err != nil || !dir.HasProbes() {
		return err
	}
	return dir.RemoveStale()
}

// checkHost finds the reasons that would otherwise hide in an errno.
func checkHost() error {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return fmt.Errorf("%w (%w): it needs CONFIG_DEBUG_INFO_BTF, and sysfs mounted on /sys", ErrNoBTF, err)
	}
	// There the verifier would say that it does not know bpf_probe_read.
	if rights.Lockdown("/") == rights.Confidentiality {
		return fmt.Errorf("%w: kernel lockdown is %q", ErrNotPermitted, rights.Confidentiality)
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

func (b *eBPF) load(opts Options) error {
	spec, err := programsFor(opts)
	if err != nil {
		return err
	}
	if b.programs, err = loadMaps(spec, b.kernel.preempts, !opts.noTaskStorage, opts.Log); err != nil {
		return err
	}
	b.kernel.faultable, b.kernel.uncounted = b.programs.faultable, b.programs.uncounted
	b.reader, err = ringbuf.NewReader(b.programs.coll.Maps[bpf.ProbesMapEvents])
	if err != nil {
		return errors.Join(fmt.Errorf("open ring buffer: %w", err), b.programs.close())
	}
	return nil
}

// programsFor returns the programs for these options, not loaded yet.
func programsFor(opts Options) (*ebpf.CollectionSpec, error) {
	names, err := guestNames(opts.Guests)
	if err != nil {
		return nil, err
	}
	spec, err := bpf.LoadProbes()
	if err != nil {
		return nil, fmt.Errorf("read embedded programs: %w", err)
	}
	spec.Maps[bpf.ProbesMapEvents].MaxEntries = uint32(opts.RingBytes)
	err = errors.Join(
		spec.Variables[bpf.ProbesVarGuestNames].Set(names),
		spec.Variables[bpf.ProbesVarGuestNamesLen].Set(uint32(len(opts.Guests))),
	)
	if err != nil {
		return nil, fmt.Errorf("set names of guest programs: %w", err)
	}
	heads, n := pathHeads(systemDirs)
	if err := errors.Join(spec.Variables[bpf.ProbesVarSystemDirs].Set(heads), spec.Variables[bpf.ProbesVarSystemDirsLen].Set(n)); err != nil {
		return nil, fmt.Errorf("set folders that hold no disks: %w", err)
	}
	if n := opts.roomOfUser; n > 0 {
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
		return fmt.Errorf("%s: %w: run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE; kernel lockdown must not be \"confidentiality\" (%w)", what, ErrNotPermitted, err)
	case isVerifierError(err):
		return fmt.Errorf("%s: the kernel's verifier refuses them, please report it: %w", what, err)
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%s: %w: eBPF with a ring buffer needs Linux 5.8 (%w)", what, ErrNotSupported, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func isVerifierError(err error) bool {
	var v *ebpf.VerifierError
	return errors.As(err, &v) && len(v.Log) > 0
}

// start attaches everything and notes what that gives.
func (b *eBPF) start(ctx context.Context) error {
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
		b.abilities = append(b.abilities, ability)
	}
	if len(reasons) == len(b.abilities) {
		return errors.Join(reasons...)
	}
	b.abilities = append(b.abilities, b.attachLive())
	b.attached = event.Now()
	return nil
}

// begin attaches a family for good, or the one of device-mapper's requests for now.
func (b *eBPF) begin(f family) (limits string, err error) {
	if f.ability == AbilityDM {
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
func (b *eBPF) setMajor() error {
	devices, err := os.ReadFile("/proc/devices")
	if err != nil {
		return err
	}
	major, ok := dmMajor(string(devices))
	if !ok {
		return nil // dm_mod is not loaded
	}
	return b.programs.coll.Variables[bpf.ProbesVarDmMajor].Set(major)
}

// attachLive attaches the probe of the instant at which a table goes live, or
// finds out why it cannot be.
func (b *eBPF) attachLive() event.Ability {
	ability := event.Ability{Name: AbilityDMLiveInstant}
	if !exists("/sys/module/dm_mod") {
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

func (b *eBPF) Info() event.SourceInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.info("attached")
}

func (b *eBPF) info(state string) event.SourceInfo {
	return event.SourceInfo{Name: srcEBPF, State: state, Abilities: slices.Clone(b.abilities)}
}

func (b *eBPF) AddGuest(pid int) error {
	// In nobody's count: the kernel side has not seen it start.
	if err := b.programs.coll.Maps[bpf.ProbesMapGuests].Put(uint32(pid), uint32(0)); err != nil {
		return fmt.Errorf("watch process %d as a guest: %w", pid, err)
	}
	return nil
}

// DeviceMapperLoaded implements Backend.
func (b *eBPF) DeviceMapperLoaded() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	majorErr := b.setMajor()
	changed := b.followRequests()
	i := b.ability(AbilityDMLiveInstant)
	before := b.abilities[i]
	b.abilities[i] = b.attachLive()
	live := &b.abilities[i]
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

func (b *eBPF) ability(name string) int {
	return slices.IndexFunc(b.abilities, func(a event.Ability) bool { return a.Name == name })
}

// followRequests reports whether it changes what is seen of device-mapper's requests.
func (b *eBPF) followRequests() bool {
	missed, err := b.requests.follow()
	if missed {
		b.upgraded = append(b.upgraded, missedRequests(b.requests.seen, event.Now()))
	}
	i := b.ability(AbilityDM)
	before := b.abilities[i]
	b.abilities[i] = event.Ability{Name: AbilityDM, OK: err == nil, Why: b.requests.limits}
	if err != nil {
		b.abilities[i].Why = err.Error()
	}
	return b.abilities[i] != before
}

// followModule looks whether dm_mod was loaded or unloaded, of which nobody may have
// told, and whether probes that it took over from can go now.
func (b *eBPF) followModule() {
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
func (b *eBPF) upgrade(now event.Time) error {
	b.upgraded = append(b.upgraded, b.sourceEvent("upgraded", now, 0))
	if err := b.reader.Flush(); err != nil {
		return fmt.Errorf("wake the reader: %w", err)
	}
	return nil
}

func (b *eBPF) sourceEvent(state string, at, from event.Time) event.Event {
	info := b.info(state)
	return event.Event{At: at, From: from, Kind: event.Source, Src: srcEBPF, Source: &info}
}

// takeUpgraded returns the upgrades that Run has not delivered yet.
func (b *eBPF) takeUpgraded() []event.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	events := b.upgraded
	b.upgraded = nil
	return events
}

// Close detaches and frees everything. Run, if it still runs, fails.
func (b *eBPF) Close() error {
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

func (b *eBPF) Losses() map[string]uint64 {
	losses, err := b.countLosses()
	if err != nil {
		b.log.Warn("count lost events", "err", err)
	}
	sums := make(map[string]uint64)
	for l, n := range losses {
		if l.uid == 0 {
			sums[l.what] += n
		}
	}
	return sums
}

func (b *eBPF) OwnLosses() []event.LossInfo {
	losses, err := b.countLosses()
	if err != nil {
		b.log.Warn("count lost events", "err", err)
	}
	var own []event.LossInfo
	for _, l := range slices.SortedFunc(maps.Keys(losses), compareLosses) {
		if l.uid != 0 {
			own = append(own, event.LossInfo{Source: srcEBPF, What: l.what, Count: losses[l], UID: l.uid})
		}
	}
	return own
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// dmMajor finds the device-mapper's block major in the text of /proc/devices.
func dmMajor(devices string) (major uint32, ok bool) {
	_, block, _ := strings.Cut(devices, "Block devices:")
	for line := range strings.Lines(block) {
		var name string
		if n, _ := fmt.Sscan(line, &major, &name); n == 2 && name == "device-mapper" {
			return major, true
		}
	}
	return 0, false
}

// cmdline reads a process's present arguments.
func cmdline(pid int) ([]byte, error) {
	return os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
}

// loss says which events were lost: of one user, or of anybody.
type loss struct {
	what string
	uid  uint32 // 0: anybody
}

// countLosses reads the programs' counters since the start, and adds what the
// kernel did not even hand to a program.
func (b *eBPF) countLosses() (map[loss]uint64, error) {
	b.mu.Lock() // DeviceMapperLoaded loads a program, at any time
	defer b.mu.Unlock()
	losses := make(map[loss]uint64)
	var counters [bpf.KindMax]uint64
	if err := b.programs.coll.Variables[bpf.ProbesVarLosses].Get(&counters); err != nil {
		return losses, fmt.Errorf("read loss counters: %w", err)
	}
	for kind, n := range counters {
		losses[loss{what: bpf.Kind(kind).String()}] += n
	}
	for name, kind := range b.feeds {
		stats, err := b.programs.loaded[name].Stats()
		if err != nil {
			return losses, fmt.Errorf("read statistics of %s: %w", name, err)
		}
		losses[loss{what: kind.String()}] += stats.RecursionMisses // but see kernel.uncounted
	}
	if err := b.countOwners(); err != nil {
		return losses, err
	}
	for l, n := range b.owned {
		losses[l] += n
	}
	maps.DeleteFunc(losses, func(_ loss, n uint64) bool { return n == 0 })
	return losses, nil
}

// countOwners keeps in b.owned what single users have lost. It looks only when
// that has become more, see bpf/common.h at losses.
func (b *eBPF) countOwners() error {
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
			l := loss{what: bpf.Kind(kind).String()}
			if key != bpf.OwnerRest {
				l.uid = bpf.OwnerUID(key)
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
