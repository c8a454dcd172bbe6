package text

import (
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Foreign text within a sentence is cut to these widths.
const (
	nameCols = 60
	pathCols = 160
)

// part is a piece of a finding, and whether it is known.
type part func(name string) (span, bool)

// tell adds a template to the paragraph (see kind).
func (t *paragraph) tell(template string, says part) {
	t.tellPart(template, says, plain)
}

func (t *paragraph) tellPart(template string, says part, st style) {
	glue := !strings.HasPrefix(template, " ") && len(t.words) > 0
	for template != "" {
		i := strings.IndexAny(template, " {[")
		if i < 0 {
			i = len(template)
		}
		t.attach(span{template[:i], st}, &glue)
		if template = template[i:]; template == "" {
			return
		}
		switch template[0] {
		case ' ':
			glue, template = false, template[1:]
		case '{':
			name, rest, _ := strings.Cut(template[1:], "}")
			s, _ := says(name)
			t.attach(s, &glue)
			template = rest
		case '[':
			group, rest, _ := strings.Cut(template[1:], "]")
			if known(group, says) {
				if strings.HasPrefix(group, " ") {
					glue = false
				}
				t.tellGroup(group, says, st, &glue)
			}
			template = rest
		}
	}
}

// tellGroup tells an optional part; groups do not nest.
func (t *paragraph) tellGroup(group string, says part, st style, glue *bool) {
	if !*glue {
		group = " " + strings.TrimPrefix(group, " ")
	}
	t.tellPart(group, says, st)
	*glue = !strings.HasSuffix(group, " ")
}

func (t *paragraph) attach(s span, glue *bool) {
	if s.text == "" {
		return
	}
	if *glue {
		t.join(s.text, s.style)
	} else {
		t.add(s.text, s.style)
	}
	*glue = true
}

func known(group string, says part) bool {
	for {
		_, rest, found := strings.Cut(group, "{")
		if !found {
			return true
		}
		name, rest, _ := strings.Cut(rest, "}")
		if _, ok := says(name); !ok {
			return false
		}
		group = rest
	}
}

// says returns the parts of f.
func (p *printer) says(f *timeline.Finding) part {
	return func(name string) (span, bool) {
		switch name {
		case "guest":
			return span{p.name(f.Guest, nameCols), strong}, true
		case "disk":
			return span{p.name(f.Disk, pathCols), strong}, true
		case "backing":
			return span{p.name(f.BackingOf, pathCols), plain}, f.BackingOf != ""
		case "mapping":
			return span{p.name(f.MappingName, nameCols), plain}, f.MappingName != ""
		case "at":
			return span{seconds(f.At), plain}, true
		case "ready":
			return p.saysReady(f.Ready)
		case "early", "spare", "worst", "best":
			return p.saysMargin(name, f.Margin, classes[classOf(f)].style)
		case "error":
			return span{p.name(f.Error, nameCols), plain}, f.Error != ""
		case "kind":
			return span{p.name(f.Kind, nameCols), plain}, true
		}
		return span{}, false
	}
}

func (p *printer) saysReady(ready *timeline.Instant) (span, bool) {
	if ready == nil || ready.OrBefore {
		return span{}, false
	}
	width := max(ready.At.Sub(ready.From), 0)
	return span{seconds(ready.At.Add(-width/2)) + p.window(width), plain}, true
}

// saysMargin gives a margin, which lies between NS and NS+Width: early or spare
// where all of that is on one side, else worst and best.
func (p *printer) saysMargin(name string, m *timeline.Margin, st style) (span, bool) {
	side := sideOf(m)
	switch {
	case m == nil:
		return span{}, false
	case name == side && m.AtLeast:
		return span{"at least " + duration(m.NS, p.signs), st}, true
	case name == side:
		return span{duration((m.NS+m.Width/2).Abs(), p.signs) + p.window(m.Width), st}, true
	case name == "worst" && side == either:
		return span{duration(-m.NS, p.signs), st}, true
	case name == "best" && side == either:
		return span{duration(m.NS+m.Width, p.signs), st}, true
	}
	return span{}, false
}

// either is the side of a margin that lies on both sides of zero.
const either = "either"

// sideOf returns early, spare, either, or empty where nothing is known.
func sideOf(m *timeline.Margin) string {
	switch {
	case m == nil, m.NS < 0 && m.AtLeast:
		return ""
	case m.NS >= 0:
		return "spare"
	case m.NS+m.Width < 0:
		return "early"
	}
	return either
}

// window is the uncertainty of a value in the middle of a window, empty where
// it is exact.
func (p *printer) window(width event.Duration) string {
	if width <= 0 {
		return ""
	}
	return " " + p.signs.plusMinus + duration(width/2, p.signs)
}
