package timeline

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// Boot is what a log says about its boot beside the events.
type Boot struct {
	ID     string
	Host   string // name, if the log's first line knew it
	Kernel string // release
	// Current is set while the boot is still being recorded: then a record
	// without an end is no fault.
	Current bool
}

// Options are the thresholds of a Timeline.
type Options struct {
	// NearMiss is the margin below which a success was luck; 0 means
	// DefaultNearMiss.
	NearMiss event.Duration
	// Settle is how long a mapping may be suspended and still count as ready:
	// taking a snapshot suspends its origin for a moment, and an open in that
	// moment only waits. 0 means DefaultSettle.
	Settle event.Duration
}

// The thresholds where Options gives none.
const (
	DefaultNearMiss = time.Second
	DefaultSettle   = time.Second
)

func (o Options) orDefaults() Options {
	if o.NearMiss == 0 {
		o.NearMiss = DefaultNearMiss
	}
	if o.Settle == 0 {
		o.Settle = DefaultSettle
	}
	return o
}

// Build makes a Timeline of all events of a boot.
func Build(boot Boot, opts Options, events iter.Seq[event.Event]) *Timeline {
	b := NewBuilder(boot, opts)
	for e := range events {
		b.Add(&e)
	}
	return b.Timeline()
}

// Builder collects events and makes Timelines of them. It keeps no part of an
// event that it was given. It is not safe for concurrent use.
type Builder struct {
	boot Boot
	opts Options

	names *symbols
	dms   list[dmFact]
	devs  list[devFact]
	links list[linkFact]
	opens list[openFact]
	forks list[forkFact]
	exits list[exitFact]
	holds list[holdFact]
	looks list[lookFact]
	// blocks are the events of all block devices, mappings and others.
	blocks list[blockFact]

	ways   list[wayFact]
	mounts []mountFact

	images   []imageFact
	memories []memoryFact
	insides  []insideFact
	// accepted is what operators made guests' disks.
	accepted []memoryFact

	execs    []execFact
	domains  []domainFact
	policies []policyFact
	lvm      []lvmFact
	sources  []sourceFact
	losses   []Loss
	marks    []Mark
	clock    latest[event.ClockInfo]
	host     latest[event.HostInfo]
	// later are the kinds of events that this version does not know.
	later map[event.Kind]*laterKind

	disks  map[event.Dev]*diskFact
	procs  map[procKey][]*event.Proc
	tables map[string][]string

	count       int
	first, last event.Time
}

// NewBuilder returns a Builder without events.
func NewBuilder(boot Boot, opts Options) *Builder {
	return &Builder{
		boot: boot, opts: opts.orDefaults(), names: newSymbols(),
		disks: map[event.Dev]*diskFact{},
		procs: map[procKey][]*event.Proc{}, tables: map[string][]string{}, later: map[event.Kind]*laterKind{},
	}
}

// Add takes one event, in any order. It does not keep e.
func (b *Builder) Add(e *event.Event) {
	b.span(e)
	switch e.Kind {
	case event.DMCreate, event.DMLoad, event.DMResume, event.DMSuspend, event.DMRename, event.DMRemove:
		b.addDM(e)
	case event.Backfill:
		b.addBackfill(e)
	case event.Uevent, event.Udev:
		b.addDev(e)
	case event.Link:
		b.addLink(e)
	case event.Mount:
		b.addMount(e)
	case event.Way:
		b.addWay(e)
	case event.Open:
		b.addOpen(e)
	case event.Exec:
		b.addExec(e)
	case event.Fork, event.Exit, event.Hold, event.Release:
		b.addProcess(e)
	case event.Domain:
		b.addDomain(e)
	case event.Image:
		b.addImage(e)
	case event.Memory:
		b.addMemory(e)
	case event.Inside:
		b.addInside(e)
	default:
		b.addNote(e)
	}
}

func (b *Builder) span(e *event.Event) {
	if b.count == 0 || e.At < b.first {
		b.first = e.At
	}
	if b.count == 0 || e.At > b.last {
		b.last = e.At
	}
	b.count++
}

func (b *Builder) addDM(e *event.Event) {
	d := e.DM
	if d == nil {
		return
	}
	f := dmFact{
		stamp: stampOf(e), kind: e.Kind,
		name: b.names.add(d.Name), uuid: b.names.add(d.UUID),
		newName: b.names.add(d.NewName), newUUID: b.names.add(d.NewUUID),
		state: b.names.add(d.State), errno: int32(d.Errno), flags: d.Flags,
		size: d.Size, table: b.table(d.Table), by: b.proc(e.Proc),
	}
	if e.Kind == event.DMResume && d.LiveAt != 0 {
		f.stamp = f.exact(d.LiveAt)
	}
	if d.Dev != nil && !d.Dev.IsZero() {
		f.dev, f.hasDev = *d.Dev, true
	}
	b.dms.add(f)
}

func (b *Builder) addBackfill(e *event.Event) {
	switch {
	case e.DM != nil:
		b.addDM(e)
	case e.Dev != nil:
		b.addDev(e)
	case e.Exec != nil:
		b.addExec(e)
	}
}

func (b *Builder) addDev(e *event.Event) {
	d := e.Dev
	if d == nil || d.Dev == nil || (d.Subsystem != "" && d.Subsystem != "block") {
		return
	}
	s := stampOf(e)
	if s.orBefore && d.Initialized != 0 && d.Initialized <= s.at {
		s.from = max(s.from, d.Initialized)
	}
	if e.Kind != event.Backfill && d.Seq != 0 {
		b.blocks.add(blockFact{stamp: s, seq: d.Seq, dev: *d.Dev, done: e.Kind == event.Udev})
	}
	kind := blockdev.DeviceKind(d)
	f := devFact{
		stamp: s, kind: e.Kind, action: b.names.add(d.Action), dev: *d.Dev, device: kind, node: b.names.add(d.Name),
		name: b.names.add(d.Props["DM_NAME"]), since: d.Since, progress: progressOf(e.Kind, d),
		usable: blockdev.UsableBy(d), size: blockdev.Size(d), under: slices.Clone(d.Under), asked: !blockdev.Announces(d),
	}
	if kind == blockdev.Mapping {
		f.uuid = b.names.add(d.Props["DM_UUID"])
	} else {
		f.uuid = b.names.add(blockdev.Identity(d))
		b.addDisk(d, s, e.Kind)
	}
	for _, link := range d.Links {
		f.links = append(f.links, b.names.add(link))
	}
	b.devs.add(f)
}

// progressOf says how far udev is by an event that it has finished with, or by its
// record. Where a snapshot found no record, it is not.
func progressOf(kind event.Kind, d *event.DevInfo) blockdev.Progress {
	unhandled := kind == event.Uevent || kind == event.Backfill && d.Initialized == 0 && d.Props == nil && d.Links == nil
	if unhandled || d.Action == "remove" {
		return blockdev.Coming
	}
	return blockdev.UdevProgress(d)
}

// addDisk keeps when a device was first seen and known.
func (b *Builder) addDisk(d *event.DevInfo, s stamp, kind event.Kind) {
	known := b.disks[*d.Dev]
	if known == nil {
		known = &diskFact{}
		b.disks[*d.Dev] = known
	}
	usable := blockdev.UsableBy(d)
	if blockdev.DeviceKind(d).Removable() {
		usable = blockdev.NotKnown
	}
	known.events = append(known.events, diskEvent{
		stamp: s, name: b.names.add(d.Name), done: kind == event.Udev, removed: d.Action == "remove", pv: d.Props["ID_FS_TYPE"] == "LVM2_member",
		found:  kind == event.Backfill && progressOf(kind, d) == blockdev.Finished,
		usable: usable,
	})
}

func (b *Builder) addLink(e *event.Event) {
	if e.Open == nil || e.Open.Errno != 0 {
		return
	}
	path := linkPath(e.Open.Path)
	b.links.add(linkFact{
		stamp: stampOf(e), path: b.names.add(path),
		target: b.names.add(linkTarget(path, e.Open.Target)),
	})
}

func (b *Builder) addOpen(e *event.Event) {
	o := e.Open
	if o == nil || e.Proc == nil {
		return
	}
	f := openFact{
		stamp: stampOf(e), path: b.names.add(o.Path), kind: b.names.add(o.Type),
		pid: int32(e.Proc.PID), errno: int32(o.Errno), flags: o.Flags,
		repeats: int32(o.Repeats), uid: e.Proc.UID, size: o.Size,
	}
	if o.Dev != nil {
		f.dev, f.hasDev = *o.Dev, true
	}
	b.opens.add(f)
	if vain(o) && !Housekeeper(e.Proc) {
		b.looks.add(lookFact{stamp: f.stamp, path: f.path, errno: f.errno, repeats: f.repeats, by: b.proc(e.Proc)})
	}
}

func (b *Builder) addExec(e *event.Event) {
	if e.Exec == nil || e.Proc == nil {
		return
	}
	f := execFact{
		stamp: stampOf(e), pid: e.Proc.PID, parent: e.Proc.PPID, uid: e.Proc.UID,
		binary: strings.Clone(e.Exec.Filename), guest: guest.Parser{Program: e.Exec.Filename, Watched: true}.Parse(cloned(e.Exec.Args)),
		truncated: e.Exec.Truncated, backfilled: e.Kind == event.Backfill,
	}
	for _, file := range e.Exec.Files {
		if file.Dev != nil {
			f.files = append(f.files, heldFile{b.names.add(file.Path), *file.Dev, file.Size, file.Flags})
		}
	}
	b.execs = append(b.execs, f)
}

func (b *Builder) addProcess(e *event.Event) {
	if e.Proc == nil {
		return
	}
	s, pid := stampOf(e), e.Proc.PID
	switch e.Kind {
	case event.Fork:
		b.forks.add(forkFact{s, pid, e.Proc.PPID})
	case event.Exit:
		if e.Exit != nil {
			b.exits.add(exitFact{s, pid, e.Proc.UID, *e.Exit})
		}
	case event.Hold, event.Release:
		f := holdFact{stamp: s, pid: pid, parent: e.Proc.PPID, release: e.Kind == event.Release}
		if e.Hold != nil {
			f.info = *e.Hold
			f.info.Blockers = cloned(e.Hold.Blockers)
			for _, text := range []*string{&f.info.Guest, &f.info.Identity, &f.info.Disk} {
				*text = strings.Clone(*text)
			}
			f.info.Reason = event.HoldReason(strings.Clone(string(f.info.Reason)))
			f.info.Outcome = event.HoldOutcome(strings.Clone(string(f.info.Outcome)))
		}
		b.holds.add(f)
	}
}

// addDomain takes a call of libvirt's hook. What it does before a start alone
// counts.
func (b *Builder) addDomain(e *event.Event) {
	d := e.Domain
	if d == nil || d.Phase != event.DomainStarts {
		return
	}
	f := domainFact{stamp: stampOf(e), info: event.DomainInfo{
		Name: strings.Clone(d.Name), UUID: strings.Clone(d.UUID), More: d.More, Unknown: cloned(d.Unknown),
	}}
	if e.Proc != nil {
		f.pid = e.Proc.PID
	}
	for i := range d.Disks {
		f.info.Disks = append(f.info.Disks, event.DomainDisk{
			Path: strings.Clone(d.Disks[i].Path), Format: strings.Clone(d.Disks[i].Format), Backing: cloned(d.Disks[i].Backing),
		})
	}
	b.domains = append(b.domains, f)
}

// addNote takes the events about the record itself. Network links have no part in
// a verdict.
func (b *Builder) addNote(e *event.Event) {
	switch {
	case e.Kind == event.Source && e.Source != nil:
		info := *e.Source
		info.Abilities = slices.Clone(info.Abilities)
		b.sources = append(b.sources, sourceFact{stampOf(e), info})
	case e.Kind == event.Loss && e.Loss != nil:
		b.losses = append(b.losses, Loss{stampOf(e).instant(), *e.Loss})
	case e.Kind == event.Mark && e.Mark != nil:
		b.marks = append(b.marks, Mark{stampOf(e).instant(), *e.Mark})
	case e.Kind == event.Clock && e.Clock != nil:
		b.clock.offer(stampOf(e), *e.Clock, e.Clock.Trusted)
	case e.Kind == event.LVM && e.LVM != nil:
		info := *e.LVM
		info.Tags, info.Config, info.PVs = cloned(info.Tags), maps.Clone(info.Config), slices.Clone(info.PVs)
		for i := range info.PVs {
			if dev := info.PVs[i].Dev; dev != nil {
				copied := *dev
				info.PVs[i].Dev = &copied
			}
		}
		b.lvm = append(b.lvm, lvmFact{stampOf(e), info})
	case e.Kind == event.Policy && e.Policy != nil:
		b.policies = append(b.policies, policyFact{stampOf(e), clonePolicy(e.Policy)})
	case e.Kind == event.Host && e.Host != nil:
		b.host.offer(stampOf(e), *e.Host, true)
	case !e.Kind.Known():
		b.addLater(e)
	}
}

// latest keeps the latest of the best values that it is offered.
type latest[T any] struct {
	stamp stamp
	best  bool
	value *T
}

func (l *latest[T]) offer(s stamp, v T, best bool) {
	if l.value == nil || best && !l.best || best == l.best && s.compare(&l.stamp) > 0 {
		l.stamp, l.best, l.value = s, best, &v
	}
}

// procKey finds the processes that are likely to be equal: one vgchange makes
// thousands of mappings.
type procKey struct {
	pid, tid, parent int
	uid              uint32
}

func (b *Builder) proc(p *event.Proc) *event.Proc {
	if p == nil {
		return nil
	}
	key := procKey{p.PID, p.TID, p.PPID, p.UID}
	for _, known := range b.procs[key] {
		if known.Comm == p.Comm && known.Unit == p.Unit && slices.Equal(known.Args, p.Args) {
			return known
		}
	}
	kept := *p
	kept.Comm, kept.Args = strings.Clone(p.Comm), cloned(p.Args)
	b.procs[key] = append(b.procs[key], &kept)
	return &kept
}

// table copies a table; most mappings are loaded with the same one that a
// snapshot finds later.
func (b *Builder) table(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	key := strings.Join(lines, "\n")
	if known := b.tables[key]; known != nil {
		return known
	}
	kept := cloned(lines)
	b.tables[key] = kept
	return kept
}

func cloned(texts []string) []string {
	if texts == nil {
		return nil
	}
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = strings.Clone(t)
	}
	return out
}
