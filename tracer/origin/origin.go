// Package origin says where a process came from while it can still be asked:
// its command line, its systemd unit and its parent. A volume that came late is
// explained by whoever activated it, and a guest that never started by whoever
// looked for its disk.
package origin

import (
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/bootrace/bootrace/tracer/event"
)

const (
	// maxArgs is as much of a command line as is kept, in bytes; that of a
	// process that changes a mapping is cut at the same length.
	maxArgs   = 512
	maxCgroup = 8 << 10
	// fresh is how long what was read of a process holds: one vgchange makes a
	// thousand mappings.
	fresh = event.Time(2e9) // nanoseconds
	// remembered bounds the memory.
	remembered = 512
)

// Finder fills in what /proc says about the processes of events. It is safe for
// concurrent use.
type Finder struct {
	root string // before /proc

	mu    sync.Mutex
	known map[key]found
}

type key struct {
	pid, parent int
	comm        string
}

type found struct {
	at           event.Time
	args         []string
	unit, parent string
}

// NewFinder returns a Finder that reads /proc under root, "/" as a rule.
func NewFinder(root string) *Finder {
	return &Finder{root: root, known: map[key]found{}}
}

// Fill adds what is known about the process that changed a mapping, or that
// opened a path under /dev in vain. A process that has ended stays as it is.
func (f *Finder) Fill(e *event.Event) {
	if e.Proc == nil || !concerns(e) {
		return
	}
	o := f.find(e.Proc, e.At)
	e.Proc.Unit, e.Proc.Parent = o.unit, o.parent
	if len(e.Proc.Args) == 0 {
		e.Proc.Args = append([]string(nil), o.args...)
	}
}

func concerns(e *event.Event) bool {
	switch e.Kind {
	case event.DMCreate, event.DMLoad, event.DMResume, event.DMSuspend, event.DMRename, event.DMRemove:
		return true
	case event.Open:
		return e.Open != nil && e.Open.Errno != 0 && strings.HasPrefix(e.Open.Path, "/dev/")
	}
	return false
}

func (f *Finder) find(p *event.Proc, now event.Time) found {
	k := key{p.PID, p.PPID, p.Comm}
	f.mu.Lock()
	o, ok := f.known[k]
	f.mu.Unlock()
	if ok && now-o.at < fresh {
		return o
	}
	o = f.read(p)
	o.at = now
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.known) >= remembered {
		clear(f.known)
	}
	f.known[k] = o
	return o
}

func (f *Finder) read(p *event.Proc) found {
	if p.Comm == "" || f.comm(p.PID) != p.Comm {
		return found{} // it ended, and its number may be another's by now
	}
	return found{
		args:   splitArgs(f.file(p.PID, "cmdline", maxArgs)),
		unit:   unitOf(f.file(p.PID, "cgroup", maxCgroup)),
		parent: f.comm(p.PPID),
	}
}

func (f *Finder) comm(pid int) string {
	return strings.TrimSuffix(f.file(pid, "comm", 64), "\n")
}

// file returns the beginning of a file of a process, nothing if it cannot be
// read.
func (f *Finder) file(pid int, name string, most int64) string {
	if pid <= 0 {
		return ""
	}
	file, err := os.Open(filepath.Join(f.root, "proc", strconv.Itoa(pid), name))
	if err != nil {
		return ""
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return ""
	}
	return string(data)
}

// splitArgs splits an argument area. An argument that was cut is left out: half
// of it misleads, and may be half a secret.
func splitArgs(area string) []string {
	if len(area) == maxArgs && area[maxArgs-1] != 0 {
		end := strings.LastIndexByte(area, 0)
		area = area[:end+1]
	}
	area = strings.TrimSuffix(area, "\x00")
	if area == "" {
		return nil
	}
	return strings.Split(area, "\x00")
}

// unitOf returns the innermost service or scope that a cgroup file names.
// systemd has its own hierarchy: "0::" in version 2, "name=systemd" in
// version 1.
func unitOf(cgroup string) string {
	for line := range strings.Lines(cgroup) {
		number, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controller, group, _ := strings.Cut(rest, ":")
		if !(number == "0" && controller == "" || controller == "name=systemd") {
			continue
		}
		for ; group != "/" && group != "." && group != ""; group = path.Dir(group) {
			if name := path.Base(group); strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".scope") {
				return name
			}
		}
	}
	return ""
}
