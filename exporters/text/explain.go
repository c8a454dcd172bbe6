package text

import (
	"cmp"
	"io"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
)

// labelCols is the width of the labels that begin an explanation's lines.
const labelCols = 10

// Explain writes what was understood of a hypervisor's command line: which guest
// it is, its disks with the images that the command line names for each, which
// paths have to be there before it starts, and what was not understood.
//
// launcher is the program that executes the hypervisor, if one was given.
// chains are what the images' headers name, one for each disk, nil for a disk
// without; all of them nil where no header was read.
func Explain(w io.Writer, launcher string, g *guest.Guest, chains []*image.Chain, opts Options) error {
	p := newPrinter(w, opts)
	p.guestTitle(g)
	p.guestFacts(launcher, g)
	for i := range g.Disks {
		p.line()
		p.disk(g.Hypervisor, &g.Disks[i])
		if chains != nil && chains[i] != nil {
			p.headers(chains[i])
		}
	}
	p.verdict(g, chains)
	p.problems(g.NotUnderstood)
	return p.flush()
}

func (p *printer) guestTitle(g *guest.Guest) {
	var t paragraph
	if !g.IsGuest {
		t.Say("Not a guest:", strong)
		t.Add(p.name(g.NotGuest, words.MaxBytes), plain)
		p.write(t, 2)
		return
	}
	t.Say("Guest", strong)
	t.Add(p.name(cmp.Or(g.Name, g.Identity.Value, "without a name"), words.MaxBytes), strong)
	p.write(t, 2)
}

func (p *printer) guestFacts(launcher string, g *guest.Guest) {
	p.fact("program", g.Binary, ofHypervisor(g))
	if launcher != "" {
		p.fact("launcher", launcher, "(bootrace watches the program that it executes)")
	}
	if !g.IsGuest {
		return
	}
	if g.NotWatched {
		p.fact("", "", "no name that bootrace watches: its guests are seen only if guest-binaries names it")
	}
	if id := g.Identity; id.Kind != "" {
		p.fact("identity", id.Kind+" "+id.Value, "(from "+id.From+")")
	} else {
		p.fact("identity", "", "none: nothing tells it from others after a reboot; "+cmp.Or(guest.Identify(g.Hypervisor), "bootrace does not understand its command line"))
	}
	if g.PIDFile != "" {
		p.fact("pid file", g.PIDFile, "")
	}
	if len(g.Taps) > 0 {
		p.fact("taps", strings.Join(g.Taps, ", "), "")
	}
	if g.Incoming != "" {
		p.fact("incoming", g.Incoming, "(a migration, not a fresh start)")
	}
}

// ofHypervisor names the hypervisor where the name of the program may not.
func ofHypervisor(g *guest.Guest) string {
	if g.Hypervisor == "qemu" && !g.NotWatched || strings.Contains(g.Binary, g.Hypervisor) {
		return ""
	}
	return "(" + g.Hypervisor + ")"
}

// fact writes a line: a label, foreign text, and our own words about it.
func (p *printer) fact(label, foreign, ours string) {
	t := p.labelled(2, label)
	if foreign != "" {
		t.Add(p.name(foreign, words.MaxBytes), plain)
	}
	t.Say(ours, dim)
	p.write(t, 2+labelCols)
}

func (p *printer) labelled(indent int, label string) paragraph {
	var t paragraph
	t.Add(strings.Repeat(" ", indent)+pad(label, labelCols-1), dim)
	return t
}

func (p *printer) disk(hypervisor string, d *guest.Disk) {
	var t paragraph
	t.Say("Disk", strong)
	t.Add(p.name(d.ID, words.MaxBytes), strong)
	var notes []string
	if d.Kind != guest.KindDisk {
		notes = append(notes, string(d.Kind))
	}
	if d.Device != "" {
		notes = append(notes, "shown as "+p.name(d.Device, words.NameCols))
	}
	if d.Snapshot {
		notes = append(notes, "writes go to a temporary file")
	}
	if len(notes) > 0 {
		t.Join(",", plain)
	}
	t.Append(listed(notes))
	p.write(t, 2)
	p.image(hypervisor, "image", 2, &d.Image)
}

// image writes one image and those that are opened with it, deeper by two.
func (p *printer) image(hypervisor, role string, indent int, i *guest.Image) {
	t := p.labelled(indent, role)
	if i.Path != "" {
		t.Add(p.name(i.Path, words.MaxBytes), plain)
		t.Join(":", plain)
	}
	format := "format probed by " + hypervisor
	if i.Format != "" {
		format = p.name(i.Format, words.NameCols)
	}
	notes := []string{format}
	if i.Storage == guest.StorageNone && i.Path == "" {
		notes = nil
	}
	if i.Offset != 0 {
		notes = append(notes, "from byte "+strconv.FormatInt(i.Offset, 10))
	}
	if i.ReadOnly && i.Storage != guest.StorageNone {
		notes = append(notes, "read-only")
	}
	notes = append(notes, p.waiting(i))
	t.Append(listed(notes))
	indent = min(indent, p.width/2) // chains of any length come in
	p.write(t, indent+labelCols)
	for n := range i.Members {
		p.image(hypervisor, "member", indent+2, &i.Members[n])
	}
	for n := range i.Backing {
		p.image(hypervisor, "backing", indent+2, &i.Backing[n])
	}
	if i.DataFile != nil {
		p.image(hypervisor, "data file", indent+2, i.DataFile)
	}
}

// waiting says whether a guest's start has to wait for the image, and why not.
func (p *printer) waiting(i *guest.Image) string {
	switch i.Storage {
	case guest.StorageFile:
		if i.Needs {
			return "has to be there before the start"
		}
		return "is not waited for"
	case guest.StorageFD:
		return "already open when qemu starts: not waited for"
	case guest.StorageNetwork:
		return "network storage (" + p.name(cmp.Or(i.Protocol, "unknown"), words.NameCols) + "): not waited for"
	case guest.StorageOther:
		return "no image (" + p.name(cmp.Or(i.Protocol, "unknown"), words.NameCols) + "): not waited for"
	}
	if len(i.Members) > 0 {
		return "nothing of its own"
	}
	return "no medium"
}

// listed is what is known of a thing, comma by comma.
func listed(notes []string) paragraph {
	var t paragraph
	for n, note := range notes {
		t.Say(note, dim)
		if n < len(notes)-1 {
			t.Join(",", dim)
		}
	}
	return t
}

// unclear reports whether the guest may have disks that are not among those that
// were understood.
func unclear(g *guest.Guest) bool { return g.Unknown != "" || len(g.NotUnderstood) > 0 }

func (p *printer) whyUnclear(t *paragraph, g *guest.Guest) {
	if g.Unknown != "" {
		t.Add(p.name(g.Unknown, words.MaxBytes)+".", plain)
	}
	if len(g.NotUnderstood) > 0 {
		t.Say("A part of its command line was not understood, and can name disks.", plain)
	}
}

func (p *printer) verdict(g *guest.Guest, chains []*image.Chain) {
	if !g.IsGuest {
		return
	}
	needed, hidden := needs(g, chains)
	var t paragraph
	switch {
	case needed == 0 && unclear(g):
		t.Say("Not known: which disks it has, and what to wait for before it starts:", warn)
		p.whyUnclear(&t, g)
	case needed == 0:
		t.Say("It names no disk that has to be there before it starts.", plain)
	default:
		t.Add(words.Count(needed, "path has", "paths have"), strong)
		t.Say("to be there before it starts.", plain)
	}
	if needed > 0 && unclear(g) {
		t.Say("It may have further disks:", warn)
		p.whyUnclear(&t, g)
	}
	if hidden {
		t.Say("An image may name further files in its header, as qcow2 does: they can be read once it is there.", dim)
	}
	p.line()
	p.write(t, 0)
}

// needs counts the different paths to wait for. hidden is set where an image
// can have a backing file that neither the command line nor a header that was
// read spells out.
func needs(g *guest.Guest, chains []*image.Chain) (paths int, hidden bool) {
	seen := map[string]bool{}
	for n := range g.Disks {
		for i := range g.Disks[n].Images() {
			if !i.Needs {
				continue
			}
			seen[i.Path] = true
		}
		switch i := &g.Disks[n].Image; {
		case chains != nil && chains[n] != nil:
			named(chains[n], seen)
			hidden = hidden || len(chains[n].Pending()) > 0
		case i.Needs && i.Format != "raw" && len(i.Backing) == 0 && !i.NoBacking:
			hidden = true
		}
	}
	return len(seen), hidden
}

// named adds the local paths that headers name.
func named(c *image.Chain, seen map[string]bool) {
	for i := range c.Members {
		if m := &c.Members[i]; m.FromHeader && m.Storage == guest.StorageFile {
			seen[m.Path] = true
		}
	}
}

// roles are what the members of a chain are called.
var roles = map[image.Role]string{
	image.RoleDisk: "image", image.RoleBacking: "backing", image.RoleData: "data file", image.RoleMember: "member",
}

// unread says why a header was not read, beyond what Member.Why says.
var unread = map[image.State]string{
	image.StateAbsent: "not there now", image.StateNotLive: "no active table behind it now",
	image.StateRefused: "not read", image.StateUnreadable: "not read", image.StateLoop: "a loop",
}

// headers writes what the headers of a disk's images name, where they lie, and
// which of them could not be read.
func (p *printer) headers(c *image.Chain) {
	for i := range c.Members {
		m := &c.Members[i]
		if m.FromHeader || m.On != nil || unread[m.State] != "" {
			p.member(c, m)
		}
	}
	if c.Cut != "" {
		p.fact("cut", "", c.Cut)
	}
}

func (p *printer) member(c *image.Chain, m *image.Member) {
	depth := 0
	for over := m.Over; over >= 0; over = c.Members[over].Over {
		depth++
	}
	indent := min(2+2*depth, p.width/2)
	t := p.labelled(indent, roles[m.Role])
	t.Add(p.name(m.Path, words.MaxBytes), plain)
	t.Join(":", plain)
	var notes []string
	if m.Format != "" {
		notes = append(notes, p.name(m.Format, words.NameCols))
	}
	if m.FromHeader {
		notes = append(notes, "named by a header")
	}
	if m.Name != "" {
		notes = append(notes, "mapping "+p.name(m.Name, words.NameCols))
	}
	if m.Size > 0 {
		notes = append(notes, words.Bytes(m.Size))
	}
	if m.On != nil && len(m.On.Below) > 0 {
		notes = append(notes, "on "+p.name(nodes(m.On.Disks()), words.PathCols))
	}
	if why := unread[m.State]; why != "" {
		if m.Why != "" && m.State != image.StateAbsent {
			why += ": " + p.name(m.Why, words.PathCols)
		}
		notes = append(notes, why)
	}
	t.Append(listed(notes))
	p.write(t, indent+labelCols)
}

func (p *printer) problems(list []guest.Problem) {
	if len(list) == 0 {
		return
	}
	p.line()
	var t paragraph
	t.Add(words.Count(len(list), "argument was", "arguments were"), warn)
	t.Say("not understood; the rest holds:", warn)
	p.write(t, 2)
	for _, problem := range list {
		var t paragraph
		t.Add("  "+p.name(problem.Arg, words.MaxBytes)+":", plain)
		t.Add(p.name(problem.Reason, words.MaxBytes), dim)
		p.write(t, 4)
	}
}

// nodes lists devices by the kernel's names.
func nodes(devices []devmap.Device) string {
	var names []string
	for i := range devices {
		names = append(names, devices[i].Node)
	}
	return strings.Join(names, ", ")
}
