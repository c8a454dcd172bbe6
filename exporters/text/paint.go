package text

import (
	"bufio"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
)

type (
	style = words.Style
	span  = words.Span
)

func styled(text string, st style) span { return span{Text: text, Style: st} }

const (
	plain  = words.Plain
	dim    = words.Dim
	strong = words.Strong
	bad    = words.Bad
	warn   = words.Warn
	good   = words.Good
)

// The styles that only lanes need.
const (
	info style = words.NumStyles + iota // a guest that runs
	step                                // a mapping on its way
	numStyles
)

// paints are the sequences that begin a style: only the 16 basic colours,
// which each user has already made readable on their own background.
var paints = [numStyles]string{
	dim:    ansi.NewStyle().Faint().String(),
	strong: ansi.NewStyle().Bold().String(),
	bad:    ansi.NewStyle().Bold().ForegroundColor(ansi.Red).String(),
	warn:   ansi.NewStyle().ForegroundColor(ansi.Yellow).String(),
	good:   ansi.NewStyle().ForegroundColor(ansi.Green).String(),
	info:   ansi.NewStyle().ForegroundColor(ansi.Blue).String(),
	step:   ansi.NewStyle().ForegroundColor(ansi.Cyan).String(),
}

// printer is the one way out: it cuts lines to the width, cleans them and paints
// them. Only its own colours are sequences that a terminal understands.
// Write errors stay in the buffered writer until flush.
type printer struct {
	w      *bufio.Writer
	opts   Options
	width  int
	signs  *signs
	teller *words.Teller
}

func newPrinter(w io.Writer, opts Options) *printer {
	p := &printer{w: bufio.NewWriterSize(words.Raw(w), 64<<10), opts: opts, width: opts.width(), signs: &unicodeSigns}
	p.teller = &words.Teller{Signs: words.Unicode, Name: p.name}
	if opts.ASCII {
		p.signs, p.teller.Signs = &asciiSigns, words.ASCII
	}
	if opts.Wall != 0 {
		p.teller.Clock = func(at event.Time) string { return opts.timeOfDay(at, time.Millisecond) }
	}
	return p
}

// timeOfDay is an instant of the boot as a time of the day, cut to that precision: a
// power of ten of a second.
func (o *Options) timeOfDay(at event.Time, to time.Duration) string {
	form := "15:04:05"
	if decimals := decimalsOf(to); decimals > 0 {
		form += "." + strings.Repeat("0", decimals)
	}
	return time.Unix(0, o.Wall+int64(bound(at))).In(o.location()).Format(form)
}

func (p *printer) flush() error { return p.w.Flush() }

// name makes foreign text fit to print in at most width columns.
func (p *printer) name(s string, width int) string {
	s = words.Bounded(s)
	if p.opts.ASCII {
		s = words.CleanASCII(s)
	} else {
		s = words.Clean(s)
	}
	return cut(s, width, p.signs.ellipsis)
}

// line writes one line, without blanks at its end.
func (p *printer) line(spans ...span) {
	for i := len(spans) - 1; i >= 0; i-- {
		if spans[i].Text = strings.TrimRight(spans[i].Text, " "); spans[i].Text != "" {
			break
		}
	}
	room := p.width
	for _, s := range spans {
		w := columns(s.Text)
		if w > room {
			s.Text = ansi.Truncate(s.Text, room, "")
			w = room
		}
		room -= w
		p.paint(s)
	}
	_ = p.w.WriteByte('\n')
}

func (p *printer) paint(s span) {
	if s.Text == "" {
		return
	}
	s.Text = words.Clean(s.Text)
	if !p.opts.Color || s.Style == plain {
		_, _ = p.w.WriteString(s.Text)
		return
	}
	_, _ = p.w.WriteString(paints[s.Style])
	_, _ = p.w.WriteString(s.Text)
	_, _ = p.w.WriteString(ansi.ResetStyle)
}

// pad fills s with blanks up to width columns.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(width-columns(s), 0))
}

// padLeft is pad for numbers.
func padLeft(s string, width int) string {
	return strings.Repeat(" ", max(width-columns(s), 0)) + s
}

// signs are the characters of our own text that differ without UTF-8.
type signs struct {
	ellipsis, dot string
	glyph         func(glyph) rune
}

var (
	unicodeSigns = signs{"…", " · ", func(g glyph) rune { return glyphs[g].char }}
	asciiSigns   = signs{"..", " - ", func(g glyph) rune { return glyphs[g].ascii }}
)
