package memory

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"

	"github.com/bootrace/bootrace/tracer/event"
)

// FileName is the memory's name in the state folder.
const FileName = "memory.jsonl"

// Version is the version of the file's form. It changes only when an older
// program would misunderstand the file.
const Version = 1

// Bounds of the memory.
const (
	maxGuests = 8192
	maxRuns   = 3 // boots of one guest: this one, the last one, and before that
	maxFile   = 64 << 20
	maxLine   = 16 << 20
	maxPath   = 4096 // PATH_MAX: nothing longer was ever opened
	maxName   = 1024
	maxTable  = 64 // lines; what has more is told by its UUID and size
)

// The file is text: a header, then an event of kind memory for each guest and
// boot, as the log has them. The guest that ran longest ago comes first, and is
// the first to be forgotten.
type header struct {
	Version int `json:"bootrace_memory"`
}

// VersionError says that a later program wrote the memory. It is left alone.
type VersionError struct {
	Path    string
	Version int
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has version %d, and this program knows up to %d: upgrade it, or remove the file to forget what guests ran on", e.Path, e.Version, Version)
}

// Store holds what guests ran on. What is remembered before the state folder is
// there waits in memory. Its methods may be called at the same time.
type Store struct {
	boot string

	mu     sync.Mutex
	path   string // of the file, empty until it can be written
	guests map[string]*life
	clock  uint64 // counts what is remembered
	dirty  bool
}

// life is one guest over boots, the latest first.
type life struct {
	runs []run
	used uint64 // the clock when it was last remembered
}

type run struct {
	boot  string
	disks []event.MemoryDisk
}

// NewStore returns an empty memory for the boot with that id.
func NewStore(boot string) *Store {
	return &Store{boot: boot, guests: map[string]*life{}}
}

// Last returns what a guest ran on in the last boot before this one that ran
// it, nil if nothing is known. What it ran on in this boot does not count: a
// guest that came up on the wrong disk is wrong at its next start, too.
func (s *Store) Last(guest string) *event.MemoryInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.guests[guest]
	if l == nil {
		return nil
	}
	earlier := changes(slices.DeleteFunc(slices.Clone(l.runs), func(r run) bool { return r.boot == s.boot }))
	if len(earlier) == 0 {
		return nil
	}
	m := &event.MemoryInfo{Guest: guest, Boot: earlier[0].boot, Disks: slices.Clone(earlier[0].disks)}
	if len(earlier) > 1 {
		m.Before = slices.Clone(earlier[1].disks)
	}
	return m
}

// Remember notes what a guest runs on in this boot. It reports whether that is
// news.
func (s *Store) Remember(guest string, disks []event.MemoryDisk) bool {
	if guest == "" || len(guest) > maxName || len(disks) == 0 {
		return false
	}
	disks = bounded(disks)
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.add(guest, run{s.boot, disks})
	s.dirty = s.dirty || news
	return news
}

// add puts a run in front. Of the boots before it, equal ones count once: what
// is kept are changes.
func (s *Store) add(guest string, r run) bool {
	l := s.guests[guest]
	if l == nil {
		s.forget(maxGuests - 1)
		l = &life{}
		s.guests[guest] = l
	}
	s.clock++
	l.used = s.clock
	if len(l.runs) > 0 && l.runs[0].boot == r.boot {
		if reflect.DeepEqual(l.runs[0].disks, r.disks) {
			return false
		}
		l.runs = l.runs[1:]
	}
	earlier := changes(slices.Clone(l.runs))
	l.runs = append([]run{r}, earlier[:min(len(earlier), maxRuns-1)]...)
	return true
}

// changes leaves out the runs that were as the one after them.
func changes(runs []run) []run {
	return slices.CompactFunc(runs, func(a, b run) bool { return alike(a.disks, b.disks) })
}

// bounded cuts what foreign text can make long.
func bounded(disks []event.MemoryDisk) []event.MemoryDisk {
	out := make([]event.MemoryDisk, 0, min(len(disks), maxDisks))
	for _, d := range disks[:min(len(disks), maxDisks)] {
		if len(d.Path) > maxPath || len(d.BackingOf) > maxPath {
			continue
		}
		for _, name := range []*string{&d.ID, &d.DeviceID, &d.Serial} {
			if len(*name) > maxName {
				*name = "" // a part of it would be another name
			}
		}
		if len(d.Table) > maxTable {
			d.Table = nil
		}
		out = append(out, d)
	}
	return out
}

// alike reports whether two runs were on the same mappings.
func alike(a, b []event.MemoryDisk) bool {
	return slices.EqualFunc(a, b, func(x, y event.MemoryDisk) bool {
		return x.Path == y.Path && x.Size == y.Size && same(&x, &y)
	})
}

// forget drops the guests that ran longest ago until limit are left.
func (s *Store) forget(limit int) {
	if len(s.guests) <= limit {
		return
	}
	names := s.ordered()
	for _, name := range names[:len(names)-limit] {
		delete(s.guests, name)
	}
}

// ordered lists the guests, the one that ran longest ago first.
func (s *Store) ordered() []string {
	names := make([]string, 0, len(s.guests))
	for name := range s.guests {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(s.guests[a].used, s.guests[b].used), cmp.Compare(a, b))
	})
	return names
}

// Open reads the memory in the state folder dir and keeps it there from now on.
// Lines that cannot be read are left out, and their number is an error: the
// rest is there regardless. After a VersionError nothing is ever written.
func (s *Store) Open(dir string) error {
	path := filepath.Join(dir, FileName)
	found, err := readFile(path)
	var later *VersionError
	if errors.As(err, &later) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path = path
	now := s.guests
	s.guests = map[string]*life{}
	for i := range found {
		m := &found[i]
		s.load(m.Guest, run{m.Boot, m.Disks})
	}
	current := &Store{guests: now}
	for _, name := range current.ordered() {
		if r := now[name].runs[0]; r.boot == s.boot {
			s.dirty = s.add(name, r) || s.dirty
		}
	}
	return err
}

// Opened reports whether earlier boots are known, as far as they were recorded.
func (s *Store) Opened() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.path != ""
}

// Close saves what is new and leaves the state folder alone from then on: it is
// about to go.
func (s *Store) Close() error {
	err := s.Save()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path = ""
	return err
}

// load appends a run that the file has: the latest stands first there, too.
func (s *Store) load(guest string, r run) {
	l := s.guests[guest]
	if l == nil {
		s.forget(maxGuests - 1)
		l = &life{}
		s.guests[guest] = l
	}
	s.clock++
	l.used = s.clock
	if len(l.runs) < maxRuns && len(r.disks) > 0 {
		l.runs = append(l.runs, r)
	}
}

// Read returns what is remembered in the state folder dir, also while a service
// keeps it: nothing where there is no memory.
func Read(dir string) ([]event.MemoryInfo, error) {
	return readFile(filepath.Join(dir, FileName))
}

func readFile(path string) ([]event.MemoryInfo, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what guests ran on: %w", err)
	}
	defer file.Close()
	list, err := read(io.LimitReader(file, maxFile), path)
	if err != nil {
		return list, fmt.Errorf("read what guests ran on: %w", err)
	}
	return list, nil
}

// read reads the file's form.
func read(in io.Reader, path string) ([]event.MemoryInfo, error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	if !lines.Scan() {
		return nil, lines.Err() // empty: as good as none
	}
	var h header
	if err := json.Unmarshal(lines.Bytes(), &h); err != nil || h.Version == 0 {
		return nil, fmt.Errorf("%s does not begin with a header: it is replaced", path)
	}
	if h.Version > Version {
		return nil, &VersionError{path, h.Version}
	}
	var list []event.MemoryInfo
	bad := 0
	for lines.Scan() {
		var e event.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Memory == nil || e.Memory.Guest == "" {
			bad++
			continue
		}
		list = append(list, *e.Memory)
	}
	switch {
	case lines.Err() != nil:
		return list, fmt.Errorf("%s: %w", path, lines.Err())
	case bad > 0:
		return list, fmt.Errorf("%s: %d lines cannot be read, and are left out", path, bad)
	}
	return list, nil
}

// Save writes what is new, if the state folder is there. The file is replaced
// as a whole: a power cut leaves the old one or the new one.
func (s *Store) Save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dirty || s.path == "" {
		return nil
	}
	if err := replace(s.path, s.text()); err != nil {
		return fmt.Errorf("write what guests ran on: %w", err)
	}
	s.dirty = false
	return nil
}

// text is the file's form. Where that would be too long, the guests that ran
// longest ago are left out.
func (s *Store) text() []byte {
	out, _ := json.Marshal(header{Version})
	out = append(out, '\n')
	var parts [][]byte
	size := len(out)
	for _, name := range slices.Backward(s.ordered()) {
		var part []byte
		for _, r := range s.guests[name].runs {
			e := event.Event{Kind: event.Memory, Memory: &event.MemoryInfo{Guest: name, Boot: r.boot, Disks: r.disks}}
			part = append(e.AppendJSON(part), '\n')
		}
		if size += len(part); size > maxFile {
			break
		}
		parts = append(parts, part)
	}
	slices.Reverse(parts)
	return append(out, bytes.Join(parts, nil)...)
}

// replace puts text in the place of a file, durably.
func replace(path string, text []byte) error {
	temp := path + ".tmp"
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
