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
	"strings"
	"sync"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/replace"
)

// FileName is the memory's name in the state folder.
const FileName = "memory.jsonl"

// Version is the version of the file's form. It changes only when an older
// program would misunderstand the file.
//
// Version 1 had a line for each of the last boots of a guest in which its disks
// were others, the latest first. What a guest ran on last was what it should run
// on, wrong or not.
const Version = 2

// Bounds of the memory.
const (
	maxGuests = 8192
	maxFile   = 64 << 20
	maxLine   = 16 << 20
	maxPath   = 4096 // PATH_MAX: nothing longer was ever opened
	maxName   = 1024
	maxTable  = 64 // lines; what has more is told by its UUID and size
)

// The file is text: a header, then an event of kind memory for each guest, as the
// log has them. The guest that ran longest ago comes first, and is the first to
// be forgotten.
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

// Store holds what guests should run on, and what they ran on since. What is
// remembered before the state folder is there waits in memory. Its methods may
// be called at the same time.
type Store struct {
	boot string

	mu     sync.Mutex
	path   string // of the file, empty until it can be written
	read   bool   // earlier boots are known, as far as they were recorded
	guests map[string]*life
	clock  uint64 // counts what is remembered
	dirty  bool
	// sights are what was seen in disks in this boot, by guest and path.
	sights map[string]map[string]Sight
}

// life is one guest over boots.
type life struct {
	event.MemoryInfo
	used uint64 // the clock when it was last remembered
}

// NewStore returns an empty memory for the boot with that id.
func NewStore(boot string) *Store {
	return &Store{boot: boot, guests: map[string]*life{}, sights: map[string]map[string]Sight{}}
}

// Last returns what a guest should run on, nil if nothing is known. That it came
// up on a wrong disk in this boot changes nothing: it is wrong at its next start,
// too.
func (s *Store) Last(guest string) *event.MemoryInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.guests[guest]
	if l == nil || !s.read {
		return nil
	}
	return l.copy()
}

// Guests returns what all guests should run on, the one that ran longest ago first;
// none before the memory was read.
func (s *Store) Guests() []*event.MemoryInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.read {
		return nil
	}
	list := make([]*event.MemoryInfo, 0, len(s.guests))
	for _, name := range s.ordered() {
		list = append(list, s.guests[name].copy())
	}
	return list
}

func (l *life) copy() *event.MemoryInfo {
	m := l.MemoryInfo
	m.Disks, m.Before, m.Since = slices.Clone(m.Disks), slices.Clone(m.Before), slices.Clone(m.Since)
	return &m
}

// Remember notes what a guest runs on in this boot. guest is its identity, name
// what people call it. It reports whether that is news.
func (s *Store) Remember(guest, name string, disks []event.MemoryDisk) bool {
	return s.note(guest, name, disks, true)
}

// Saw notes what the disks of a guest lead to that is not allowed to start on
// them, so that an operator can accept them. Where they are what it should run on,
// nothing changes.
func (s *Store) Saw(guest, name string, disks []event.MemoryDisk) {
	s.note(guest, name, disks, false)
}

func (s *Store) note(guest, name string, disks []event.MemoryDisk, ran bool) bool {
	if guest == "" || len(guest) > maxName || len(disks) == 0 {
		return false
	}
	if len(name) > maxName {
		name = ""
	}
	disks = bounded(disks)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attach(guest, disks)
	l := s.guests[guest]
	if l == nil && !ran {
		return false
	}
	if l == nil {
		s.forget(maxGuests - 1)
		l = &life{MemoryInfo: event.MemoryInfo{Guest: guest}}
		s.guests[guest] = l
	}
	s.clock++
	l.used = s.clock
	before := l.copy()
	l.Name = cmp.Or(name, l.Name)
	l.take(s.boot, disks, ran)
	news := !reflect.DeepEqual(before, l.copy())
	s.dirty = s.dirty || news
	return news
}

// take takes in what a guest ran on, or would have. Disks that are others than
// they should be, or smaller, change nothing of what they should be.
func (l *life) take(boot string, disks []event.MemoryDisk, ran bool) {
	switch changes := Compare(&l.MemoryInfo, disks, certainly); {
	case len(changes) > 0:
		l.Since, l.SinceBoot = disks, boot
		if ran {
			l.Disks = l.merge(disks, changes)
		}
	case ran:
		next := l.merge(disks, nil)
		if !alike(l.Disks, next) {
			l.Before = nil
		}
		l.Boot, l.Disks, l.Since, l.SinceBoot = boot, next, nil, ""
	}
}

// certainly is what Compare is told where it does not matter whether a disk is
// there.
func certainly(*event.MemoryDisk) bool { return true }

// merge returns what the guest should run on after it ran on now: that, but for
// the disks with a change and what lies beneath them, which stay as they were,
// and for what is not known of now.
func (l *life) merge(now []event.MemoryDisk, changes []Change) []event.MemoryDisk {
	c := comparison{last: l.Disks, now: now}
	was := map[int]*event.MemoryDisk{} // by place in now
	kept := map[string]bool{}          // paths, now, of the disks that stay as they were
	for _, p := range c.pairs() {
		old, cur := &l.Disks[p.last], &now[p.now]
		changed := slices.ContainsFunc(changes, func(c Change) bool { return c.Now == p.now })
		switch {
		case changed, relate(old, cur) == unknown && Key(old) != "" && Key(cur) == "":
			was[p.now] = old
			if cur.BackingOf == "" {
				kept[clean(cur.Path)] = true
			}
		case SameDisk(old, cur):
			known := *cur
			known.Size = cmp.Or(cur.Size, old.Size)
			known.Format = cmp.Or(cur.Format, old.Format)
			if cur.InsideBoot == "" {
				known.Inside, known.InsideBoot, known.ShortSince = old.Inside, old.InsideBoot, cmp.Or(cur.ShortSince, old.ShortSince)
			}
			if cur.Table == nil {
				known.Table = old.Table
			}
			was[p.now] = &known
		}
	}
	var out []event.MemoryDisk
	for i := range now {
		d := &now[i]
		if d.BackingOf != "" && kept[clean(d.BackingOf)] {
			continue
		}
		if was[i] == nil {
			out = append(out, *d)
			continue
		}
		out = append(out, *was[i])
		if !kept[clean(d.Path)] || d.BackingOf != "" {
			continue
		}
		for _, below := range l.Disks {
			if below.BackingOf != "" && clean(below.BackingOf) == clean(was[i].Path) {
				out = append(out, below)
			}
		}
	}
	return out[:min(len(out), maxDisks)]
}

// Accepted is one disk that is now what a guest should run on.
type Accepted struct {
	Guest string           `json:"guest"`          // its identity
	Name  string           `json:"name,omitempty"` // for people
	Boot  string           `json:"boot_id"`        // in which it was seen
	Kinds []Kind           `json:"kinds"`          // what is no alarm any more
	Last  event.MemoryDisk `json:"last"`
	Now   event.MemoryDisk `json:"now"`
}

// Accept makes what a guest ran on since what it should run on: all disks, or
// the one with that path, of then or of now. guest is an identity, as findings
// name it, or a UUID or a name. Save writes it.
func (s *Store) Accept(guest, disk string) ([]Accepted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.named(guest)
	if err != nil {
		return nil, err
	}
	var out []Accepted
	var rest []Change
	for _, c := range Compare(&l.MemoryInfo, l.Since, certainly) {
		now := &l.Since[c.Now]
		switch n := len(out); {
		case disk != "" && clean(disk) != clean(now.Path) && clean(disk) != clean(c.Last.Path):
			rest = append(rest, c)
		case n > 0 && out[n-1].Now.Path == now.Path:
			out[n-1].Kinds = append(out[n-1].Kinds, c.Kind)
		default:
			out = append(out, Accepted{l.Guest, l.Name, l.SinceBoot, []Kind{c.Kind}, c.Last, *now})
		}
	}
	switch {
	case len(out) == 0 && disk != "" && len(rest) > 0:
		return nil, fmt.Errorf("guest %s did not run on another disk at %s: `bootrace races` lists what has changed", guest, disk)
	case len(out) == 0:
		return nil, fmt.Errorf("guest %s was not seen on other disks than it should run on: there is nothing to accept", guest)
	}
	l.Disks, l.Before = l.merge(l.Since, rest), nil
	if len(rest) == 0 {
		l.Boot, l.Since, l.SinceBoot = l.SinceBoot, nil, ""
	}
	s.clock++
	l.used, s.dirty = s.clock, true
	return out, nil
}

// named finds the guest that an operator means.
func (s *Store) named(guest string) (*life, error) {
	for _, key := range Identities(guest) {
		if l := s.guests[key]; l != nil {
			return l, nil
		}
	}
	var found []*life
	for _, key := range s.ordered() {
		if l := s.guests[key]; l.Name == guest && guest != "" {
			found = append(found, l)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("no guest %q ran in an earlier boot, as far as is remembered", guest)
	}
	return nil, fmt.Errorf("%d guests are called %q: take the identity of one, such as %s", len(found), guest, found[len(found)-1].Guest)
}

// Identities lists what a guest can be remembered as that is given as findings
// name it, or by its UUID or name.
func Identities(guest string) []string {
	return []string{guest, "uuid:" + strings.ToLower(guest), "name:" + guest}
}

// bounded cuts what foreign text can make long.
func bounded(disks []event.MemoryDisk) []event.MemoryDisk {
	if disks == nil {
		return nil
	}
	out := make([]event.MemoryDisk, 0, min(len(disks), maxDisks))
	for _, d := range disks[:min(len(disks), maxDisks)] {
		if len(d.Path) > maxPath || len(d.BackingOf) > maxPath {
			continue
		}
		for _, name := range []*string{&d.ID, &d.DeviceID, &d.Serial, &d.Name, &d.UUID, &d.Mount, &d.Format, &d.InsideBoot, &d.ShortSince} {
			if len(*name) > maxName {
				*name = "" // a part of it would be another name
			}
		}
		d.Inside = boundedInside(d.Inside)
		if len(d.Table) > maxTable {
			d.Table = nil
		}
		if d.Table != nil {
			// An older program kept keys that it did not know as such.
			d.Table = slices.Clone(d.Table)
			for i, line := range d.Table {
				d.Table[i] = devmap.RedactLine(line)
			}
		}
		out = append(out, d)
	}
	return out
}

// alike reports whether two lists are of the same disks.
func alike(a, b []event.MemoryDisk) bool {
	return slices.EqualFunc(a, b, func(x, y event.MemoryDisk) bool {
		return x.Path == y.Path && x.Size == y.Size && SameDisk(&x, &y)
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
	found, err := readFile(path, s.boot)
	var later *VersionError
	if errors.As(err, &later) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path, s.read = path, true
	current := s.guests
	s.guests = map[string]*life{}
	for i := range found.guests {
		s.load(&found.guests[i])
	}
	// A program of version 1 took what a guest ran on in this boot for right.
	for i := range found.current {
		if l := s.guests[found.current[i].Guest]; l != nil && found.current[i].Boot == s.boot {
			l.take(s.boot, found.current[i].Disks, true)
		}
	}
	for _, name := range (&Store{guests: current}).ordered() {
		l := current[name]
		known := s.guests[name]
		if known == nil {
			s.forget(maxGuests - 1)
			known = &life{MemoryInfo: event.MemoryInfo{Guest: name}}
			s.guests[name] = known
		}
		s.clock++
		known.used, s.dirty = s.clock, true
		known.Name = cmp.Or(l.Name, known.Name)
		known.take(s.boot, l.Disks, true)
		if l.Since != nil { // it was another one within this boot, too
			known.take(s.boot, l.Since, true)
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

// load takes in a guest of the file.
func (s *Store) load(m *event.MemoryInfo) {
	if s.guests[m.Guest] == nil {
		s.forget(maxGuests - 1)
	}
	s.clock++
	l := &life{MemoryInfo: *m, used: s.clock}
	l.Disks, l.Before, l.Since = bounded(l.Disks), bounded(l.Before), bounded(l.Since)
	s.guests[m.Guest] = l
}

// Read returns what is remembered in the state folder dir, a guest each, also
// while a service keeps it: nothing where there is no memory.
func Read(dir string) ([]event.MemoryInfo, error) {
	c, err := readFile(filepath.Join(dir, FileName), "")
	return c.guests, err
}

// content is what a file holds.
type content struct {
	guests []event.MemoryInfo // the one that ran longest ago first
	// current are the latest runs of guests that a file of version 1 has more
	// than one of, as these may be of the boot that is under way: guests has the
	// one before then.
	current []event.MemoryInfo
}

func readFile(path, boot string) (content, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return content{}, nil
	}
	if err != nil {
		return content{}, fmt.Errorf("read what guests ran on: %w", err)
	}
	defer file.Close()
	c, err := read(io.LimitReader(file, maxFile), path, boot)
	if err != nil {
		return c, fmt.Errorf("read what guests ran on: %w", err)
	}
	return c, nil
}

// read reads the file's form; boot is the one that is under way.
func read(in io.Reader, path, boot string) (content, error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	if !lines.Scan() {
		return content{}, lines.Err() // empty: as good as none
	}
	var h header
	if err := json.Unmarshal(lines.Bytes(), &h); err != nil || h.Version <= 0 {
		return content{}, fmt.Errorf("%s does not begin with a header: it is replaced", path)
	}
	if h.Version > Version {
		return content{}, &VersionError{path, h.Version}
	}
	var list []event.MemoryInfo
	bad := 0
	for lines.Scan() {
		var e event.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Memory == nil || e.Memory.Guest == "" || len(e.Memory.Disks) == 0 {
			bad++
			continue
		}
		list = append(list, *e.Memory)
	}
	c := content{guests: list}
	if h.Version == 1 {
		c = fold(list, boot)
	}
	switch {
	case lines.Err() != nil:
		return c, fmt.Errorf("%s: %w", path, lines.Err())
	case bad > 0:
		return c, fmt.Errorf("%s: %d lines cannot be read, and are left out", path, bad)
	}
	return c, nil
}

// fold makes a guest of each of the guests of a file of version 1.
func fold(runs []event.MemoryInfo, boot string) content {
	var c content
	byGuest := map[string][]event.MemoryInfo{}
	var order []string
	for _, r := range runs {
		if byGuest[r.Guest] == nil {
			order = append(order, r.Guest)
		}
		byGuest[r.Guest] = append(byGuest[r.Guest], r)
	}
	for _, guest := range order {
		list := byGuest[guest]
		if list[0].Boot == boot && len(list) > 1 {
			c.current = append(c.current, list[0])
			list = list[1:]
		}
		m := list[0]
		m.Before = nil
		if len(list) > 1 {
			m.Before = list[1].Disks
		}
		c.guests = append(c.guests, m)
	}
	return c
}

// Save writes what is new, if the state folder is there. The file is replaced
// as a whole: a power cut leaves the old one or the new one.
func (s *Store) Save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dirty || s.path == "" {
		return nil
	}
	if err := replace.Bytes(s.path, s.text(), replace.Options{Perm: 0o600, Sole: true}); err != nil {
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
		e := event.Event{Kind: event.Memory, Memory: &s.guests[name].MemoryInfo}
		part := append(e.AppendJSON(nil), '\n')
		if size += len(part); size > maxFile {
			break
		}
		parts = append(parts, part)
	}
	slices.Reverse(parts)
	return append(out, bytes.Join(parts, nil)...)
}
