package text

import (
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// BootRow is one recorded boot, as the list of boots shows it. What is not
// known is the zero value, or -1 for a number.
type BootRow struct {
	Index    int    // 0 is the boot that runs, -1 the one before, ...
	BootID   string // in full
	Host     string
	Start    time.Time // wall time of the boot; zero: not known
	Trusted  bool      // Start comes from a synchronized clock
	Duration event.Duration
	Events   int
	Guests   int
	Races    int
	// Outcome is what the boot comes to, empty if not known because the log
	// can't be read; Counts are its guests by outcome.
	Outcome  timeline.Outcome
	Counts   timeline.Counts
	Size     int64 // of the log on disk, in bytes
	Complete bool
	// CompleteFrom is the instant from which on the record is complete, nil if
	// it never is.
	CompleteFrom *event.Time
	// Problem says why the log can't be read, empty if it can.
	Problem string
}

// column is one column of the list of boots.
type column struct {
	title string
	right bool // numbers
	// spare is the order in which columns go where there is no room: highest
	// first, 0 stays.
	spare int
	cell  func(p *printer, r *BootRow) span
}

var bootColumns = []column{
	{"", true, 0, func(_ *printer, r *BootRow) span { return styled(strconv.Itoa(r.Index), strong) }},
	{"BOOT", false, 0, func(p *printer, r *BootRow) span { return styled(p.name(words.ShortID(r.BootID), 12), plain) }},
	{"HOST", false, 5, func(p *printer, r *BootRow) span { return styled(p.name(r.Host, 20), plain) }},
	{"BOOTED", false, 2, bootedCell},
	{"RECORDED", true, 4, recordedCell},
	{"EVENTS", true, 6, func(_ *printer, r *BootRow) span { return number(r.Events, plain) }},
	{"GUESTS", true, 3, func(_ *printer, r *BootRow) span { return number(r.Guests, plain) }},
	{"FAILED", true, 0, func(_ *printer, r *BootRow) span { return r.guests(timeline.OutcomeFailed, bad) }},
	{"UNKNOWN", true, 0, func(_ *printer, r *BootRow) span { return r.guests(timeline.OutcomeUnknown, warn) }},
	{"RACES", true, 8, func(_ *printer, r *BootRow) span { return number(r.Races, bad) }},
	{"SIZE", true, 7, func(_ *printer, r *BootRow) span { return styled(humanize.IBytes(uint64(max(r.Size, 0))), plain) }},
	{"RECORD", false, 1, recordCell},
}

// recordCols is what the last column needs: more only where there is room, as
// for why a log can't be read.
const recordCols = len("from 1234.567 s")

func bootedCell(p *printer, r *BootRow) span {
	switch {
	case r.Start.IsZero():
		return styled("not known", dim)
	case !r.Trusted:
		return styled(wall(r.Start.In(p.opts.location()))+" ?", warn)
	}
	return styled(wall(r.Start.In(p.opts.location())), plain)
}

func recordedCell(_ *printer, r *BootRow) span {
	if r.Problem != "" {
		return styled("?", dim)
	}
	return styled(words.Long(r.Duration), plain)
}

func recordCell(p *printer, r *BootRow) span {
	switch {
	case r.Problem != "":
		return styled(p.name(r.Problem, 60), bad)
	case r.Complete:
		return styled("complete", good)
	case r.CompleteFrom != nil:
		return styled("from "+words.Seconds(*r.CompleteFrom), warn)
	}
	return styled("not complete", warn)
}

// guests is how many guests had that outcome.
func (r *BootRow) guests(o timeline.Outcome, st style) span {
	if r.Outcome == "" {
		return number(-1, st)
	}
	return number(r.Counts.Of(o), st)
}

func number(n int, st style) span {
	switch {
	case n < 0:
		return styled("?", dim)
	case n == 0:
		return styled("0", dim)
	}
	return styled(humanize.Comma(int64(n)), st)
}

// Boots writes the recorded boots, a line each. Where the window is narrow,
// columns are left out, the least important first. A line below says what the
// question marks in it mean.
func Boots(w io.Writer, rows []BootRow, opts Options) error {
	p := newPrinter(w, opts)
	if len(rows) == 0 {
		p.line(styled("No boot is recorded.", plain))
		return p.flush()
	}
	cells := make([][]span, len(rows))
	for i := range rows {
		for _, c := range bootColumns {
			cells[i] = append(cells[i], c.cell(p, &rows[i]))
		}
	}
	widths := fit(cells, p.width)
	p.row(titles(), widths)
	for _, row := range cells {
		p.row(row, widths)
	}
	p.questionMarks(rows, widths)
	return p.flush()
}

// questionMarks says what the question marks in the list mean.
func (p *printer) questionMarks(rows []BootRow, widths []int) {
	var clock, log bool
	for i := range rows {
		clock = clock || !rows[i].Start.IsZero() && !rows[i].Trusted
		log = log || rows[i].Problem != ""
	}
	booted := slices.IndexFunc(bootColumns, func(c column) bool { return c.title == "BOOTED" })
	var t paragraph
	if clock && widths[booted] > 0 {
		t.Say("? after a time: by a clock that was not synchronized.", dim)
	}
	if log {
		t.Say("? for a number: not known, the log can't be read.", dim)
	}
	if len(t.Words) > 0 {
		p.line()
		p.write(t, 0)
	}
}

func titles() []span {
	row := make([]span, 0, len(bootColumns))
	for _, c := range bootColumns {
		row = append(row, styled(c.title, dim))
	}
	return row
}

// fit returns the width of each column, 0 for those that are left out.
func fit(cells [][]span, width int) []int {
	widths := make([]int, len(bootColumns))
	total := 0
	for i, c := range bootColumns {
		widths[i] = len(c.title)
		for _, row := range cells {
			widths[i] = max(widths[i], columns(row[i].Text))
		}
		if i == len(bootColumns)-1 {
			widths[i] = min(widths[i], recordCols)
		}
		total += widths[i] + 2
	}
	for total-2 > width {
		most := 0
		for i, c := range bootColumns {
			if widths[i] > 0 && c.spare > bootColumns[most].spare {
				most = i
			}
		}
		if bootColumns[most].spare == 0 {
			break
		}
		total -= widths[most] + 2
		widths[most] = 0
	}
	return widths
}

func (p *printer) row(cells []span, widths []int) {
	var line []span
	used := 0
	for i, c := range cells {
		if widths[i] == 0 {
			continue
		}
		if len(line) > 0 {
			line = append(line, styled("  ", plain))
			used += 2
		}
		if i == len(cells)-1 {
			c.Text = cut(c.Text, p.width-used, p.signs.ellipsis)
		}
		used += widths[i]
		blanks := styled(strings.Repeat(" ", max(widths[i]-columns(c.Text), 0)), plain)
		if bootColumns[i].right {
			line = append(line, blanks, c)
		} else {
			line = append(line, c, blanks)
		}
	}
	p.line(line...)
}
