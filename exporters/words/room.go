package words

import (
	"strings"

	"github.com/bootrace/bootrace/tracer/timeline"
)

// The room of outputs. Whoever can start guests can start any number of them, and
// what people and viewers get must stay of use: a real host has a thousand.
const (
	// MaxGuests is how many starts of guests an export shows.
	MaxGuests = 2000
	// MaxParagraphs is how many paragraphs of a kind a text has.
	MaxParagraphs = 200
	// maxWords bounds a paragraph.
	maxWords = 1000
)

// LeftOut says what an output has no room for, empty where that is nothing.
func (t *Teller) LeftOut(left timeline.Left) Paragraph {
	var p Paragraph
	if !left.Any() {
		return p
	}
	var parts []string
	for _, part := range []struct {
		n         int
		one, many string
	}{{left.Guests, "start of a guest", "starts of guests"}, {left.Findings, "finding", "findings"}, {left.Mappings, "device", "devices"}} {
		if part.n > 0 {
			parts = append(parts, Count(part.n, part.one, part.many))
		}
	}
	p.Say("Left out for lack of room: "+strings.Join(parts, ", ")+". The worst of each user are here;", Warn)
	p.Say("`bootrace show --format json` has everything.", Warn)
	return p
}

// Bounded cuts a paragraph that nobody would read to its end, and says so.
func (p Paragraph) Bounded() Paragraph {
	left := len(p.Words) - maxWords
	if left <= 0 {
		return p
	}
	out := Paragraph{Words: p.Words[:maxWords:maxWords]}
	out.Say("... and "+Count(left, "word", "words")+" more", Dim)
	return out
}
