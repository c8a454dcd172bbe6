package text

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// paragraph is a sequence of words. A word is never broken where it fits on a
// line: that keeps "2.668 s" and a path together, and styles off line ends.
type paragraph struct {
	words []word
}

type word []span

// say adds our own text, word by word.
func (t *paragraph) say(s string, st style) {
	for _, w := range strings.Fields(s) {
		t.words = append(t.words, word{{w, st}})
	}
}

// add adds s as one word.
func (t *paragraph) add(s string, st style) {
	t.words = append(t.words, word{{s, st}})
}

// join adds s to the end of the last word.
func (t *paragraph) join(s string, st style) {
	if len(t.words) == 0 {
		t.words = append(t.words, nil)
	}
	last := &t.words[len(t.words)-1]
	*last = append(*last, span{s, st})
}

// write writes the paragraph with every line but the first indented.
func (t *paragraph) write(p *printer, indent int) {
	line := make([]span, 0, 32)
	used := 0
	flush := func() {
		p.line(line...)
		line = append(line[:0], span{strings.Repeat(" ", indent), plain})
		used = indent
	}
	for i, w := range t.words {
		if i > 0 && used+1+w.columns() > p.width {
			flush()
		} else if i > 0 {
			line = append(line, span{" ", plain})
			used++
		}
		for _, s := range w {
			for used+columns(s.text) > p.width {
				head := ansi.Truncate(s.text, p.width-used, "")
				line = append(line, span{head, s.style})
				s.text = s.text[len(head):]
				flush()
			}
			line = append(line, s)
			used += columns(s.text)
		}
	}
	if used > 0 {
		p.line(line...)
	}
}

func (w word) columns() int {
	n := 0
	for _, s := range w {
		n += columns(s.text)
	}
	return n
}
