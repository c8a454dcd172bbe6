package text

import (
	"io"
	"slices"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Races writes the findings in words, a paragraph each, the worst first; then
// those for which the record allows no verdict, with the reason. It says what
// the record covers, and so what it means that there are none.
func Races(w io.Writer, tl *timeline.Timeline, opts Options) error {
	p := newPrinter(w, opts)
	p.write(p.teller.Summary(tl), 2)
	p.write(p.teller.Coverage(tl), 2)
	certain, withheld := words.Sort(tl.Findings)
	for _, f := range certain {
		p.line()
		p.finding(f)
	}
	if len(withheld) > 0 {
		p.line()
		var t paragraph
		t.Say("Possible, but the record does not prove it", strong)
		p.write(t, 2)
	}
	for _, f := range withheld {
		p.line()
		p.finding(f)
	}
	p.headerProblems(tl)
	p.verdicts(tl)
	return p.flush()
}

// verdicts writes what the findings come to, a paragraph for each cause.
func (p *printer) verdicts(tl *timeline.Timeline) {
	verdicts := slices.DeleteFunc(slices.Clone(tl.Verdicts), func(v *timeline.Verdict) bool { return v.Outcome == timeline.OutcomeFine })
	if len(verdicts) > 0 {
		p.line()
		var t paragraph
		t.Say("Cause and fix", strong)
		p.write(t, 2)
	}
	for _, v := range verdicts {
		for _, c := range v.Causes {
			p.line()
			p.write(p.teller.Cause(v, c), 2)
		}
		if len(v.Causes) == 0 {
			p.line()
			p.write(p.teller.NotKnown(v), 2)
		}
	}
	if rest := p.teller.Sound(tl); len(rest.Words) > 0 {
		p.line()
		p.write(rest, 2)
	}
}

// finding writes one finding as a paragraph.
func (p *printer) finding(f *timeline.Finding) {
	t := p.opening(f)
	t.Append(p.teller.Finding(f))
	p.write(t, 2)
}

// opening is the sign and the kind of f.
func (p *printer) opening(f *timeline.Finding) paragraph {
	var t paragraph
	c := words.ClassOf(f)
	t.Add(string(p.signs.glyph(classSigns[c])), c.Style())
	t.Add(p.name(f.Kind, words.NameCols)+":", c.Style())
	return t
}

var classSigns = [words.NumClasses]glyph{
	words.Failure: markFailed,
	words.Warning: signWarn,
	words.Unsure:  signUnsure,
	words.Note:    signNote,
}
