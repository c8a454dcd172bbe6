package html

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/timeline"
)

var (
	//go:embed index.html
	indexText     string
	indexTemplate = template.Must(template.New("index").Parse(indexText))
)

// indexStyle is the index' own, beside that of a page.
//
//go:embed index.css
var indexStyle string

// indexReasons is how many causes of a boot an index tells.
const indexReasons = 5

// An Index is a page about many boots, of one host or of several: a line for each, and
// the causes of those that did not go well. It has no script and no picture. Boots are
// added one after the other, and what is kept of each is small.
type Index struct{ boots []indexBoot }

// indexBoot is one line.
type indexBoot struct {
	Host, Boot, Booted, Recorded string
	Class                        string
	Tally, Coverage              []run
	Complete                     bool
	Causes                       [][]run
	More                         int
	Problem                      string

	outcome timeline.Outcome
	at      int64 // wall time, nanoseconds; 0 where no clock was read
}

// indexHost is a host with its boots, the latest first.
type indexHost struct {
	Name  string
	Class string // of the latest boot
	Boots []indexBoot
}

// Add adds a boot.
func (x *Index) Add(tl *timeline.Timeline) {
	t := &words.Teller{Signs: words.Unicode, Name: name}
	b := indexBoot{
		Host: whole(tl.Host.Name), Boot: whole(words.ShortID(tl.BootID)), Booted: booted(tl.Clock),
		Recorded: words.Long(tl.Last.Sub(tl.First)) + ", " + humanize.Comma(int64(tl.Events)) + " events",
		Class:    classes[words.OutcomeClass(tl.Summary.Outcome)],
		Tally:    runs(headline(t, tl)), Coverage: runs(t.Coverage(tl)), Complete: tl.Complete, outcome: tl.Summary.Outcome,
	}
	if tl.Clock != nil {
		b.at = tl.Clock.WallOffset
	}
	advice := t.Verdicts(tl)
	for i := range advice {
		if i == indexReasons {
			b.More = len(advice) - i
			break
		}
		b.Causes = append(b.Causes, runs(advice[i].Paragraph))
	}
	x.boots = append(x.boots, b)
}

// AddProblem adds a boot that can't be read, by what it was called, and the reason: a
// line that is left out would look like a boot that never was.
func (x *Index) AddProblem(ref string, err error) {
	x.boots = append(x.boots, indexBoot{Boot: whole(ref), Problem: whole(err.Error()), Class: classes[words.Unsure], outcome: timeline.OutcomeUnknown})
}

// hosts are those whose latest boot went worst first.
func (x *Index) hosts() []indexHost {
	of := map[string]int{}
	var hosts []indexHost
	for _, b := range x.boots {
		at, ok := of[b.Host]
		if !ok {
			at = len(hosts)
			of[b.Host] = at
			hosts = append(hosts, indexHost{Name: b.Host})
		}
		hosts[at].Boots = append(hosts[at].Boots, b)
	}
	for i := range hosts {
		slices.SortStableFunc(hosts[i].Boots, func(a, b indexBoot) int { return cmp.Compare(b.at, a.at) })
		hosts[i].Class = hosts[i].Boots[0].Class
	}
	rank := func(h indexHost) int { return slices.Index(timeline.Outcomes(), h.Boots[0].outcome) }
	slices.SortStableFunc(hosts, func(a, b indexHost) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Name, b.Name))
	})
	return hosts
}

// headline says how many boots of how many hosts went how.
func (x *Index) headline(hosts int) []run {
	var p words.Paragraph
	p.Say(words.Count(len(x.boots), "boot", "boots")+" of "+words.Count(hosts, "host", "hosts")+":", words.Plain)
	first := true
	for _, o := range timeline.Outcomes() {
		n := 0
		for _, b := range x.boots {
			if b.outcome == o {
				n++
			}
		}
		if n == 0 {
			continue
		}
		if !first {
			p.Join(",", words.Plain)
		}
		first = false
		p.Add(fmt.Sprintf("%d %s", n, indexOutcomes[o]), words.OutcomeClass(o).Style())
	}
	return runs(p)
}

var indexOutcomes = map[timeline.Outcome]string{
	timeline.OutcomeFailed: "with guests that failed", timeline.OutcomeUnknown: "not known",
	timeline.OutcomeAtRisk: "with guests at risk", timeline.OutcomeFine: "fine",
}

// Write writes the page, made at the time now.
func (x *Index) Write(w io.Writer, now time.Time) error {
	hosts := x.hosts()
	style := styleText + indexStyle
	err := indexTemplate.Execute(words.PageWriter(w), struct {
		Policy   string
		Style    template.CSS
		Headline []run
		Made     string
		Hosts    []indexHost
	}{
		fmt.Sprintf("default-src 'none'; style-src '%s'; base-uri 'none'; form-action 'none'", digest(style)),
		template.CSS(style), x.headline(len(hosts)), now.UTC().Format("2006-01-02 15:04:05 UTC"), hosts,
	})
	if err != nil {
		return fmt.Errorf("write the index: %w", err)
	}
	return nil
}
