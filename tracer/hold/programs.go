package hold

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// maxPrograms is how many programs one pattern may match. A pattern that matches
// more, such as /usr/bin/*, is a mistake that would have every start of
// everything looked at.
const maxPrograms = 64

// programs finds the files that patterns match, and finds them again when they
// are replaced: an upgrade puts a new inode in the place of the one that is
// guarded.
type programs struct {
	patterns []string
	gate     guards
	log      *slog.Logger
	watcher  *fsnotify.Watcher
	mounts   int // a descriptor that tells of each change of what is mounted

	mu      sync.Mutex
	guarded map[inode]string // to a path that leads there
	// steps are the files and links that lead to guarded programs.
	steps    map[string]bool
	watched  map[string]bool
	unused   []string
	problems map[string]bool // that were told
}

type inode struct{ dev, ino uint64 }

// guards is what a Gate does with programs.
type guards interface {
	Guard(path string) error
	Unguard(path string) error
}

func newPrograms(patterns []string, gate guards, log *slog.Logger) (*programs, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch for upgrades of the programs that run guests: %w", err)
	}
	mounts, err := openMounts()
	if err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	return &programs{
		patterns: patterns, gate: gate, log: log, watcher: watcher, mounts: mounts,
		guarded: map[inode]string{}, watched: map[string]bool{}, problems: map[string]bool{},
	}, nil
}

// use goes by other patterns from the next scan on.
func (p *programs) use(patterns []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.patterns = patterns
	p.problems = map[string]bool{}
}

// replacements are the names under which package managers unpack a file before
// they rename it: dpkg's and rpm's. Guarded there already, it is guarded from
// the instant at which it takes its place.
var replacements = []string{"", ".dpkg-new", ";????????"}

// scan guards what the patterns match now, and nothing else. An error is one that
// says that nothing can be guarded at all.
func (p *programs) scan() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = map[string]bool{}
	p.unused = nil
	before := p.guarded
	p.guarded = map[inode]string{}
	for _, pattern := range p.patterns {
		p.watchDirs(pattern)
		files := p.match(pattern)
		if len(files) == 0 {
			p.unused = append(p.unused, pattern)
		}
		for _, file := range files {
			if err := p.add(file); err != nil {
				return err
			}
		}
	}
	for id, path := range before {
		if p.guarded[id] == "" && leads(path, id) {
			p.remove(path)
		}
	}
	return nil
}

// remove ends the guard of a file that no pattern leads to any more.
func (p *programs) remove(file string) {
	if err := p.gate.Unguard(file); err != nil {
		p.tell(file, "a program is still guarded that no pattern leads to", "path", file, "error", err)
	}
}

func (p *programs) match(pattern string) []string {
	var files []string
	for _, suffix := range replacements {
		found, _ := filepath.Glob(pattern + suffix) // the pattern was checked with the configuration
		for _, file := range found {
			// dpkg unpacks with no rights at all, and gives them later.
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && (suffix != "" || info.Mode()&0o111 != 0) {
				files = append(files, file)
			}
		}
	}
	slices.Sort(files) // a pattern that ends in * finds replacements, too
	files = slices.Compact(files)
	if n := len(slices.DeleteFunc(slices.Clone(files), passing)); n > maxPrograms {
		p.tell(pattern, "a pattern matches too many programs: none of them is guarded", "pattern", pattern, "matches", n, "limit", maxPrograms)
		return nil
	}
	return files
}

// passing reports whether a file is there only while a package is unpacked: a
// replacement, or what dpkg keeps of the file that it replaces.
func passing(file string) bool {
	return slices.ContainsFunc(append(replacements[1:], ".dpkg-tmp"), func(suffix string) bool {
		matched, _ := filepath.Match("*"+suffix, filepath.Base(file))
		return matched
	})
}

// add guards one file. That one can't be guarded is no reason to leave the
// others alone, unless it is the kernel that can't.
func (p *programs) add(file string) error {
	target := p.follow(file)
	id, ok := inodeOf(file)
	if !ok {
		return nil // gone meanwhile
	}
	if isOurs(id) {
		p.tell(file, "bootrace, and what it executes, is no program that runs guests: it is not guarded", "path", file)
		return nil
	}
	err := p.gate.Guard(target) // again, too: an inode's number is used again
	var unsupported *UnsupportedError
	switch {
	case errors.As(err, &unsupported):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		p.tell(file, "a program is not guarded: its guests start at once", "path", file, "error", err)
		return nil
	}
	if p.guarded[id] == "" {
		p.guarded[id] = file
	}
	return nil
}

// ownPrograms are what bootrace itself executes. It must never wait for its own
// answer: while Go forks and executes, all of it may stand still.
var ownPrograms = []string{"sh", "lvm", "lvchange"}

func isOurs(id inode) bool {
	paths := []string{"/proc/self/exe"}
	for _, name := range ownPrograms {
		if path, err := exec.LookPath(name); err == nil {
			paths = append(paths, path)
		}
	}
	return slices.ContainsFunc(paths, func(path string) bool { return leads(path, id) })
}

// tell logs a problem once. The lock is held.
func (p *programs) tell(key, message string, args ...any) {
	if !p.problems[key] {
		p.problems[key] = true
		p.log.Warn(message, args...)
	}
}

// follow notes each link from file on, watches where it lies, and returns the
// end.
func (p *programs) follow(file string) string {
	for range 40 { // the kernel's own limit
		p.steps[file] = true
		p.watch(filepath.Dir(file))
		target, err := os.Readlink(file)
		if err != nil {
			return file
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(file), target)
		}
		file = target
	}
	return file
}

// watchDirs watches the folders in which something can appear that makes a
// pattern match: those that exist along its way, where the next element is a
// pattern, is missing, or is the last.
func (p *programs) watchDirs(pattern string) {
	elements := strings.Split(strings.TrimPrefix(pattern, "/"), "/")
	dirs := []string{"/"}
	for i, element := range elements {
		last := i == len(elements)-1
		var next []string
		for _, dir := range dirs {
			found, _ := filepath.Glob(filepath.Join(dir, element))
			if last || len(found) == 0 || strings.ContainsAny(element, `*?[\`) {
				p.watch(dir)
			}
			next = append(next, found...)
		}
		dirs = slices.DeleteFunc(next, func(path string) bool {
			info, err := os.Stat(path)
			return err != nil || !info.IsDir()
		})
	}
}

func (p *programs) watch(dir string) {
	if p.watched[dir] {
		return
	}
	if err := p.watcher.Add(dir); err != nil {
		p.tell(dir, "upgrades of programs in a folder are not noticed", "folder", dir, "error", err)
		return
	}
	p.watched[dir] = true
}

// run guards what appears, until ctx ends. changed is called when the programs
// were looked at again.
func (p *programs) run(ctx context.Context, changed func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-p.watcher.Events:
			if !ok {
				return nil
			}
			if !p.concerns(e) {
				continue
			}
		case err, ok := <-p.watcher.Errors:
			if !ok {
				return nil
			}
			p.log.Warn("programs are looked for again", "why", err) // overflow, as a rule
		}
		if err := p.scan(); err != nil {
			return err
		}
		changed()
	}
}

// concerns reports whether an event can change which files are guarded.
func (p *programs) concerns(e fsnotify.Event) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watched[e.Name] && e.Has(fsnotify.Remove|fsnotify.Rename) {
		delete(p.watched, e.Name) // a folder that went, and may come again
		return true
	}
	if p.steps[e.Name] {
		return true
	}
	return slices.ContainsFunc(p.patterns, func(pattern string) bool { return leadsTo(e.Name, pattern) })
}

// leadsTo reports whether a path is one that pattern matches, or a folder on
// the way to one.
func leadsTo(path, pattern string) bool {
	elements := strings.Split(path, "/")
	parts := strings.Split(pattern, "/")
	if len(elements) > len(parts) {
		return false
	}
	for i, element := range elements {
		part := parts[i]
		ok := slices.ContainsFunc(replacements, func(suffix string) bool {
			matched, _ := filepath.Match(part+suffix, element)
			return matched && (suffix == "" || i == len(parts)-1)
		})
		if !ok {
			return false
		}
	}
	return true
}

// warnUnused names patterns that match nothing. No host has all of the usual
// ones.
func (p *programs) warnUnused(usual bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if usual {
		if len(p.unused) == len(p.patterns) {
			p.tell("none", "no program that runs guests is where it usually is: no start is held until one appears; enforce.binaries can name others")
		}
		return
	}
	for _, pattern := range p.unused {
		p.tell("unused "+pattern, "a pattern of enforce.binaries matches no program: no start is held by it until one appears", "pattern", pattern)
	}
}

// list returns the guarded programs that are there now, and the patterns that
// match nothing.
func (p *programs) list() (paths, unused []string) {
	p.mu.Lock()
	guarded, unused := maps.Clone(p.guarded), slices.Clone(p.unused)
	p.mu.Unlock()
	for id, path := range guarded {
		if leads(path, id) { // else it was replaced, or covered by a mount
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), unused
}

// inodeOf returns the file that path leads to, if it does.
func inodeOf(path string) (id inode, ok bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return id, false
	}
	return inode{st.Dev, st.Ino}, true
}

// leads reports whether path leads to that file now.
func leads(path string, id inode) bool {
	at, ok := inodeOf(path)
	return ok && at == id
}

// close is for when nothing runs any more.
func (p *programs) close() error { return errors.Join(p.watcher.Close(), unix.Close(p.mounts)) }
