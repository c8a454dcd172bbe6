package bootlog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Store is the folders with the logs of many boots.
type Store struct {
	// Dirs are looked at in this order: the most durable first.
	Dirs []string
	// Current is the id of the running boot, empty where the folders are
	// another host's.
	Current string
}

// Boot is one recorded boot, as far as it is known without reading all of it.
type Boot struct {
	ID    string
	Paths []string // its files, in the order in which they are to be read
	// Header lacks what only stands in the middle of a long log.
	Header Header
	// Start is when the host booted, zero where no clock was read.
	Start time.Time
	// Events is the number of events, 0 where it is not known.
	Events     uint64
	Size       int64 // bytes on disk
	Modified   time.Time
	Compressed bool
	Current    bool
	// Err says why the log cannot be read, nil if it can.
	Err error
}

// Open opens the boot's log.
func (b *Boot) Open() (*Log, error) {
	if len(b.Paths) == 0 {
		return nil, fmt.Errorf("open boot log of %s: no file", b.ID)
	}
	log, err := Open(b.Paths[0], b.Paths[1:]...)
	if !errors.Is(err, fs.ErrNotExist) {
		return log, err
	}
	// The service may have packed it since the boot was listed.
	packed := slices.Clone(b.Paths)
	for i, path := range packed {
		if _, statErr := os.Stat(path); errors.Is(statErr, fs.ErrNotExist) && strings.HasSuffix(path, plainSuffix) {
			packed[i] = strings.TrimSuffix(path, plainSuffix) + zstdSuffix
		}
	}
	if log, packedErr := Open(packed[0], packed[1:]...); packedErr == nil {
		return log, nil
	}
	return nil, err
}

// List returns the recorded boots, the latest first. A log that cannot be read
// is in the list, too, with its error. Folders that do not exist hold nothing.
func (s *Store) List() ([]Boot, error) {
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	boots := make([]Boot, 0, len(files))
	for id, paths := range files {
		boots = append(boots, s.describe(id, paths))
	}
	slices.SortFunc(boots, func(a, b Boot) int {
		return cmp.Or(-compareTrue(a.Current, b.Current), -a.order().Compare(b.order()), cmp.Compare(a.ID, b.ID))
	})
	return boots, nil
}

func compareTrue(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// order is what boots are ordered by.
func (b *Boot) order() time.Time {
	if b.Start.IsZero() {
		return b.Modified
	}
	return b.Start
}

// files returns each boot's files.
func (s *Store) files() (map[string][]string, error) {
	files := make(map[string][]string)
	for _, dir := range s.Dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("list boot logs: %w: run as root or as a member of group bootrace, or name a copied log file", err)
		}
		if err != nil {
			return nil, fmt.Errorf("list boot logs: %w", err)
		}
		// os.ReadDir sorts, so the plain file comes before the compressed one.
		// Where both are there, compressing was cut short: the former counts.
		for _, entry := range entries {
			id, compressed, ok := logName(entry.Name())
			path := filepath.Join(dir, entry.Name())
			if ok && entry.Type().IsRegular() && !(compressed && slices.Contains(files[id], strings.TrimSuffix(path, zstdSuffix)+plainSuffix)) {
				files[id] = append(files[id], path)
			}
		}
	}
	return files, nil
}

func (s *Store) describe(id string, paths []string) Boot {
	b := Boot{ID: id, Paths: paths, Current: id == s.Current}
	for _, path := range paths {
		b.add(path)
	}
	if start, ok := b.Header.WallTime(0); ok {
		b.Start = start
	}
	return b
}

// add takes over what one of the boot's files says.
func (b *Boot) add(path string) {
	info, err := os.Stat(path)
	if err == nil {
		b.Size += info.Size()
		if info.ModTime().After(b.Modified) {
			b.Modified = info.ModTime()
		}
	}
	p, err := openPart(path)
	if err != nil {
		b.Err = err
		return
	}
	defer p.file.Close()
	if b.Header.BootID == "" {
		b.Header = p.header
	}
	b.Compressed = b.Compressed || p.compressed
	switch {
	case p.summary != nil:
		b.Events = max(b.Events, p.summary.Events)
	case !p.compressed:
		b.Events = max(b.Events, p.foldEnd(&b.Header))
	}
}

// foldEnd folds the end of a plain log, where a late clock reading may stand,
// and returns the last id.
func (p *part) foldEnd(h *Header) uint64 {
	info, err := p.file.Stat()
	if err != nil {
		return 0
	}
	last, end, _, err := lastEvent(p.file, p.body, info.Size())
	if err != nil {
		return 0
	}
	text := make([]byte, min(end-p.body, peekBytes))
	if _, err := p.file.ReadAt(text, end-int64(len(text))); err == nil {
		foldLines(h, text)
	}
	return last.ID
}

// ErrNoBoots is the error where no boot has been recorded.
var ErrNoBoots = errors.New("no boot has been recorded yet: start recording with `systemctl enable --now bootrace`, or name a log file")

// UnknownBootError is the error for a reference that no recorded boot has.
type UnknownBootError struct {
	Ref      string
	Recorded int // how many boots there are
	// Unrecorded is set where Ref means the running boot.
	Unrecorded bool
}

func (e *UnknownBootError) Error() string {
	if e.Unrecorded {
		return fmt.Sprintf("this boot is not recorded (%s others are): start recording with `systemctl start bootrace`, or see `bootrace boots`", strconv.Itoa(e.Recorded))
	}
	return fmt.Sprintf("no boot %q among the %d recorded: see `bootrace boots`", e.Ref, e.Recorded)
}

// AmbiguousError is the error for a prefix that several boots have.
type AmbiguousError struct {
	Ref        string
	Candidates []string // boot ids, the latest boot first
}

func (e *AmbiguousError) Error() string {
	const most = 5
	shown, more := e.Candidates, ""
	if len(shown) > most {
		shown, more = shown[:most], fmt.Sprintf(" and %d more", len(e.Candidates)-most)
	}
	return fmt.Sprintf("%q can be boot %s%s: give more of the id", e.Ref, strings.Join(shown, " or "), more)
}

// places are the references that count boots: 0 is this one, -1 the one before.
var places = regexp.MustCompile(`^(0|-[1-9][0-9]{0,8})$`)

// Find returns the boot that ref means: 0 for this boot, -1 for the one
// before, a boot id or a unique prefix of one (with or without dashes), or a
// log file.
func (s *Store) Find(ref string) (Boot, error) {
	if strings.ContainsRune(ref, filepath.Separator) {
		return s.file(ref)
	}
	boots, err := s.List()
	if err != nil {
		return Boot{}, err
	}
	if places.MatchString(ref) {
		return s.place(ref, boots)
	}
	boot, err := s.named(ref, boots)
	if err != nil && exists(ref) {
		return s.file(ref)
	}
	return boot, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// file describes a log outside of the store.
func (s *Store) file(path string) (Boot, error) {
	p, err := openPart(path)
	if err != nil {
		return Boot{}, err
	}
	p.file.Close()
	return s.describe(p.header.BootID, []string{path}), nil
}

// place counts from this boot, which the list has first.
func (s *Store) place(ref string, boots []Boot) (Boot, error) {
	if len(boots) == 0 {
		return Boot{}, ErrNoBoots
	}
	n, err := strconv.Atoi(strings.TrimPrefix(ref, "-"))
	if err != nil {
		return Boot{}, fmt.Errorf("find boot %q: %w", ref, err)
	}
	if s.Current != "" && !boots[0].Current {
		if n == 0 {
			return Boot{}, &UnknownBootError{Ref: ref, Recorded: len(boots), Unrecorded: true}
		}
		n--
	}
	if n >= len(boots) {
		return Boot{}, &UnknownBootError{Ref: ref, Recorded: len(boots)}
	}
	return boots[n], nil
}

func (s *Store) named(ref string, boots []Boot) (Boot, error) {
	prefix := bare(ref)
	var matches []Boot
	for _, b := range boots {
		if prefix != "" && strings.HasPrefix(bare(b.ID), prefix) {
			matches = append(matches, b)
		}
	}
	switch {
	case len(matches) == 1:
		return matches[0], nil
	case len(matches) > 1:
		e := &AmbiguousError{Ref: ref}
		for _, b := range matches {
			e.Candidates = append(e.Candidates, b.ID)
		}
		return Boot{}, e
	case len(boots) == 0:
		return Boot{}, ErrNoBoots
	}
	return Boot{}, &UnknownBootError{Ref: ref, Recorded: len(boots)}
}

// bare is a boot id as journalctl writes it.
func bare(id string) string { return strings.ToLower(strings.ReplaceAll(id, "-", "")) }

// Share lets a group read the logs of all boots that are kept; 0 changes nothing.
func (s *Store) Share(gid int) error {
	if gid == 0 {
		return nil
	}
	files, err := s.files()
	if err != nil {
		return err
	}
	var errs []error
	for _, paths := range files {
		for _, path := range paths {
			f, err := osDisk{}.Open(path, os.O_RDONLY)
			if err != nil {
				errs = append(errs, ignoreMissing(err))
				continue
			}
			errs = append(errs, f.Share(gid))
			f.Close()
		}
	}
	return errors.Join(errs...)
}
