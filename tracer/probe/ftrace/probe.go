package ftrace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
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
}

// Field is a value that a probe records.
type Field struct {
	Name  string
	Fetch string // in the kernel's language: %si, +48(%di), $retval
	Type  string // string, u8 to u64, s8 to s64
}

// definition is the line that makes the event.
func (p Probe) definition(group string) string {
	kind := "p"
	if p.Return {
		kind = "r"
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

// define makes the event.
func (d Dir) define(group string, p Probe) error {
	err := write(d.path(probesFile), p.definition(group)+"\n")
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

// undefine removes events, all that can be.
func (d Dir) undefine(events []definedEvent) error {
	var errs []error
	for _, e := range events {
		if err := write(d.path(probesFile), "-:"+e.group+"/"+e.name+"\n"); err != nil {
			errs = append(errs, fmt.Errorf("remove probe %s/%s: %w", e.group, e.name, err))
		}
	}
	return errors.Join(errs...)
}

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
