package text

import (
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/diff"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Diff writes what differs between two boots: mappings, guests with their disks,
// findings. What is equal in both is only counted; with Options.All it is
// written, too. Each line says what it was and what it is now.
func Diff(w io.Writer, d *diff.Diff, opts Options) error {
	p := newPrinter(w, opts)
	p.bootLine("before", &d.Before)
	p.bootLine("after", &d.After)
	p.alike(&d.Before, &d.After)
	p.diffMappings(d.Mappings)
	p.diffGuests(d.Guests)
	p.diffFindings(d.Findings)
	return p.flush()
}

func (p *printer) bootLine(which string, b *diff.Boot) {
	var t paragraph
	t.Add(pad(which, 7), dim)
	t.Add(p.name(b.BootID, words.NameCols), strong)
	for _, s := range []string{b.Host, b.Kernel} {
		if s != "" {
			t.Add(p.name(s, words.NameCols), plain)
		}
	}
	if !b.Complete {
		t.Say("(record not complete: what seems to have gone may not have been seen)", warn)
	}
	p.write(t, 8)
}

// alike says what makes the comparison another than it seems to be.
func (p *printer) alike(before, after *diff.Boot) {
	var t paragraph
	switch {
	case before.BootID == after.BootID:
		t.Say("That is one boot twice: nothing can differ.", warn)
	case before.Host != "" && after.Host != "" && before.Host != after.Host:
		t.Say("These are two hosts,", warn)
		t.Add(p.name(before.Host, words.NameCols), warn)
		t.Say("and", warn)
		t.Add(p.name(after.Host, words.NameCols)+":", warn)
		t.Say("what came or went may only be of the other host.", warn)
	default:
		return
	}
	p.write(t, 2)
}

// section writes a heading, with how many are equal.
func (p *printer) section(title string, same int) {
	p.line()
	var t paragraph
	t.Say(title, strong)
	if same > 0 {
		t.Say("("+strconv.Itoa(same)+" unchanged)", dim)
	}
	p.write(t, 2)
}

// signOf is + for what came, - for what went, ~ for what changed.
func signOf(changes []string) (string, style) {
	switch {
	case slices.Contains(changes, diff.Came):
		return "+", good
	case slices.Contains(changes, diff.Went):
		return "-", bad
	case len(changes) > 0:
		return "~", warn
	}
	return " ", dim
}

func (p *printer) diffMappings(list []diff.Mapping) {
	same := 0
	for i := range list {
		if len(list[i].Changes) == 0 {
			same++
		}
	}
	p.section("Mappings", same)
	for i := range list {
		if m := &list[i]; len(m.Changes) > 0 || p.opts.All {
			p.diffMapping(m)
		}
	}
}

func (p *printer) diffMapping(m *diff.Mapping) {
	var t paragraph
	sign, st := signOf(m.Changes)
	t.Add(sign, st)
	t.Add(p.name(m.Name, words.NameCols), strong)
	side := m.After
	if side == nil {
		side = m.Before
	}
	if m.Before == nil || m.After == nil || len(m.Changes) == 0 {
		t.Say(devText(side.Dev)+", "+words.Bytes(side.Size)+", "+p.readyText(side), plain)
		p.write(t, 4)
		return
	}
	var parts []string
	for _, c := range m.Changes {
		parts = append(parts, p.mappingChange(c, m.Before, m.After))
	}
	t.Say(strings.Join(parts, "; "), plain)
	p.write(t, 4)
}

func (p *printer) mappingChange(what string, before, after *diff.MappingSide) string {
	switch what {
	case diff.Name:
		return "was named " + p.name(before.Name, words.NameCols)
	case diff.Minor:
		return "number " + devText(before.Dev) + " to " + devText(after.Dev)
	case diff.Size:
		return "size " + words.Bytes(before.Size) + " to " + words.Bytes(after.Size)
	case diff.Table:
		return "made of " + p.tableText(before.Table) + ", now of " + p.tableText(after.Table)
	case diff.Ready:
		return "was " + p.readyText(before) + ", now " + p.readyText(after)
	case diff.Order:
		return "place " + strconv.Itoa(before.Place) + " to " + strconv.Itoa(after.Place) + " (" + p.readyText(before) + ", now " + p.readyText(after) + ")"
	}
	return p.name(what, words.NameCols)
}

func (p *printer) tableText(table []string) string {
	return p.name(strings.Join(table, ", "), words.PathCols)
}

func (p *printer) readyText(s *diff.MappingSide) string {
	if s.Ready == nil {
		return "never ready"
	}
	return "ready at " + words.Seconds(*s.Ready)
}

func devText(d event.Dev) string {
	return strconv.Itoa(int(d.Major)) + ":" + strconv.Itoa(int(d.Minor))
}

func (p *printer) diffGuests(list []diff.Guest) {
	same := 0
	for i := range list {
		if !list[i].Changed() {
			same++
		}
	}
	p.section("Guests", same)
	for i := range list {
		if g := &list[i]; g.Changed() || p.opts.All {
			p.diffGuest(g)
		}
	}
}

func (p *printer) diffGuest(g *diff.Guest) {
	var t paragraph
	changes := g.Changes
	if len(changes) == 0 && g.Changed() {
		changes = []string{diff.MappingOf}
	}
	sign, st := signOf(changes)
	t.Add(sign, st)
	t.Add(p.name(g.Guest, words.NameCols), strong)
	switch {
	case g.Before == nil:
		t.Say("started at "+words.Seconds(g.After.Exec), plain)
	case g.After == nil:
		t.Say("had started at "+words.Seconds(g.Before.Exec), plain)
	default:
		t.Say(p.guestChanges(g), plain)
	}
	p.write(t, 4)
	for i := range g.Disks {
		if d := &g.Disks[i]; len(d.Changes) > 0 || p.opts.All {
			p.diffDisk(d)
		}
	}
}

func (p *printer) guestChanges(g *diff.Guest) string {
	parts := []string{"started at " + words.Seconds(g.Before.Exec) + ", now " + words.Seconds(g.After.Exec)}
	for _, c := range g.Changes {
		switch c {
		case diff.Order:
			parts = append(parts, "place "+strconv.Itoa(g.Before.Place)+" to "+strconv.Itoa(g.After.Place))
		case diff.Exit:
			parts = append(parts, endText(g.Before.Exit)+", now "+endText(g.After.Exit))
		}
	}
	return strings.Join(parts, "; ")
}

func endText(e *timeline.Exit) string {
	switch {
	case e == nil:
		return "ran on"
	case e.Signal != 0:
		return "killed by signal " + strconv.Itoa(e.Signal)
	}
	return "ended with status " + strconv.Itoa(e.Status)
}

func (p *printer) diffDisk(d *diff.Disk) {
	var t paragraph
	sign, st := signOf(d.Changes)
	t.Add("  "+sign, st)
	t.Add(p.name(d.Path, words.PathCols), plain)
	switch {
	case d.Before == nil:
		t.Say(p.diskText(d.After), plain)
	case d.After == nil:
		t.Say(p.diskText(d.Before), plain)
	default:
		t.Say(p.diskText(d.Before)+"; now "+p.diskText(d.After), plain)
	}
	p.write(t, 8)
}

func (p *printer) diskText(s *diff.DiskSide) string {
	var parts []string
	if s.Mapping != "" {
		parts = append(parts, p.name(s.Mapping, words.NameCols))
	}
	if s.Size >= 0 {
		parts = append(parts, words.Bytes(s.Size))
	}
	if s.Error != "" {
		parts = append(parts, p.name(s.Error, words.NameCols))
	}
	if s.Margin != nil {
		parts = append(parts, p.teller.Margin(s.Margin, plain).Long)
	}
	if len(parts) == 0 {
		return "no device"
	}
	return strings.Join(parts, ", ")
}

func (p *printer) diffFindings(list []diff.Finding) {
	same := 0
	for _, f := range list {
		if f.Before && f.After {
			same++
		}
	}
	p.section("Findings", same)
	for _, f := range list {
		if f.Before && f.After && !p.opts.All {
			continue
		}
		var t paragraph
		switch {
		case f.Before && f.After:
			t.Add(" ", dim)
		case f.After:
			t.Add("+", bad)
		default:
			t.Add("-", good)
		}
		t.Add(p.name(f.Kind, words.NameCols)+":", strong)
		if f.Guest != "" {
			t.Add(p.name(f.Guest, words.NameCols)+",", plain)
		}
		t.Add(p.name(f.Disk, words.PathCols), plain)
		p.write(t, 4)
	}
}
