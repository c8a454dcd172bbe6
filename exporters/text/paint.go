package text

import (
	"bufio"
	"io"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// style is the meaning of a piece of text, and with it its colour.
type style uint8

const (
	plain style = iota
	dim
	strong
	bad
	warn
	good
	info // a guest that runs
	step // a mapping on its way
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

// span is text of one style: ours, or cleaned.
type span struct {
	text  string
	style style
}

// printer is the one way out: it cuts lines to the width and paints them.
// Write errors stay in the buffered writer until flush.
type printer struct {
	w     *bufio.Writer
	opts  Options
	width int
	signs *signs
}

func newPrinter(w io.Writer, opts Options) *printer {
	p := &printer{w: bufio.NewWriterSize(w, 64<<10), opts: opts, width: opts.width(), signs: &unicodeSigns}
	if opts.ASCII {
		p.signs = &asciiSigns
	}
	return p
}

func (p *printer) flush() error { return p.w.Flush() }

// name makes foreign text fit to print in at most width columns.
func (p *printer) name(s string, width int) string {
	s = bounded(s)
	if p.opts.ASCII {
		s = cleanASCII(s)
	} else {
		s = clean(s)
	}
	return cut(s, width, p.signs.ellipsis)
}

// line writes one line, without blanks at its end.
func (p *printer) line(spans ...span) {
	for i := len(spans) - 1; i >= 0; i-- {
		if spans[i].text = strings.TrimRight(spans[i].text, " "); spans[i].text != "" {
			break
		}
	}
	room := p.width
	for _, s := range spans {
		w := columns(s.text)
		if w > room {
			s.text = ansi.Truncate(s.text, room, "")
			w = room
		}
		room -= w
		p.paint(s)
	}
	_ = p.w.WriteByte('\n')
}

func (p *printer) paint(s span) {
	if s.text == "" {
		return
	}
	if !p.opts.Color || s.style == plain {
		_, _ = p.w.WriteString(s.text)
		return
	}
	_, _ = p.w.WriteString(paints[s.style])
	_, _ = p.w.WriteString(s.text)
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
	ellipsis, dot, plusMinus, atLeast, dash, micro string
	glyph                                          func(glyph) rune
}

var (
	unicodeSigns = signs{"…", " · ", "±", "≥", "–", "µ", func(g glyph) rune { return glyphs[g].char }}
	asciiSigns   = signs{"..", " - ", "+-", ">=", "-", "u", func(g glyph) rune { return glyphs[g].ascii }}
)
