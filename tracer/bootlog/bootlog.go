// Package bootlog keeps the record of each boot: a file of events, one JSON
// line each after a header line, that is written once and readable anywhere.
//
// A Writer appends to the log of the running boot, first under /run, then
// wherever the caller moves it. A Log is one boot's record, read back in
// order, whatever a power cut has left of it. A Store is the folders that
// hold the logs of many boots.
//
// Event ids in a log begin at 1 and leave no gap. So whatever is lost from a
// log shows, and a reader puts a loss event in its place.
package bootlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
)

// Source is the source name of the loss events that come from the log itself.
const Source = "log"

const (
	plainSuffix = ".jsonl"
	zstdSuffix  = ".jsonl.zst"
	tempSuffix  = ".tmp"

	// maxLine is the longest line, in bytes, that is an event. Command lines
	// are bounded far below it where they are captured.
	maxLine = 4 << 20
	// maxHeader is the longest header line, in bytes.
	maxHeader = 64 << 10
)

// Header is what a log says about its boot. The fields with a JSON name are
// its first line, the others come from its events.
type Header struct {
	Version  int        `json:"bootrace_log"` // event.Version of the writer
	BootID   string     `json:"boot_id"`
	HostName string     `json:"host,omitempty"`    // as known when recording began
	Kernel   string     `json:"kernel,omitempty"`  // release, as of uname -r
	Machine  string     `json:"machine,omitempty"` // as of uname -m
	Program  string     `json:"program,omitempty"` // version of the program that began the log
	Started  event.Time `json:"started_ns"`        // when recording began

	// Host is the last that was known; its Name is HostName until then.
	Host event.HostInfo `json:"-"`
	// Wall is the last trusted clock reading, else the last reading at all, nil
	// if there was none.
	Wall *event.ClockInfo `json:"-"`
	// Sources are the sources by first appearance, each with its last state
	// and all its abilities.
	Sources []event.SourceInfo `json:"-"`
}

// Fold takes over what e says about the host, the clock and the sources. It keeps
// nothing that e points to.
func (h *Header) Fold(e *event.Event) {
	switch {
	case e.Clock != nil:
		if e.Clock.Replaces(h.Wall) {
			clock := *e.Clock
			h.Wall = &clock
		}
	case e.Host != nil:
		h.Host = *e.Host
	case e.Source != nil:
		h.foldSource(e.Source)
	}
}

func (h *Header) foldSource(s *event.SourceInfo) {
	i := slices.IndexFunc(h.Sources, func(have event.SourceInfo) bool { return have.Name == s.Name })
	if i < 0 {
		h.Sources = append(h.Sources, event.SourceInfo{Name: s.Name, State: s.State, Abilities: slices.Clone(s.Abilities)})
		return
	}
	have := &h.Sources[i]
	have.State = s.State
	for _, a := range s.Abilities {
		if j := slices.IndexFunc(have.Abilities, func(b event.Ability) bool { return b.Name == a.Name }); j >= 0 {
			have.Abilities[j] = a
		} else {
			have.Abilities = append(have.Abilities, a)
		}
	}
}

// WallTime returns t as wall time; ok is false where no clock was read.
func (h *Header) WallTime(t event.Time) (wall time.Time, ok bool) {
	if h.Wall == nil {
		return time.Time{}, false
	}
	return time.Unix(0, h.Wall.WallOffset+int64(t)), true
}

// line returns the header's line, with its line break.
func (h *Header) line() ([]byte, error) {
	first := *h
	first.Version = event.Version
	line, err := json.Marshal(&first)
	if err != nil {
		return nil, fmt.Errorf("encode log header: %w", err)
	}
	return append(line, '\n'), nil
}

// errNoHeader says that a first line is not a header. It never leaves the
// package without the name of the file.
var errNoHeader = errors.New("its first line is not the header of a boot log")

// parseHeader reads a log's first line.
func parseHeader(line []byte, path string) (Header, error) {
	var h Header
	if !bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("{")) {
		return Header{}, errNoHeader
	}
	err := json.Unmarshal(line, &h)
	switch {
	case h.Version > event.Version:
		// Judged before err: a newer header may well look different.
		return Header{}, &VersionError{Path: path, Log: h.Version, Program: event.Version}
	case err != nil || h.Version < 1 || h.BootID == "":
		return Header{}, errNoHeader
	}
	h.Host.Name = h.HostName
	return h, nil
}

// ErrEmpty is the error for a log without a single line: recording has just
// begun, or ended before anything reached the disk.
var ErrEmpty = errors.New("the log is empty")

// VersionError is the error for a log that a newer program wrote.
type VersionError struct {
	Path         string
	Log, Program int // version of the log, and the last one that can be read
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("read boot log %s: it has version %d, this program reads up to version %d: use a newer bootrace", e.Path, e.Log, e.Program)
}

// LockedError is the error for a log that another process is writing.
type LockedError struct{ Path string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("write boot log %s: another bootrace is writing it: stop that one first (bootrace status shows it)", e.Path)
}

// bootIDs are as /proc/sys/kernel/random/boot_id has them. They become file
// names, so nothing else may pass.
var bootIDs = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// logName splits a log's file name; ok is false for other files.
func logName(path string) (bootID string, compressed, ok bool) {
	name := filepath.Base(path)
	bootID, compressed = strings.CutSuffix(name, zstdSuffix)
	if !compressed {
		bootID, ok = strings.CutSuffix(name, plainSuffix)
	}
	return bootID, compressed, (ok || compressed) && bootIDs.MatchString(bootID)
}
