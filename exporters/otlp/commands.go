package otlp

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// idle parts a long-running program's work, such as a daemon's, into commands:
// a span must end.
const idle = 5 * event.Duration(1e9)

// deed is one change of a mapping by a process.
type deed struct {
	by       *event.Proc
	from, at event.Time
	mapping  string
}

// command is what one process did to mappings without a pause.
type command struct {
	by       *event.Proc
	from, to event.Time
	mappings []string // names
}

// commands makes a span of each program that changed mappings: who activated
// what, and how long that took.
func (b *boot) commands() {
	for _, c := range b.commandList() {
		s := &span{
			lane: laneLVM, id: b.commandID(&c), parent: b.root, name: commandName(c.by),
			from: c.from, to: c.to, attrs: append(b.processAttrs(c.by), keyMapping.StringSlice(c.mappings)),
		}
		if !isLVM(c.by) {
			s.lane = laneMapper
		}
		b.add(s)
		b.sweep()
	}
}

func (b *boot) commandID(c *command) [8]byte {
	return b.spanID("command", strconv.Itoa(c.by.PID), c.from)
}

// commandList finds the commands, in the order in which they began.
func (b *boot) commandList() []command {
	if b.commandsMade != nil {
		return b.commandsMade
	}
	var deeds []deed
	for _, m := range b.tl.Mappings {
		for _, l := range m.Lives {
			for i := range l.Steps {
				if s := &l.Steps[i]; s.By != nil && !s.OrBefore {
					deeds = append(deeds, deed{s.By, s.From, s.At, m.Name})
				}
			}
		}
	}
	slices.SortFunc(deeds, func(a, b deed) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.by.PID, b.by.PID), cmp.Compare(a.mapping, b.mapping))
	})
	b.commandsMade = joinDeeds(deeds)
	return b.commandsMade
}

func joinDeeds(deeds []deed) []command {
	list := []command{}
	latest := map[int]int{} // by process id
	for _, d := range deeds {
		i, known := latest[d.by.PID]
		if !known || d.from.Sub(list[i].to) > idle || list[i].by.Comm != d.by.Comm {
			i = len(list)
			latest[d.by.PID] = i
			list = append(list, command{by: d.by, from: d.from, to: d.at})
		}
		c := &list[i]
		c.from, c.to = min(c.from, d.from), max(c.to, d.at)
		if n := len(c.mappings); n == 0 || c.mappings[n-1] != d.mapping {
			c.mappings = append(c.mappings, d.mapping)
		}
	}
	for i := range list {
		slices.Sort(list[i].mappings)
		list[i].mappings = slices.Compact(list[i].mappings)
	}
	return list
}

// commandLink links a mapping's span to the command that made it live, or
// created it.
func (b *boot) commandLink(s *span, m *timeline.Mapping, l *timeline.Life) {
	var maker *timeline.Step
	for i := range l.Steps {
		step := &l.Steps[i]
		if step.By != nil && !step.OrBefore && (maker == nil || l.Live != nil && step.Event == l.Live.Event) {
			maker = step
		}
	}
	if maker == nil {
		return
	}
	for _, c := range b.commandsOf(maker.By.PID) {
		if c.from <= maker.At && maker.At <= c.to && contains(c.mappings, m.Name) {
			s.links = append(s.links, link{id: b.commandID(c), attrs: []attribute.KeyValue{keyStep.String("activated by")}})
			return
		}
	}
}

func (b *boot) commandsOf(pid int) []*command {
	if b.byPID == nil {
		b.byPID = map[int][]*command{}
		list := b.commandList()
		for i := range list {
			b.byPID[list[i].by.PID] = append(b.byPID[list[i].by.PID], &list[i])
		}
	}
	return b.byPID[pid]
}

// commandName is the program and its arguments as far as a label has room.
func commandName(p *event.Proc) string {
	const most = 80
	name := p.Comm
	if len(p.Args) > 1 {
		name += " " + strings.Join(p.Args[1:], " ")
	}
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	return name
}

// isLVM tells LVM's programs from others: lvchange, vgchange, pvscan, lvm,
// dmeventd.
func isLVM(p *event.Proc) bool {
	for _, prefix := range []string{"lv", "vg", "pv", "dmeventd"} {
		if strings.HasPrefix(p.Comm, prefix) {
			return true
		}
	}
	return false
}

func (b *boot) processAttrs(p *event.Proc) []attribute.KeyValue {
	if p == nil {
		return nil
	}
	attrs := append(b.list(), semconv.ProcessPIDKey.Int(p.PID), semconv.ProcessExecutableNameKey.String(p.Comm))
	if p.PPID != 0 {
		attrs = append(attrs, semconv.ProcessParentPIDKey.Int(p.PPID))
	}
	if len(p.Args) > 0 {
		attrs = append(attrs, semconv.ProcessCommandArgsKey.StringSlice(p.Args))
	}
	return attrs
}

// errorName is ENOENT, or the number where it has no name.
func errorName(errno int) string {
	if name := unix.ErrnoName(unix.Errno(errno)); name != "" {
		return name
	}
	return fmt.Sprint("errno ", errno)
}

func contains(sorted []string, name string) bool {
	_, found := slices.BinarySearch(sorted, name)
	return found
}
