package text

import (
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/bootrace/bootrace/exporters/words"
)

type (
	paragraph = words.Paragraph
	word      = words.Word
)

// write writes a paragraph with every line but the first indented.
func (p *printer) write(t paragraph, indent int) {
	t = t.Bounded()
	line := make([]span, 0, 32)
	used := 0
	flush := func() {
		p.line(line...)
		line = append(line[:0], styled(strings.Repeat(" ", indent), plain))
		used = indent
	}
	for i, w := range t.Words {
		if i > 0 && used+1+wordColumns(w) > p.width {
			flush()
		} else if i > 0 {
			line = append(line, styled(" ", plain))
			used++
		}
		for _, s := range w {
			for used+columns(s.Text) > p.width {
				head := ansi.Truncate(s.Text, p.width-used, "")
				line = append(line, styled(head, s.Style))
				s.Text = s.Text[len(head):]
				flush()
			}
			line = append(line, s)
			used += columns(s.Text)
		}
	}
	if used > 0 {
		p.line(line...)
	}
}

func wordColumns(w word) int {
	n := 0
	for _, s := range w {
		n += columns(s.Text)
	}
	return n
}
