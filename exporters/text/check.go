package text

import (
	"io"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/check"
)

// checkSigns is how each grade is marked.
var checkSigns = map[check.Grade]span{
	check.Good:    styled("ok", good),
	check.Warning: styled("!", warn),
	check.Bad:     styled("NO", bad),
}

const (
	gradeCols = 4  // of the sign and a blank
	checkCols = 23 // of what is checked and a blank
	// narrowCheck is the width below which what was found stands below what is
	// checked, not beside it.
	narrowCheck = 60
)

// Check writes what this host can do: an entry for each check with what was
// found, and below it what to do about it.
func Check(w io.Writer, r *check.Report, opts Options) error {
	p := newPrinter(w, opts)
	can, st := "can be traced, but guests can't be held.", warn
	switch {
	case !r.Trace:
		can, st = "can't be traced.", bad
	case r.Enforce:
		can, st = "can be traced, and guests be held.", good
	}
	var t paragraph
	t.Say("This host (kernel "+p.name(r.Kernel, words.NameCols)+")", plain)
	t.Say(can, st)
	p.write(t, 2)
	p.line()
	indent := gradeCols + checkCols
	if p.width < narrowCheck {
		indent = gradeCols
	}
	for i := range r.Items {
		p.item(&r.Items[i], indent)
	}
	return p.flush()
}

func (p *printer) item(i *check.Item, indent int) {
	sign := checkSigns[i.Grade]
	head := word{styled(pad(sign.Text, gradeCols), sign.Style)}
	name := styled(p.name(i.Name, checkCols-1), strong)
	if indent == gradeCols { // what was found has lines of its own
		p.line(head[0], name)
		head = word{styled(pad("", indent-1), plain)}
	} else {
		head = append(head, styled(pad(name.Text, checkCols-1), strong))
	}
	p.beside(head, i.Text, indent)
	if i.Remedy != "" {
		p.beside(word{styled(padLeft("->", indent-1), plain)}, i.Remedy, indent)
	}
}

// beside writes text to the right of head, all its lines from that column on.
func (p *printer) beside(head word, text string, indent int) {
	t := paragraph{Words: []word{head}}
	t.Say(p.clean(text), plain)
	p.write(t, indent)
}

// clean makes foreign text that may be long fit to print.
func (p *printer) clean(s string) string { return p.name(s, words.MaxBytes) }
