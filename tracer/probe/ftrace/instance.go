package ftrace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Options configure an instance.
type Options struct {
	// BufferKB is the size of each processor's buffer.
	BufferKB int
	// Clock forces a trace clock; empty takes the best.
	Clock Clock
}

// Instance is a trace of our own: its events, filters, clock and buffers. On a
// kernel without instances it is the one there is, if nobody uses it.
type Instance struct {
	root     Dir
	dir      Dir
	group    string // of our kprobe events
	features features
	clock    Clock
	restore  []setting // of a trace that is not our own
	defined  []definedEvent
	enabled  []string // files, in the order of enabling
	formats  map[uint16]*Format
	pipes    []*pipe
	pageSize int
}

// setting is what a file held.
type setting struct{ file, value string }

type pipe struct {
	cpu string // the folder's name
	fd  int
}

// Open makes an instance. RemoveStale comes before it: without instances, what a
// process that was killed has left would be taken for somebody who is tracing.
func (d Dir) Open(o Options) (*Instance, error) {
	me, err := self()
	if err != nil {
		return nil, fmt.Errorf("name a trace instance: %w", err)
	}
	if !d.HasProbes() {
		return nil, ErrNoKprobes
	}
	// Under lockdown this is not permitted; to make an instance is "invalid" there.
	if _, err := d.defined(func(string) bool { return false }); err != nil {
		return nil, permission(err)
	}
	i := &Instance{root: d, group: me.String(), features: d.features(), formats: map[uint16]*Format{}, pageSize: os.Getpagesize()}
	if err := i.makeDir(); err != nil {
		return nil, err
	}
	if err := i.setUp(o); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

// HasProbes reports whether the kernel has kprobe events.
func (d Dir) HasProbes() bool { return d.Has(probesFile) }

const instancesDir = "instances"

// makeDir makes the folder of the instance.
func (i *Instance) makeDir() error {
	if !i.root.Has(instancesDir) {
		return i.borrow()
	}
	dir := Dir(i.root.path(instancesDir, i.group))
	// A second backend of this process has a name of its own.
	for n := 2; ; n++ {
		err := os.Mkdir(string(dir), 0o750)
		if err == nil {
			i.dir, i.group = dir, filepath.Base(string(dir))
			return nil
		}
		if !errors.Is(err, fs.ErrExist) || n > 64 {
			return fmt.Errorf("make a trace instance: %w", permission(err))
		}
		dir = Dir(i.root.path(instancesDir, i.group+"_"+strconv.Itoa(n)))
	}
}

func permission(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w (%w)", ErrNotPermitted, err)
	}
	return err
}

// borrow takes the kernel's only trace.
func (i *Instance) borrow() error {
	i.dir = i.root
	for file, idle := range map[string]string{"current_tracer": "nop", "set_event": ""} {
		text, err := os.ReadFile(i.dir.path(file))
		if err != nil {
			return permission(err)
		}
		if strings.TrimSpace(string(text)) != idle {
			return ErrBusy
		}
	}
	return nil
}

func (i *Instance) own() bool { return i.dir != i.root }

func (i *Instance) setUp(o Options) error {
	text, err := os.ReadFile(i.root.path("trace_clock"))
	if err != nil {
		return fmt.Errorf("read the trace clocks: %w", permission(err))
	}
	if i.clock = o.Clock; i.clock == "" {
		i.clock = chooseClock(clocks(string(text)))
	}
	if err := i.set("trace_clock", string(i.clock)); err != nil {
		return err
	}
	// Before Linux 6.7 the kernel forgets that it would have enlarged its main trace
	// for whoever is the first to use it, once any trace has been given a size
	// (ring_buffer_expanded): others would find room for some dozens of records.
	// Who asks for events, even for none, has it enlarged now.
	if err := write(i.dir.path("set_event"), "\n"); err != nil {
		return fmt.Errorf("enlarge the main trace: %w", permission(err))
	}
	if err := i.set("buffer_size_kb", strconv.Itoa(o.BufferKB)); err != nil {
		return err
	}
	if err := i.set("tracing_on", "1"); err != nil {
		return err
	}
	return i.openPipes()
}

// set writes a setting, and remembers what it was where it is not ours.
func (i *Instance) set(file, value string) error {
	if !i.own() {
		old, err := os.ReadFile(i.dir.path(file))
		if err != nil {
			return err
		}
		i.restore = append(i.restore, setting{file, present(string(old))})
	}
	if err := write(i.dir.path(file), value); err != nil {
		return fmt.Errorf("set %s of a trace instance to %s: %w", file, value, permission(err))
	}
	return nil
}

// present is the present value in what a file shows: "[local] global", or
// "7 (expanded: 1408)".
func present(text string) string {
	if _, rest, ok := strings.Cut(text, "["); ok {
		name, _, _ := strings.Cut(rest, "]")
		return name
	}
	value, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	return value
}

func (i *Instance) openPipes() error {
	cpus, err := filepath.Glob(i.dir.path("per_cpu", "cpu*"))
	if err != nil || len(cpus) == 0 {
		return errors.Join(errors.New("a trace instance has no buffers"), err)
	}
	for _, cpu := range cpus {
		path := filepath.Join(cpu, "trace_pipe_raw")
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, permission(err))
		}
		i.pipes = append(i.pipes, &pipe{filepath.Base(cpu), fd})
	}
	return nil
}

// Clock is the instance's trace clock.
func (i *Instance) Clock() Clock { return i.clock }

// UserMemory is how to fetch from a task's memory on this kernel.
func (i *Instance) UserMemory() UserMemory { return UserMemory{i.features.user} }

// SeesReturns reports whether the kernel keeps room for as many returns as we
// ask for. Where it doesn't, some are missed.
func (i *Instance) SeesReturns() bool { return i.features.active > 0 }

// Define makes a kprobe event. It is not on yet.
func (i *Instance) Define(p Probe) error { return i.DefineAll([]Probe{p}) }

// DefineAll makes kprobe events, all or none, with as few writes as the kernel
// allows. They are not on yet.
func (i *Instance) DefineAll(probes []Probe) error {
	err := i.root.defineAll(i.group, i.features.active, probes)
	for _, p := range probes {
		if err == nil && p.Filter != "" {
			err = i.filter(i.group, p.Name, p.Filter)
		}
	}
	if err != nil {
		return errors.Join(err, i.root.undefineAny(i.group, probes))
	}
	for _, p := range probes {
		i.defined = append(i.defined, definedEvent{i.group, p.Name})
	}
	return nil
}

// EnableAll turns all of the defined events on, in the order in which they were
// defined.
func (i *Instance) EnableAll() error {
	for _, e := range i.defined {
		format, err := i.format(e.group, e.name)
		if err != nil {
			return err
		}
		i.formats[format.ID] = format
	}
	file := i.dir.path("events", i.group, "enable")
	if err := write(file, "1"); err != nil {
		return fmt.Errorf("turn the probes on: %w", permission(err))
	}
	i.enabled = append(i.enabled, file)
	return nil
}

// Undefine turns a kprobe event off and removes it.
func (i *Instance) Undefine(name string) error {
	file := i.eventFile(i.group, name, "enable")
	if err := write(file, "0"); err != nil {
		return fmt.Errorf("turn probe %s off: %w", name, err)
	}
	e := definedEvent{i.group, name}
	i.enabled = slices.DeleteFunc(i.enabled, func(f string) bool { return f == file })
	i.defined = slices.DeleteFunc(i.defined, func(d definedEvent) bool { return d == e })
	return i.root.undefine([]definedEvent{e})
}

// Enable turns one of the defined events on.
func (i *Instance) Enable(name string) error { return i.EnableEvent(i.group, name, "") }

// EnableEvent turns an event of the kernel on, where the filter, if any, agrees.
func (i *Instance) EnableEvent(group, name, filter string) error {
	format, err := i.format(group, name)
	if err != nil {
		return err
	}
	if filter != "" {
		if err := i.filter(group, name, filter); err != nil {
			return err
		}
	}
	file := i.eventFile(group, name, "enable")
	if err := write(file, "1"); err != nil {
		return fmt.Errorf("turn event %s/%s on: %w", group, name, permission(err))
	}
	i.formats[format.ID] = format
	i.enabled = append(i.enabled, file)
	return nil
}

func (i *Instance) filter(group, name, filter string) error {
	if err := write(i.eventFile(group, name, "filter"), filter); err != nil {
		return fmt.Errorf("filter event %s/%s: %w", group, name, permission(err))
	}
	return nil
}

func (i *Instance) eventFile(group, name, file string) string {
	return i.dir.path("events", group, name, file)
}

func (i *Instance) format(group, name string) (*Format, error) {
	text, err := os.ReadFile(i.eventFile(group, name, "format"))
	if err != nil {
		return nil, fmt.Errorf("read the format of event %s/%s: %w", group, name, permission(err))
	}
	return parseFormat(string(text))
}

// Read calls each for the records that are there, one processor after the
// other, and returns how many are known to be missing between them. A record
// is valid during the call only.
func (i *Instance) Read(each func(*Record)) (missed uint64, err error) {
	page := make([]byte, i.pageSize)
	for _, p := range i.pipes {
		n, err := i.readPages(p.read, page, each)
		missed += n
		if err != nil {
			return missed, fmt.Errorf("read the trace buffer of %s: %w", p.cpu, err)
		}
	}
	return missed, nil
}

func (p *pipe) read(page []byte) (int, error) { return unix.Read(p.fd, page) }

func (i *Instance) readPages(read func(page []byte) (int, error), page []byte, each func(*Record)) (missed uint64, err error) {
	for {
		n, err := read(page)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN), err == nil && n == 0:
			return missed, nil
		case errors.Is(err, unix.ENODEV):
			// Since Linux 4.13: the processor has not been started since the instance
			// was made. It gets its buffer when it is.
			return missed, nil
		case err != nil:
			return missed, err
		}
		m, err := parsePage(page[:n], func(time uint64, data []byte) {
			if r := i.record(time, data); r != nil {
				each(r)
			}
		})
		missed += m
		if err != nil {
			return missed, err
		}
	}
}

// record gives data its format; nil for an event that is not of ours.
func (i *Instance) record(time uint64, data []byte) *Record {
	r := &Record{Time: time, data: data}
	for _, f := range i.formats {
		// The common header is the same in all formats.
		r.Format = f
		break
	}
	if r.Format == nil {
		return nil
	}
	r.TID = int(r.Int("common_pid"))
	r.Format = i.formats[uint16(r.Uint("common_type"))]
	if r.Format == nil {
		return nil
	}
	return r
}

// Losses counts, since the start: records that found a buffer full, and hits
// that our probes missed, by event.
func (i *Instance) Losses() (records uint64, missed map[string]uint64, err error) {
	for _, p := range i.pipes {
		text, err := os.ReadFile(i.dir.path("per_cpu", p.cpu, "stats"))
		if err != nil {
			return 0, nil, fmt.Errorf("read trace statistics: %w", err)
		}
		records += parseStats(string(text))
	}
	text, err := os.ReadFile(i.root.path(profileFile))
	if err != nil {
		return records, nil, fmt.Errorf("read probe statistics: %w", err)
	}
	var names []string
	for _, e := range i.defined {
		names = append(names, e.name)
	}
	return records, parseProfile(string(text), names), nil
}

// parseStats adds up the records that were overwritten or refused.
func parseStats(text string) uint64 {
	var lost uint64
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "overrun", "commit overrun", "dropped events":
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			if err == nil {
				lost += n
			}
		}
	}
	return lost
}

// Intact fails where events that were turned on are not on any more: somebody
// else has turned them off, or removed them. It reads a few files, however many
// events there are.
func (i *Instance) Intact() error {
	ours := i.dir.path("events", i.group)
	files := []string{i.dir.path("tracing_on")}
	if len(i.defined) > 0 {
		files = append(files, filepath.Join(ours, "enable"))
	}
	for _, file := range i.enabled {
		if !strings.HasPrefix(file, ours+"/") {
			files = append(files, file)
		}
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("look after a trace instance: %w", err)
		}
		// An asterisk follows where a trigger may turn it on and off.
		if on, _, _ := strings.Cut(strings.TrimSpace(string(text)), "*"); on != "1" {
			return fmt.Errorf("look after a trace instance: %s is %q", file, on)
		}
	}
	return nil
}

// Close turns everything off and removes what was made.
func (i *Instance) Close() error {
	var errs []error
	for n := len(i.enabled) - 1; n >= 0; n-- {
		errs = append(errs, write(i.enabled[n], "0"))
	}
	for _, p := range i.pipes {
		errs = append(errs, unix.Close(p.fd))
	}
	for n := len(i.restore) - 1; n >= 0; n-- {
		errs = append(errs, write(i.dir.path(i.restore[n].file), i.restore[n].value))
	}
	i.enabled, i.pipes, i.restore = nil, nil, nil
	if i.own() && i.dir != "" {
		errs = append(errs, removeInstance(string(i.dir), closeTries))
		i.dir = ""
	}
	errs = append(errs, i.root.undefine(i.defined))
	i.defined = nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close a trace instance: %w", err)
	}
	return nil
}

// How often the removal of an instance is tried. Who starts does not wait for a
// leftover: it goes at the next start.
const (
	closeTries = 40
	staleTries = 4
)

// removeInstance removes the folder of an instance. It is busy while somebody has a
// file in it open, as whoever resets everybody's has, one after the other.
func removeInstance(dir string, tries int) error {
	const pause = 25 * time.Millisecond
	for n := 1; ; n++ {
		err := os.Remove(dir)
		if n == tries || !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(pause)
	}
}

// RemoveStale removes what processes that were killed have left in the trace files of this
// host, if it has any. It mounts them where nobody has yet, as Find does.
func RemoveStale() error {
	dir, err := Find()
	if err != nil || !dir.HasProbes() {
		return err
	}
	return dir.RemoveStale()
}

// RemoveStale removes the instances and probes of processes that have ended
// without doing so. What somebody still uses stays, and does no harm.
//
// It goes carefully, since it does this to a kernel that may be old: each event is
// turned off first, and its instance gone, and each is removed by itself, while no module
// is being loaded, which may be arming the same probes. What does not go stays turned off.
func (d Dir) RemoveStale() error {
	instances, err := filepath.Glob(d.path(instancesDir, prefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	busy := map[string]bool{}
	for _, dir := range instances {
		name := filepath.Base(dir)
		if !stale(ownerPart(name)) {
			continue
		}
		_ = write(filepath.Join(dir, "events", "enable"), "0") // to remove it does so, too
		if err := removeInstance(dir, staleTries); err != nil {
			errs, busy[name] = append(errs, err), true
		}
	}
	events, err := d.defined(func(group string) bool { return stale(ownerPart(group)) && !busy[group] })
	if err != nil {
		return permission(err)
	}
	if len(events) > 0 {
		errs = append(errs, d.removeEvents(events, loadingLimit))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove what a killed bootrace has left in the trace files: %w", err)
	}
	return nil
}

// removeEvents turns events off and removes them, as soon as no module is being loaded.
func (d Dir) removeEvents(events []definedEvent, patience time.Duration) error {
	var errs []error
	off := slices.DeleteFunc(slices.Clone(events), func(e definedEvent) bool {
		err := write(d.path("events", e.group, e.name, "enable"), "0")
		errs = append(errs, err)
		return err != nil
	})
	for waited := time.Duration(0); loading(modulesFile); waited += loadingPause {
		if waited >= patience {
			return errors.Join(append(errs, errLoading)...)
		}
		time.Sleep(loadingPause)
	}
	return errors.Join(append(errs, d.undefine(off))...)
}

// How long the removal of leftovers waits for modules that are being loaded. Then it is
// left to the next start.
const (
	loadingLimit = time.Second
	loadingPause = 25 * time.Millisecond
)

var errLoading = errors.New("a kernel module is being loaded: they are turned off, and removed at the next start")

const modulesFile = "/proc/modules"

// loading reports whether a module is being loaded, by a list of all: "dm_mod 184320 0 -
// Loading 0x0000000000000000 (+)".
func loading(file string) bool {
	text, err := os.ReadFile(file)
	return err == nil && strings.Contains(string(text), " Loading ")
}

// ownerPart is a name without the number of a second instance.
func ownerPart(name string) string {
	parts := strings.Split(name, "_")
	return strings.Join(parts[:min(3, len(parts))], "_")
}
