package text

import (
	"io"
	"strings"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Races writes the findings in words, a paragraph for those that are alike, the
// worst first; then those for which the record allows no verdict, with the reason. It says what
// the record covers, and so what it means that there are none.
func Races(w io.Writer, tl *timeline.Timeline, opts Options) error {
	p := newPrinter(w, opts)
	p.write(p.teller.Summary(tl), 2)
	p.write(p.teller.Coverage(tl), 2)
	if opts.Wall != 0 {
		p.list(plain, p.booted(tl.Clock), "times are of that day")
	}
	if opts.Kind != "" {
		tl = tl.OfKind(opts.Kind)
		if len(tl.Findings) == 0 {
			p.line()
			p.line(styled("No finding of the kind "+p.name(opts.Kind, words.NameCols)+".", strong))
			return p.flush()
		}
	}
	certain, withheld := words.Sort(tl.Findings)
	p.groups(certain)
	if len(withheld) > 0 {
		p.line()
		var t paragraph
		t.Say("Possible, but the record does not prove it", strong)
		p.write(t, 2)
	}
	p.groups(withheld)
	p.headerProblems(tl)
	p.verdicts(tl)
	return p.flush()
}

// groups writes findings, a paragraph for what is alike.
func (p *printer) groups(findings []*timeline.Finding) {
	all := words.Group(findings)
	for i, g := range all {
		if i == words.MaxParagraphs {
			p.left(len(all)-i, "reason", "reasons")
			break
		}
		p.line()
		t := p.opening(g.Findings[0])
		t.Append(p.teller.Group(&g))
		p.write(t, 2)
		if len(g.Findings) == 1 {
			p.steps(g.Findings[0])
		}
	}
}

// steps lists what the time until the device was ready was spent on, a line each.
func (p *printer) steps(f *timeline.Finding) {
	list := p.teller.Steps(f)
	at, took := 0, 0
	for _, s := range list {
		at, took = max(at, columns(s.At)), max(took, columns(s.Took))
	}
	for _, s := range list {
		sign, st := "    ", dim
		switch {
		case s.Opened:
			sign, st = "  "+string(p.signs.glyph(opened(f)))+" ", words.ClassOf(f).Style()
		case s.Decisive:
			sign, st = "  > ", strong
		}
		s.What = cut(s.What, max(p.width-len("    ")-at-took-len("    "), 1), p.signs.ellipsis)
		p.line(styled(sign, st), styled(padLeft(s.At, at)+"  "+padLeft(s.Took, took)+"  "+s.What, st))
	}
}

// opened is the glyph of the open that f is about.
func opened(f *timeline.Finding) glyph {
	switch {
	case f.Kind == timeline.Held, f.Kind == timeline.WouldHold, f.Kind == timeline.NotExecuted:
		return markExec
	case f.Error != "":
		return markFailed
	}
	return markOpened
}

// left says that there is no room for all.
func (p *printer) left(n int, one, many string) {
	p.line()
	var t paragraph
	t.Say("And "+words.Count(n, "more "+one, "more "+many)+": --guest NAME tells one guest alone, --format json everything.", dim)
	p.write(t, 2)
}

// verdicts writes what the findings come to, a paragraph for each reason.
func (p *printer) verdicts(tl *timeline.Timeline) {
	verdicts := p.teller.Verdicts(tl)
	if len(verdicts) > 0 {
		p.line()
		var t paragraph
		t.Say("Cause and fix", strong)
		p.write(t, 2)
	}
	for i, a := range verdicts {
		if i == words.MaxParagraphs {
			p.left(len(verdicts)-i, "cause", "causes")
			break
		}
		p.line()
		p.write(a.Paragraph, 2)
		p.commands(a.Commands)
	}
	var rest paragraph
	if p.opts.Kind == "" {
		rest = p.teller.Sound(tl)
		rest.Append(p.teller.Insides(tl))
	}
	rest.Append(p.teller.More(tl))
	if len(rest.Words) > 0 {
		p.line()
		p.write(rest, 2)
	}
}

// commandIndent sets commands apart from what is said.
const commandIndent = 4

// commands writes what can be pasted. None is cut: what does not fit goes on in the
// next line as a shell takes it, and where that can't be, all are left out.
func (p *printer) commands(list []string) {
	var lines []string
	for _, command := range list {
		wrapped, ok := shellLines(command, p.width-commandIndent)
		if !ok {
			return
		}
		lines = append(lines, wrapped...)
	}
	for _, line := range lines {
		p.line(styled(strings.Repeat(" ", commandIndent), plain), styled(line, info))
	}
}

// shellLines breaks a command into lines of at most width columns, each but the last
// with a backslash at its end, and never within quotes.
func shellLines(command string, width int) (lines []string, ok bool) {
	const goesOn = ` \`
	for columns(command) > width {
		at, quoted := -1, false
		for i, r := range command {
			if r == '\'' {
				quoted = !quoted
			}
			if r == ' ' && !quoted && i > 0 && i+len(goesOn) <= width {
				at = i
			}
		}
		if at < 0 || strings.HasPrefix(command, "#") {
			return nil, false
		}
		lines = append(lines, command[:at]+goesOn)
		command = "  " + strings.TrimLeft(command[at:], " ")
		if len(lines) > 8 {
			return nil, false
		}
	}
	return append(lines, command), true
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
