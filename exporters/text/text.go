// Package text writes timelines for a terminal: lanes on a common time axis
// (Show), the findings in plain words (Races), a list of boots (Boots) and what
// was understood of a qemu command line (Explain).
//
// It takes a Timeline and writes. It knows nothing of probes, logs or where it
// runs: the width, the colours and the time zone come in with Options. Names
// and paths are foreign text and never reach the terminal as they are.
package text

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/bootrace/bootrace/tracer/event"
)

const (
	defaultWidth = 80
	minWidth     = 24 // below it, lines are as wide as this
	maxWidth     = 400
)

// Options say how to write. The zero value suits a pipe: 80 columns, no colour,
// UTF-8.
type Options struct {
	Width int  // columns; 0 means 80
	Color bool // the 16 colours that every terminal has, as its user set them
	ASCII bool // no character beyond ASCII; foreign ones are escaped
	All   bool // every lane, LVM's private layers too

	// Kind has Races tell the findings of one kind alone, and what they come to.
	Kind string

	// From and To zoom Show to a part of the boot; 0 means from the first and
	// to the last thing that there is to see.
	From, To event.Time

	// Location is the zone of wall times; nil means UTC.
	Location *time.Location
	// Wall is the boot's own wall time, in nanoseconds since 1970: Show and Races
	// then tell instants as times of the day. 0: in seconds since the boot.
	Wall int64
}

func (o Options) width() int {
	if o.Width == 0 {
		return defaultWidth
	}
	return min(max(o.Width, minWidth), maxWidth)
}

func (o Options) location() *time.Location {
	if o.Location == nil {
		return time.UTC
	}
	return o.Location
}

// DetectTerminal returns the Options that suit f: the terminal's width, colour
// where it has any and NO_COLOR is not set, ASCII where the locale or the
// terminal has no more. Into a pipe it gives no colour, and COLUMNS as width.
func DetectTerminal(f *os.File, getenv func(string) string) Options {
	fd := int(f.Fd())
	tty := term.IsTerminal(fd)
	o := Options{
		Color: tty && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb" && getenv("TERM") != "",
		ASCII: !utf8Locale(getenv) || tty && getenv("TERM") == "linux", // the console's font has 512 glyphs
	}
	if width, _, err := term.GetSize(fd); tty && err == nil && width > 0 {
		o.Width = width
	} else if width, err := strconv.Atoi(getenv("COLUMNS")); err == nil && width > 0 {
		o.Width = width
	}
	return o
}

// utf8Locale follows setlocale(3): the first of the three that is set decides.
func utf8Locale(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
