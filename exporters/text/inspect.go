package text

import (
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/inspect"
)

// Inspect writes what is on the disks of guests: each layer with what is inside
// it, what that means, and what to do.
func Inspect(w io.Writer, list []inspect.Inspection, opts Options) error {
	p := newPrinter(w, opts)
	for i := range list {
		if i > 0 {
			p.line()
		}
		p.inspection(&list[i])
	}
	return p.flush()
}

func (p *printer) inspection(in *inspect.Inspection) {
	if in.Guest != "" {
		var t paragraph
		t.Say("Guest", strong)
		t.Add(p.name(in.Guest, words.MaxBytes), strong)
		if in.PID != 0 {
			t.Say("runs as process "+strconv.Itoa(in.PID)+": only what holds meanwhile is told", warn)
		} else {
			t.Say("does not run", plain)
		}
		p.write(t, 2)
	}
	for _, note := range in.Notes {
		p.remark(2, note, dim)
	}
	for i := range in.Disks {
		if i > 0 || in.Guest != "" {
			p.line()
		}
		p.inspectedDisk(&in.Disks[i])
	}
}

func (p *printer) inspectedDisk(d *inspect.InspectedDisk) {
	var t paragraph
	t.Say("Disk", strong)
	t.Add(p.name(d.Path, words.MaxBytes), strong)
	if d.Report != nil {
		t.Join(":", plain)
		t.Say(words.Bytes(d.Report.Disk.Has), plain)
	}
	p.write(t, 2)
	if len(d.Images) > 1 || len(d.Images) == 1 && (d.Images[0].Format != "raw" || len(d.Images[0].Notes) > 0) {
		for i := range d.Images {
			p.extent(&d.Images[i])
		}
	}
	for _, u := range d.Writers {
		text := "in use by " + p.name(u.Program, words.NameCols)
		if u.PID != 0 {
			text += ", process " + strconv.Itoa(u.PID)
		}
		p.remark(2, text+": kinds and sizes hold, states don't", warn)
	}
	if d.Report != nil {
		for _, l := range d.Report.Disk.Inside {
			p.layer(l, 2)
		}
	}
	p.troubles(d)
}

// remark writes a line of its own, indented.
func (p *printer) remark(indent int, text string, st style) {
	var t paragraph
	t.Add(strings.Repeat(" ", indent)+"-", dim)
	t.Say(p.name(text, words.MaxBytes), st)
	p.write(t, indent+2)
}

func (p *printer) extent(e *image.Extent) {
	t := p.labelled(2, "image")
	t.Add(p.name(e.Path, words.MaxBytes), plain)
	t.Join(":", plain)
	t.Say(p.name(e.Format, words.NameCols), plain)
	if e.Has > 0 {
		t.Say("on "+words.Bytes(e.Has), plain)
	}
	p.write(t, 2+labelCols)
	if e.Needs > e.Has {
		p.remark(4, "needs "+words.Bytes(e.Needs)+" at least: short by "+words.Bytes(e.Needs-e.Has), bad)
	}
	if e.Damage != "" {
		p.remark(4, "damaged: "+e.Damage, bad)
	}
	for _, text := range e.Unknown {
		p.remark(4, "not known: "+text, warn)
	}
	if e.Why != "" {
		p.remark(4, "not read: "+e.Why, warn)
	}
	for _, note := range e.Notes {
		p.remark(4, note, dim)
	}
}

var stateStyles = map[inspect.State]style{
	inspect.StateErrors: bad, inspect.StateUnknown: warn, inspect.StateEncrypted: warn, inspect.StateHibernated: warn,
}

func (p *printer) layer(l *inspect.Layer, indent int) {
	indent = min(indent, p.width/2)
	var t paragraph
	t.Add(strings.Repeat(" ", indent)+p.name(l.Title(), words.NameCols), strong)
	if l.Label != "" {
		t.Say(`"`+p.name(l.Label, words.NameCols)+`"`, plain)
	}
	if l.Detail != "" && !strings.HasPrefix(l.Title(), l.Detail) {
		t.Say("("+p.name(l.Detail, words.NameCols)+")", dim)
	}
	t.Join(":", plain)
	switch {
	case l.Needs > 0 && l.Has >= 0:
		t.Say("needs "+words.Bytes(l.Needs)+", has", plain)
		if l.Needs == l.Has {
			t.Say("as many", plain)
		} else {
			t.Say(words.Bytes(l.Has), plain)
		}
	case l.Needs > 0:
		t.Say("needs "+words.Bytes(l.Needs), plain)
	default:
		t.Say("has "+words.Bytes(l.Has), plain)
	}
	p.write(t, indent+2)
	if short := l.Short(); short > 0 {
		p.remark(indent+2, "short by "+words.Bytes(short), bad)
	}
	if l.State != "" {
		text := string(l.State)
		if l.Why != "" {
			text += ": " + l.Why
		}
		p.remark(indent+2, text, stateStyles[l.State])
	}
	for _, d := range l.Damage {
		p.remark(indent+2, "damaged at byte "+strconv.FormatInt(d.At, 10)+": "+d.What+": "+d.Check, bad)
	}
	if a := l.Absent; a != nil {
		p.remark(indent+2, "its headers are absent from byte "+strconv.FormatInt(a.From, 10)+" on", bad)
	}
	for _, text := range l.Unknown {
		p.remark(indent+2, "not known: "+text, warn)
	}
	for _, note := range l.Notes {
		p.remark(indent+2, note, dim)
	}
	for _, s := range l.Times {
		p.remark(indent+2, s.What+" "+s.At.In(p.opts.location()).Format("2006-01-02 15:04:05 MST")+", by the guest's clock", dim)
	}
	if l.UUID != "" {
		p.remark(indent+2, "UUID "+l.UUID, dim)
	}
	if len(l.Checked) > 0 {
		p.remark(indent+2, "looked at: "+strings.Join(l.Checked, "; "), dim)
	}
	for _, in := range l.Inside {
		p.layer(in, indent+2)
	}
}

// troubles says what was found, what that means, and what was not looked at.
func (p *printer) troubles(d *inspect.InspectedDisk) {
	p.line()
	told := map[string]bool{}
	incomplete := slices.ContainsFunc(d.Troubles, func(t inspect.Trouble) bool {
		return t.Kind == inspect.Truncated || t.Kind == inspect.PartMissing
	})
	for i := range d.Troubles {
		tr := &d.Troubles[i]
		var t paragraph
		t.Add("  "+string(tr.Kind)+":", bad)
		t.Say(p.name(tr.Layer, words.PathCols)+":", strong)
		t.Say(p.name(tr.What, words.MaxBytes)+".", plain)
		if short := tr.Needs - tr.Has; short > 0 {
			t.Say("It is short by "+words.Bytes(short)+".", plain)
		}
		p.write(t, 4)
		if means, do := words.TroubleMeaning(tr, incomplete); !told[means] {
			told[means] = true
			p.indented(4, means)
			p.indented(4, do)
		}
	}
	for _, u := range d.Unknown {
		var t paragraph
		t.Add("  not known:", warn)
		t.Say(p.name(u, words.MaxBytes)+".", plain)
		p.write(t, 4)
	}
	if d.Report == nil {
		return
	}
	looked := false
	d.Walk(func(l *inspect.Layer) {
		looked = looked || len(l.Checked) > 0
		if text := words.StateMeaning(l); text != "" && !told[text] {
			told[text] = true
			p.indented(2, text)
		}
	})
	switch {
	case len(d.Troubles) > 0:
	case looked:
		p.indented(2, "Nothing was found wrong in what was looked at: headers, and the ends of logs. Directories and data were not looked at.")
	default:
		p.indented(2, "Nothing inside could be looked at.")
	}
}

func (p *printer) indented(indent int, text string) {
	var t paragraph
	first, rest, _ := strings.Cut(text, " ")
	t.Add(strings.Repeat(" ", indent)+first, plain)
	t.Say(rest, plain)
	p.write(t, indent)
}
