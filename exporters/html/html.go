// Package html writes a timeline as one page that needs nothing else: no
// network, no server, no second file. It opens from a disk or a mail.
//
// What people read first is there without the script: what this boot is and
// the findings in words. The lanes are drawn from data in the page, as far as
// they are in view.
//
// Names and paths are foreign text. The template escapes them, the data is JSON
// escaped for a script element, the script puts text into the page as text
// only, and a content security policy allows nothing but that very script.
package html

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

var (
	//go:embed page.html
	pageText string
	//go:embed page.css
	styleText string
	//go:embed page.js
	scriptText string

	pageTemplate = template.Must(template.New("page").Parse(pageText))
)

// page is what the template shows.
type page struct {
	Policy string
	Style  template.CSS
	Script template.JS

	Title    string
	Facts    []fact
	Complete bool
	Tally    []run
	Coverage []run
	// Left says what the page has no room for.
	Left []run
	// Kinds count the findings, for choosing among them.
	Kinds []kindCount
	// Findings are the worst, More the rest of the certain ones; Withheld are
	// those without a verdict.
	Findings, More, Withheld []finding
	// Verdicts say what the findings come to, Sound how many guests have none.
	Verdicts, MoreVerdicts []verdict
	Sound                  []run
	Data                   *data
}

// fact is one thing that is known of the boot.
type fact struct{ Name, Value string }

// run is text of one style.
type run struct{ Class, Text string }

// headline says what the boot comes to, and which findings it has.
func headline(t *words.Teller, tl *timeline.Timeline) words.Paragraph {
	p := t.Outcome(tl)
	p.Join(":", words.Plain)
	p.Append(t.Tally(tl))
	return p
}

// Write writes tl as a page.
func Write(w io.Writer, tl *timeline.Timeline) error {
	t := &words.Teller{Signs: words.Unicode, Name: name}
	shown, left := tl.Most(words.MaxGuests)
	drawn, undrawn := newData(t, shown)
	p := &page{
		Policy:   policy(),
		Style:    template.CSS(styleText),
		Script:   template.JS(scriptText),
		Title:    title(tl),
		Facts:    facts(tl),
		Complete: tl.Complete,
		Tally:    runs(headline(t, tl)),
		Coverage: runs(t.Coverage(tl)),
		Left:     runs(t.LeftOut(left)),
		Kinds:    countKinds(shown.Findings),
		Data:     drawn,
	}
	if undrawn > 0 {
		p.Left = append(p.Left, run{"warn", " The lanes of " + words.Count(undrawn, "guest or device", "guests and devices") + " are left out: the page is as large as a browser can take."})
	}
	p.addFindings(t, shown)
	sound := t.Sound(tl)
	sound.Append(t.Insides(tl))
	p.Sound = runs(sound)
	if err := pageTemplate.Execute(words.PageWriter(w), p); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// policy allows the page's own script and style, and nothing from anywhere.
func policy() string {
	return fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; base-uri 'none'; form-action 'none'",
		digest(scriptText), digest(styleText))
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// name makes foreign text fit for a page: what can't be seen, or changes the
// direction of what follows, is escaped, and no name is longer than a screen.
func name(s string, cols int) string {
	r := []rune(words.Clean(words.Bounded(s)))
	if len(r) <= cols || cols < 2 {
		return string(r)
	}
	return string(r[:(cols+1)/2-1]) + "…" + string(r[len(r)-cols/2:])
}

// whole is name for where there is room for all of it.
func whole(s string) string { return name(s, words.MaxBytes) }

func title(tl *timeline.Timeline) string {
	s := "boot " + whole(words.ShortID(tl.BootID))
	if tl.Host.Name != "" {
		s = whole(tl.Host.Name) + ", " + s
	}
	return s
}

func facts(tl *timeline.Timeline) []fact {
	list := []fact{
		{"Host", name(tl.Host.Name, words.PathCols)},
		{"Boot", name(tl.BootID, words.PathCols)},
		{"Booted", booted(tl.Clock)},
		{"Kernel", name(tl.Kernel, words.PathCols)},
		{"System", name(tl.Host.OS, words.PathCols)},
		{"Recorded", words.Long(tl.Last.Sub(tl.First)) + ", " + humanize.Comma(int64(tl.Events)) + " events"},
	}
	known := list[:0]
	for _, f := range list {
		if f.Value != "" {
			known = append(known, f)
		}
	}
	return known
}

// booted says when the boot was. A clock that nobody had set by then can be
// wrong by any amount, whatever the reading's own error.
func booted(c *event.ClockInfo) string {
	if c == nil {
		return "wall time not known"
	}
	s := time.Unix(0, c.WallOffset).UTC().Format("2006-01-02 15:04:05 UTC")
	if !c.Trusted {
		s += " (clock not synchronized)"
	}
	return s
}

var classNames = [words.NumStyles]string{
	words.Dim:    "dim",
	words.Strong: "strong",
	words.Bad:    "bad",
	words.Warn:   "warn",
	words.Good:   "good",
}

// longWord is from where on a word of several parts may be broken.
const longWord = 24

// runs turns a paragraph into text, a run for each change of style.
func runs(p words.Paragraph) []run {
	p = p.Bounded()
	var list []run
	add := func(class, text string) {
		if n := len(list); n > 0 && list[n-1].Class == class {
			list[n-1].Text += text
			return
		}
		list = append(list, run{class, text})
	}
	for i, w := range p.Words {
		if i > 0 {
			add("", " ")
		}
		for _, s := range w {
			add(classNames[s.Style], unbroken(s.Text))
		}
	}
	return markCode(list)
}

// markCode gives commands, which words puts between backquotes, a style.
func markCode(list []run) []run {
	var out []run
	for _, r := range list {
		parts := strings.Split(r.Text, "`")
		if r.Class != "" || len(parts)%2 == 0 {
			out = append(out, r)
			continue
		}
		for i, p := range parts {
			class := ""
			if i%2 == 1 {
				class = "code"
			}
			if p != "" {
				out = append(out, run{class, p})
			}
		}
	}
	return out
}

// unbroken keeps a number and its unit on one line.
func unbroken(s string) string {
	if len(s) > longWord {
		return s
	}
	out := []rune(s)
	for i, r := range out {
		if r == ' ' {
			out[i] = '\u00a0'
		}
	}
	return string(out)
}
