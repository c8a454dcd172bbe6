// Package words tells a boot's findings in plain words: one sentence for a
// terminal, a page and whatever else people read, so that they never differ.
//
// A Paragraph is a sequence of words that are never broken, each of spans with
// a meaning; how that looks is for whoever writes it. Names and paths are
// foreign text: they go through Teller.Name, and Clean is what that begins with.
package words

import (
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
)

// Style is the meaning of a piece of text, and with it its colour.
type Style uint8

// The styles. A writer may have further ones of its own, from NumStyles on.
const (
	Plain Style = iota
	Dim
	Strong
	Bad
	Warn
	Good
	NumStyles
)

// Span is text of one style: ours, or what Teller.Name made of foreign text.
type Span struct {
	Text  string
	Style Style
}

// Word is not broken where it fits on a line: that keeps "2.668 s" and a path
// together, and styles off line ends.
type Word []Span

// Paragraph is a sequence of words.
type Paragraph struct {
	Words []Word
}

// Say adds our own text, word by word.
func (p *Paragraph) Say(s string, st Style) {
	for _, w := range strings.Fields(s) {
		p.Words = append(p.Words, Word{{w, st}})
	}
}

// Add adds s as one word.
func (p *Paragraph) Add(s string, st Style) {
	p.Words = append(p.Words, Word{{s, st}})
}

// Join adds s to the end of the last word.
func (p *Paragraph) Join(s string, st Style) {
	if len(p.Words) == 0 {
		p.Words = append(p.Words, nil)
	}
	last := &p.Words[len(p.Words)-1]
	*last = append(*last, Span{s, st})
}

// Append adds the words of other.
func (p *Paragraph) Append(other Paragraph) {
	p.Words = append(p.Words, other.Words...)
}

// String is the paragraph on one line.
func (p *Paragraph) String() string {
	var b strings.Builder
	for i, w := range p.Words {
		if i > 0 {
			b.WriteByte(' ')
		}
		for _, s := range w {
			b.WriteString(s.Text)
		}
	}
	return b.String()
}

// endList puts end in the place of the last word's comma.
func (p *Paragraph) endList(end string) {
	last := p.Words[len(p.Words)-1]
	s := &last[len(last)-1]
	s.Text = strings.TrimSuffix(s.Text, ",") + end
}

// Foreign text within a sentence is cut to these widths.
const (
	NameCols = 60
	PathCols = 160
)

// Signs are the characters of our own text that some terminals lack.
type Signs struct {
	PlusMinus, Micro, AtLeast string
}

// Unicode has the proper ones, ASCII stand-ins for them.
var (
	Unicode = Signs{PlusMinus: "±", Micro: "µ", AtLeast: "≥"}
	ASCII   = Signs{PlusMinus: "+-", Micro: "u", AtLeast: ">="}
)

// Teller tells findings.
type Teller struct {
	Signs Signs
	// Name makes foreign text fit for where it goes, cut to about that many
	// columns.
	Name func(s string, cols int) string
	// Clock tells an instant, nil: in seconds since the boot.
	Clock func(event.Time) string
}

// At is an instant as the text tells it.
func (t *Teller) At(at event.Time) string {
	if t.Clock != nil {
		return t.Clock(at)
	}
	return Seconds(at)
}
