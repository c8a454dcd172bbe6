package ftrace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Probe is a kprobe event.
type Probe struct {
	// Name is the event's, unique in its group.
	Name string
	// Return puts the probe at the function's return.
	Return bool
	// Symbol is a kernel function, or module:function, which may be defined
	// before the module is loaded and is armed when it is.
	Symbol string
	Fields []Field
	// Filter is an expression over the fields; empty takes every hit.
	Filter string
	// Many is set of a return of which any user can have as many calls under way as
	// he has threads: it gets MostActive in place of MaxActive.
	Many bool
}

// Field is a value that a probe records.
type Field struct {
	Name  string
	Fetch string // in the kernel's language: %si, +48(%di), $retval
	Type  string // string, u8 to u64, s8 to s64
}

// MaxActive is how many calls of a function may be under way for its return to
// be seen, where the kernel lets us say so. By itself it keeps as few as there
// are processors, where it is not preemptible and older than 6.2: one open that
// has to wait for a disk hides others.
const MaxActive = 256

// MostActive is the most that the kernel takes (KRETPROBE_MAXACTIVE_MAX of
// kernel/trace/trace_kprobe.c, since Linux 4.12): a call takes some 100 bytes of its
// memory.
const MostActive = 4096

// definition is the line that makes the event. active is how many calls may be
// under way, 0 for as many as the kernel likes.
func (p Probe) definition(group string, active int) string {
	kind := "p"
	if p.Return {
		kind = "r"
		if active > 0 && p.Many {
			active = MostActive
		}
		if active > 0 {
			kind += strconv.Itoa(active)
		}
	}
	words := []string{fmt.Sprintf("%s:%s/%s %s", kind, group, p.Name, p.Symbol)}
	for _, f := range p.Fields {
		words = append(words, fmt.Sprintf("%s=%s:%s", f.Name, f.Fetch, f.Type))
	}
	return strings.Join(words, " ")
}

const (
	probesFile  = "kprobe_events"
	profileFile = "kprobe_profile"
)

// features are what the kernel says in its README that it can.
type features struct {
	active int  // calls that may be under way at a return: a number is taken since Linux 4.12; 0: the kernel's default
	user   bool // fetches from user memory of their own, since Linux 5.3
}

func (d Dir) features() features {
	text, err := os.ReadFile(d.path("README"))
	if err != nil {
		return features{}
	}
	f := features{user: strings.Contains(string(text), "ustring")}
	if strings.Contains(string(text), "r[maxactive]") {
		f.active = MaxActive
	}
	return f
}

// defineAll makes the events. One write can define many: the kernel takes it
// line by line, and stops at the first that it refuses.
func (d Dir) defineAll(group string, active int, probes []Probe) error {
	var lines strings.Builder
	for _, p := range probes {
		lines.WriteString(p.definition(group, active) + "\n")
	}
	if err := write(d.path(probesFile), lines.String()); err != nil {
		return d.defineError(probes[0], err)
	}
	return nil
}

// undefineAny removes those of the events that are there.
func (d Dir) undefineAny(group string, probes []Probe) error {
	there, err := d.defined(func(g string) bool { return g == group })
	if err != nil {
		return err
	}
	return d.undefine(slices.DeleteFunc(there, func(e definedEvent) bool {
		return !slices.ContainsFunc(probes, func(p Probe) bool { return p.Name == e.name })
	}))
}

// defineError says what kept a probe from being defined.
func (d Dir) defineError(p Probe, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist) && !d.Has(probesFile):
		return ErrNoKprobes
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("probe %s: %w (%w)", p.Symbol, ErrNotPermitted, err)
	}
	return fmt.Errorf("probe %s: %w", p.Symbol, err)
}

// undefine removes events, one at a time, all that can be. Removing many in one write
// has made a 4.18 kernel oops (in trace_destroy_fields). What is gone already is none to
// remove.
func (d Dir) undefine(events []definedEvent) error {
	var errs []error
	for _, e := range events {
		err := write(d.path(probesFile), removal(e))
		if err != nil && !(errors.Is(err, fs.ErrNotExist) && d.Has(probesFile)) {
			errs = append(errs, fmt.Errorf("remove probe %s/%s: %w", e.group, e.name, err))
		}
	}
	return errors.Join(errs...)
}

// removal is the line that removes an event.
func removal(e definedEvent) string { return "-:" + e.group + "/" + e.name + "\n" }

type definedEvent struct{ group, name string }

// defined lists the kprobe events of all groups that belong(group) chooses.
func (d Dir) defined(belong func(group string) bool) ([]definedEvent, error) {
	text, err := os.ReadFile(d.path(probesFile))
	if err != nil {
		return nil, fmt.Errorf("list probes: %w", err)
	}
	return slices.DeleteFunc(parseDefined(string(text)), func(e definedEvent) bool { return !belong(e.group) }), nil
}

// parseDefined reads lines "p:GROUP/NAME SYMBOL FIELDS...". A return probe can
// have a number behind its r.
func parseDefined(text string) []definedEvent {
	var list []definedEvent
	for line := range strings.Lines(text) {
		what, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		_, event, ok := strings.Cut(what, ":")
		group, name, ok2 := strings.Cut(event, "/")
		if ok && ok2 && group != "" && name != "" {
			list = append(list, definedEvent{group, name})
		}
	}
	return list
}

// parseProfile sums up the hits that each event's probe missed, from lines
// "NAME HITS MISSED". Names carry no group; those that names does not have are
// left out.
func parseProfile(text string, names []string) map[string]uint64 {
	missed := map[string]uint64{}
	for line := range strings.Lines(text) {
		var name string
		var hits, miss uint64
		if n, _ := fmt.Sscan(line, &name, &hits, &miss); n == 3 && slices.Contains(names, name) {
			missed[name] += miss
		}
	}
	return missed
}
