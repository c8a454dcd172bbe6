package text

import (
	"cmp"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// mostHeaders is how many images that could not be followed are listed.
const mostHeaders = 10

// headerProblems writes the images whose headers could not be read or followed,
// and so may have backing files that nobody knows of.
func (p *printer) headerProblems(tl *timeline.Timeline) {
	n := 0
	for _, g := range tl.Guests {
		for i := range g.Disks {
			if d := &g.Disks[i]; d.Problem != "" {
				if n++; n <= mostHeaders {
					p.headerProblem(g, d)
				}
			}
		}
	}
	if n > mostHeaders {
		p.line(styled("  and "+words.Count(n-mostHeaders, "more image", "more images"), dim))
	}
}

func (p *printer) headerProblem(g *timeline.Guest, d *timeline.Disk) {
	p.line()
	var t paragraph
	t.Add(string(p.signs.glyph(signNote)), dim)
	t.Say("guest", plain)
	t.Add(p.name(cmp.Or(g.Name, g.Identity, g.ID), words.NameCols), strong)
	t.Say("opens", plain)
	t.Add(p.name(d.Path, words.PathCols), strong)
	t.Join(", whose header is not followed:", plain)
	t.Say(p.name(d.Problem, words.PathCols)+".", plain)
	p.write(t, 2)
}
