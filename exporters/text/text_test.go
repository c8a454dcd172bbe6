package text

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

var update = flag.Bool("update", false, "write the golden files")

func load(tb testing.TB, name string) *timeline.Timeline {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		tb.Fatal(err)
	}
	tl := new(timeline.Timeline)
	if err := json.Unmarshal(data, tl); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return tl
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

type writer func(io.Writer, *timeline.Timeline, Options) error

var writers = map[string]writer{"show": Show, "races": Races}

func TestGolden(t *testing.T) {
	cases := []struct {
		data string
		opts map[string]Options
	}{
		{"demo", map[string]Options{
			"40": {Width: 40}, "80": {}, "100": {Width: 100}, "120": {Width: 120}, "200": {Width: 200},
			"80-color": {Color: true}, "120-color": {Width: 120, Color: true}, "80-ascii": {ASCII: true},
			"80-all":  {All: true},
			"80-zoom": {From: event.Time(14 * time.Second), To: event.Time(15 * time.Second)},
			"80-zone": {Location: time.FixedZone("CET", 3600)},
			"80-wall": {Location: time.FixedZone("CET", 3600), Wall: 1772435560_123456789}, "120-wall": {Width: 120, Wall: 1772435560_123456789},
		}},
		{"held", map[string]Options{"40": {Width: 40}, "80": {}, "120": {Width: 120}}},
		{"incomplete", map[string]Options{"40": {Width: 40}, "80": {}, "120": {Width: 120}, "80-color": {Color: true}}},
		{"large", map[string]Options{"80": {}, "120": {Width: 120}}},
		{"hostile", map[string]Options{"40": {Width: 40}, "80": {}, "120": {Width: 120}, "80-ascii": {ASCII: true}}},
		{"kinds", map[string]Options{"80": {}, "120": {Width: 120}}},
		{"verdicts", map[string]Options{"40": {Width: 40}, "80": {}, "120": {Width: 120}, "80-ascii": {ASCII: true}}},
		{"neverstarted", map[string]Options{"80": {}, "120": {Width: 120}}},
		{"advice", map[string]Options{"80": {}, "120": {Width: 120}}},
		{"domains", map[string]Options{"80": {}, "120": {Width: 120}}},
		{"manydisks", map[string]Options{"120": {Width: 120}}},
		{"queue", map[string]Options{"80": {}}},
		{"shrunk", map[string]Options{"120": {Width: 120}}},
		{"empty", map[string]Options{"80": {}}},
	}
	for _, c := range cases {
		tl := load(t, c.data)
		for kind, write := range writers {
			for variant, opts := range c.opts {
				name := c.data + "-" + kind + "-" + variant
				t.Run(name, func(t *testing.T) {
					var b bytes.Buffer
					if err := write(&b, tl, opts); err != nil {
						t.Fatal(err)
					}
					checkOutput(t, b.Bytes(), opts)
					golden(t, name, b.Bytes())
				})
			}
		}
	}
}

// checkOutput checks what must hold for any timeline: no line is wider than
// the window, and nothing but our own colours can control the terminal.
func checkOutput(t *testing.T, out []byte, opts Options) {
	t.Helper()
	if !utf8.Valid(out) {
		t.Error("output is not UTF-8")
	}
	s := string(out)
	for line := range strings.Lines(s) {
		line = strings.TrimSuffix(line, "\n")
		if w := ansi.StringWidth(line); w > opts.width() {
			t.Errorf("%d columns in a window of %d: %q", w, opts.width(), line)
		}
		if !opts.Color && strings.TrimRight(line, " ") != line {
			t.Errorf("blanks at the end of %q", line)
		}
	}
	if opts.Color {
		for _, seq := range append(paints[:], ansi.ResetStyle) {
			if seq != "" {
				s = strings.ReplaceAll(s, seq, "")
			}
		}
	}
	for _, r := range s {
		if r != '\n' && string(r) != words.Clean(string(r)) && !strings.ContainsRune("\u0301\u0302", r) {
			t.Errorf("control or invisible rune %U", r)
		}
		if opts.ASCII && r >= utf8.RuneSelf {
			t.Errorf("%q in ASCII output", r)
		}
	}
}

// FuzzNames puts foreign bytes wherever a timeline can have them.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"", "web-1", "\x1b[2J\x1b]0;x\a", "\u202eevil\u2069", "\xff\xc0", "中文", "🚀\u200d👩", "\u009b31m", "a b", "{guest}", "[x]",
		strings.Repeat("é", 4096), "\u0300\u0301\u0302\u0303", "🇩🇪🇩", "\r\n\t"} {
		f.Add(s, uint8(80), true, int64(-2668e6))
	}
	f.Fuzz(func(t *testing.T, name string, width uint8, color bool, margin int64) {
		tl := foreign(name, margin)
		for _, opts := range []Options{{Width: int(width), Color: color}, {Width: int(width), ASCII: true, All: true}} {
			for _, write := range writers {
				var b bytes.Buffer
				if err := write(&b, tl, opts); err != nil {
					t.Fatal(err)
				}
				checkWidths(t, b.String(), opts)
			}
			var b bytes.Buffer
			if err := Boots(&b, []BootRow{{BootID: name, Host: name, Problem: name}, {Events: int(margin)}}, opts); err != nil {
				t.Fatal(err)
			}
			checkWidths(t, b.String(), opts)
		}
	})
}

// checkWidths is checkOutput without the check of single runes, which do not
// tell whether a combining mark stands where it may.
func checkWidths(t *testing.T, out string, opts Options) {
	t.Helper()
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if w := ansi.StringWidth(line); w > opts.width() {
			t.Errorf("%d columns in a window of %d: %q", w, opts.width(), line)
		}
		if stripped := ansi.Strip(line); printable(stripped) != "" {
			t.Errorf("%s in %q", printable(stripped), line)
		} else if !opts.Color && strings.ContainsRune(line, '\x1b') {
			t.Errorf("escape in plain output: %q", line)
		}
	}
}

// printable says what in s is not.
func printable(s string) string {
	for _, r := range s {
		if r == utf8.RuneError || r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200b || r == 0x200d {
			return fmt.Sprintf("%U", r)
		}
	}
	return ""
}

// foreign is a timeline in which name stands for every text.
func foreign(name string, margin int64) *timeline.Timeline {
	at := timeline.Instant{At: event.Time(margin), From: event.Time(margin / 2)}
	ready := timeline.Instant{At: 5e9}
	m := &timeline.Margin{NS: event.Duration(margin), Width: event.Duration(margin / 3)}
	life := &timeline.Life{Created: &at, Live: &ready,
		Steps: []timeline.Step{{Kind: name, Instant: at}, {Kind: timeline.StepSuspend, Instant: ready}, {Kind: timeline.StepFound, Instant: at, State: name}},
		Paths: []timeline.Path{{Path: name, Link: true, Made: at, Ready: &ready}}}
	disk := timeline.Disk{Path: name, Mapping: "m", Uses: []timeline.Use{{Instant: at, Errno: 2, Error: name, Ready: &ready, Margin: m}}}
	guest := &timeline.Guest{ID: "g", Name: name, Exec: at, Disks: []timeline.Disk{disk, {Path: name}},
		Exit: &timeline.Exit{Instant: ready}, Holds: []timeline.Hold{{Instant: at}}}
	finding := func(kind, withheld string) *timeline.Finding {
		return &timeline.Finding{Kind: kind, Withheld: withheld, Guest: name, GuestID: "g", Disk: name, BackingOf: name,
			MappingName: name, Margin: m, Ready: &at, Error: name, State: name, Exit: guest.Exit, Evidence: []uint64{1, 2},
			Late: &timeline.Account{Steps: []timeline.AccountStep{{Kind: name, Detail: name}, {Kind: "disk", Detail: name, To: at.At}}}}
	}
	tl := &timeline.Timeline{BootID: name, Kernel: name, Host: event.HostInfo{Name: name, OS: name},
		Clock:      &event.ClockInfo{WallOffset: margin, Uncertainty: margin},
		Incomplete: []timeline.Gap{{From: at.At, To: ready.At, Why: name}},
		Mappings: []*timeline.Mapping{
			{ID: "m", Name: name, Lives: []*timeline.Life{life}},
			{ID: "n", Name: name, Layer: name, Lives: []*timeline.Life{life}}},
		Guests: []*timeline.Guest{guest}}
	tl.Findings = append(tl.Findings, finding(name, ""), finding("missing", name))
	for _, kind := range timeline.FindingKinds() {
		tl.Findings = append(tl.Findings, finding(kind, ""))
	}
	return tl
}

func TestBoots(t *testing.T) {
	from := event.Time(1_200_000_000)
	rows := []BootRow{
		{Index: 0, BootID: "3f2a91c0-5d1e-4b7a-9c35-0e8f6a21d4b7", Host: "kvm7", Start: time.Unix(1772435560, 0), Trusted: true,
			Duration: 251 * time.Second, Events: 1843, Guests: 3, Races: 1, Size: 219_000, Complete: true},
		{Index: -1, BootID: "77aa0f13-1111-4b7a-9c35-0e8f6a21d4b7", Host: "kvm7", Start: time.Unix(1769935560, 0),
			Duration: 28 * 24 * time.Hour, Events: 1_204_843, Guests: 112, Size: 61_219_000, CompleteFrom: &from},
		{Index: -2, BootID: "c0ffee00-1111-4b7a-9c35-0e8f6a21d4b7", Guests: -1, Races: -1, Events: -1, Problem: "the log's first line is damaged"},
	}
	for name, opts := range map[string]Options{"40": {Width: 40}, "80": {}, "120": {Width: 120}, "120-color": {Width: 120, Color: true}} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Boots(&b, rows, opts); err != nil {
				t.Fatal(err)
			}
			checkOutput(t, b.Bytes(), opts)
			golden(t, "boots-"+name, b.Bytes())
		})
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"short", 5, "short"},
		{"/dev/vg0/web-1-root", 12, "/dev/v…-root"},
		{"中文名字很长", 7, "中…长"},
		{"中文名字很长", 8, "中文…长"},
		{"abc", 2, "ab"},
		{"abc", 0, ""},
	} {
		got := cut(c.in, c.width, "…")
		if got != c.want || columns(got) > c.width {
			t.Errorf("cut(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

// TestNarrow checks that columns may take its short way.
func TestNarrow(t *testing.T) {
	for r := rune(0); r < 0x3000; r++ {
		if s := string(r) + "a" + string(r); narrow(r) && ansi.StringWidth(s) != 3 {
			t.Errorf("%U is not narrow", r)
		}
	}
}

func TestAxis(t *testing.T) {
	at := func(s ...float64) (list []event.Time) {
		for _, v := range s {
			list = append(list, event.Time(v*1e9))
		}
		return list
	}
	for name, c := range map[string]struct {
		instants []event.Time
		width    int
		segments int
	}{
		"nothing":         {nil, 40, 1},
		"one instant":     {at(12), 40, 1},
		"a burst":         {at(12, 12.1, 16.8), 60, 1},
		"a late end":      {at(12, 13, 14, 250), 60, 2},
		"two late ends":   {at(12, 13, 14, 250, 3600), 60, 3},
		"no room":         {at(12, 13, 14, 250, 3600), 10, 1},
		"evenly spread":   {at(10, 30, 50, 70, 90, 110), 60, 1},
		"only two, apart": {at(12, 500), 60, 1},
	} {
		a := newAxis(c.instants, c.width, 0, 0, &Options{})
		if len(a.segments) != c.segments {
			t.Errorf("%s: %d segments, want %d", name, len(a.segments), c.segments)
		}
		last := -1
		for _, s := range c.instants {
			col, ok := a.col(s)
			if !ok || col < last || col < 0 || col >= c.width {
				t.Errorf("%s: %v is in column %d of %d (shown: %t), after %d", name, s, col, c.width, ok, last)
			}
			last = col
		}
		if len(a.ticks()) < len(a.segments) {
			t.Errorf("%s: a segment has no tick", name)
		}
	}
}

// TestAxisAny checks the axis over random instants and widths.
func TestAxisAny(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		instants := make([]event.Time, r.IntN(20))
		for i := range instants {
			instants[i] = event.Time(r.Int64N(1 << (10 + r.UintN(50))))
		}
		width := 6 + r.IntN(300)
		var from, to event.Time
		if r.IntN(3) == 0 {
			from, to = event.Time(r.Int64N(1<<40)), event.Time(r.Int64N(1<<40))
		}
		a := newAxis(instants, width, from, to, &Options{})
		for _, s := range instants {
			if col, ok := a.col(s); col < 0 || col >= width || !ok && from == 0 && to == 0 {
				t.Fatalf("%v of %v at width %d: column %d, shown %t", s, instants, width, col, ok)
			}
		}
		for _, tick := range a.ticks() {
			if tick.col < 0 || tick.col >= width {
				t.Fatalf("tick in column %d of %d", tick.col, width)
			}
		}
		if len(a.labels(a.ticks())) > width {
			t.Fatal("labels are too long")
		}
	}
}

func TestDetectTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for name, c := range map[string]struct {
		env  map[string]string
		want Options
	}{
		"pipe":       {map[string]string{"LANG": "en_US.UTF-8", "TERM": "xterm"}, Options{}},
		"columns":    {map[string]string{"LANG": "C.utf8", "COLUMNS": "132"}, Options{Width: 132}},
		"posix":      {map[string]string{"LANG": "en_US.UTF-8", "LC_ALL": "C"}, Options{ASCII: true}},
		"no locale":  {nil, Options{ASCII: true}},
		"bad number": {map[string]string{"LANG": "C.UTF-8", "COLUMNS": "wide"}, Options{}},
	} {
		if got := DetectTerminal(w, func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

var errFull = errors.New("no space left")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteError(t *testing.T) {
	tl := load(t, "demo")
	for name, write := range writers {
		if err := write(full{}, tl, Options{}); !errors.Is(err, errFull) {
			t.Errorf("%s: %v, want %v", name, err, errFull)
		}
	}
	if err := Boots(full{}, nil, Options{}); !errors.Is(err, errFull) {
		t.Errorf("boots: %v, want %v", err, errFull)
	}
}

// host is a timeline of a large host.
func host(mappings, guests int) *timeline.Timeline {
	tl := &timeline.Timeline{BootID: "3f2a91c0-5d1e-4b7a-9c35-0e8f6a21d4b7", Complete: true}
	for i := range mappings {
		t := event.Time(12e9 + i*1e6)
		at := func(d event.Time) *timeline.Instant { return &timeline.Instant{At: t + d, From: t + d} }
		path := fmt.Sprintf("/dev/vg0/lv%05d", i)
		tl.Mappings = append(tl.Mappings, &timeline.Mapping{ID: fmt.Sprint("LVM-", i), Name: fmt.Sprint("vg0-lv", i),
			Lives: []*timeline.Life{{Created: at(0), Live: at(2e6),
				Steps: []timeline.Step{{Kind: timeline.StepCreated, Instant: *at(0)}, {Kind: timeline.StepLoaded, Instant: *at(1e6)}, {Kind: timeline.StepLive, Instant: *at(2e6)}},
				Paths: []timeline.Path{{Path: path, Link: true, Made: *at(4e8), Ready: at(5e8)}}}}})
	}
	for i := range guests {
		m := tl.Mappings[i*len(tl.Mappings)/guests]
		path := m.Lives[0].Paths[0]
		at := timeline.Instant{At: path.Ready.At + event.Time(i%5-2)*1e9}
		margin := &timeline.Margin{NS: at.At.Sub(path.Ready.At)}
		g := &timeline.Guest{ID: fmt.Sprint(i), Name: fmt.Sprint("web-", i), Exec: at,
			Disks: []timeline.Disk{{Path: path.Path, Mapping: m.ID, Uses: []timeline.Use{{Instant: at, Ready: path.Ready, Margin: margin}}}}}
		tl.Guests = append(tl.Guests, g)
		if margin.NS < 0 {
			tl.Findings = append(tl.Findings, &timeline.Finding{Kind: "missing", Race: true, Guest: g.Name, GuestID: g.ID,
				Disk: path.Path, At: at.At, Margin: margin, Ready: path.Ready, State: "absent", Evidence: []uint64{1, 2, 3}})
		}
	}
	return tl
}

func BenchmarkShow(b *testing.B) {
	tl := host(10_000, 1_000)
	for name, opts := range map[string]Options{"usual": {Width: 120, Color: true}, "all": {Width: 120, Color: true, All: true}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Show(io.Discard, tl, opts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRaces(b *testing.B) {
	tl := host(10_000, 1_000)
	b.ReportAllocs()
	for b.Loop() {
		if err := Races(io.Discard, tl, Options{Width: 120, Color: true}); err != nil {
			b.Fatal(err)
		}
	}
}
