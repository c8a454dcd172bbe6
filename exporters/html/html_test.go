package html

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/bootrace/bootrace/exporters/internal/samples"
	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// The timelines that the terminal's tests use, too.
var sampled = []string{"demo", "held", "hostile", "incomplete", "kinds", "large", "empty", "verdicts", "neverstarted", "queue", "shrunk"}

func write(tb testing.TB, tl *timeline.Timeline) string {
	tb.Helper()
	var b bytes.Buffer
	if err := Write(&b, tl); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// document is what a browser makes of a page.
type document struct {
	elements map[string][]*html.Node
}

func parse(tb testing.TB, page string) *document {
	tb.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		tb.Fatal(err)
	}
	d := &document{make(map[string][]*html.Node)}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			d.elements[n.Data] = append(d.elements[n.Data], n)
		}
	}
	return d
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func text(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return b.String()
}

// find returns the elements of that name which have the class.
func (d *document) find(name, class string) []*html.Node {
	var list []*html.Node
	for _, n := range d.elements[name] {
		if slices.Contains(strings.Fields(attribute(n, "class")), class) {
			list = append(list, n)
		}
	}
	return list
}

// content returns the data in the page.
func (d *document) content(tb testing.TB) *data {
	tb.Helper()
	for _, n := range d.elements["script"] {
		if attribute(n, "id") == "data" {
			out := new(data)
			if err := json.Unmarshal([]byte(text(n)), out); err != nil {
				tb.Fatalf("the data in the page: %v", err)
			}
			return out
		}
	}
	tb.Fatal("no data in the page")
	return nil
}

// checkClosed checks that the page takes nothing from elsewhere, and runs
// nothing but what its policy names.
func checkClosed(t *testing.T, d *document) {
	t.Helper()
	if n := len(d.elements["script"]); n != 2 {
		t.Errorf("%d script elements, want the data and the script", n)
	}
	var allowed string
	for _, n := range d.elements["meta"] {
		if attribute(n, "http-equiv") == "Content-Security-Policy" {
			allowed = attribute(n, "content")
		}
	}
	for _, n := range append(d.elements["style"], d.elements["script"]...) {
		if attribute(n, "type") != "application/json" && !strings.Contains(allowed, "'"+digest(text(n))+"'") {
			t.Errorf("the policy %q does not allow the page's own %s", allowed, n.Data)
		}
	}
	if !strings.HasPrefix(allowed, "default-src 'none';") || strings.Contains(allowed, "unsafe") {
		t.Errorf("the policy allows too much: %q", allowed)
	}
	for _, name := range []string{"img", "link", "iframe", "object", "embed", "base", "form"} {
		if len(d.elements[name]) > 0 {
			t.Errorf("the page has a %s", name)
		}
	}
	for _, nodes := range d.elements {
		for _, n := range nodes {
			for _, a := range n.Attr {
				switch {
				case strings.HasPrefix(a.Key, "on"), a.Key == "style", a.Key == "src":
					t.Errorf("attribute %s of %s", a.Key, n.Data)
				case a.Key == "href" && !strings.HasPrefix(a.Val, "#"):
					t.Errorf("a link to %q", a.Val)
				}
			}
		}
	}
}

func TestWrite(t *testing.T) {
	for _, name := range sampled {
		t.Run(name, func(t *testing.T) {
			tl := samples.Load(t, name)
			d := parse(t, write(t, tl))
			checkClosed(t, d)
			want := len(tl.Findings)
			for _, v := range tl.Verdicts {
				if v.Outcome != timeline.OutcomeFine {
					want++
				}
			}
			if got := len(d.find("li", "finding")); got != want {
				t.Errorf("%d findings and verdicts in the page, want %d", got, want)
			}
			checkData(t, d.content(t), tl)
		})
	}
}

// checkData checks that every guest, disk and mapping has its lane, and that
// what is drawn lies within the record.
func checkData(t *testing.T, d *data, tl *timeline.Timeline) {
	t.Helper()
	var guests, disks int
	for _, g := range d.Groups {
		if g.Kind == "guest" {
			guests++
			disks += len(g.Lanes) - 1
		}
		for _, l := range g.Lanes {
			for _, b := range l.Spans {
				if b[0] > b[1] || b[3] < 0 || int(b[3]) >= len(d.Texts) {
					t.Errorf("%s: bar %v", l.Label, b)
				}
			}
			for _, m := range l.Marks {
				if m[1] < 0 || m[4] < 0 || int(m[4]) >= len(d.Texts) {
					t.Errorf("%s: mark %v", l.Label, m)
				}
			}
		}
	}
	wanted := 0
	for _, g := range tl.Guests {
		wanted += len(g.Disks)
	}
	if guests != len(tl.Guests) || disks != wanted {
		t.Errorf("%d guests with %d disks, want %d with %d", guests, disks, len(tl.Guests), wanted)
	}
	if d.View[0] >= d.View[1] || d.From >= d.To {
		t.Errorf("the view is %v of %v to %v", d.View, d.From, d.To)
	}
}

// TestSame checks that a page and a terminal tell the same.
func TestSame(t *testing.T) {
	tl := samples.Load(t, "demo")
	teller := &words.Teller{Signs: words.Unicode, Name: name}
	var told []string
	certain, _ := words.Sort(tl.Findings)
	for _, f := range certain {
		p := teller.What(f)
		told = append(told, f.Kind+" "+p.String())
	}
	for i, n := range parse(t, write(t, tl)).find("p", "what") {
		if got := strings.ReplaceAll(text(n), "\u00a0", " "); got != strings.ReplaceAll(told[i], "`", "") {
			t.Errorf("the page says %q, want %q", got, told[i])
		}
	}
}

// TestLane checks what the demo's late disk shows.
func TestLane(t *testing.T) {
	d := parse(t, write(t, samples.Load(t, "demo"))).content(t)
	if d.View[0] > 13e9 || d.View[1] < 16_871_000_000 || d.View[1] > 30e9 {
		t.Errorf("the first view is %v", d.View)
	}
	late := d.Groups[slices.IndexFunc(d.Groups, func(g group) bool { return g.Kind == "guest" })]
	if late.Class != "failure" || late.Lanes[0].Label != "a" || late.Lanes[0].Result != "2.668 s too early" {
		t.Errorf("the first guest is %q, %s, %q", late.Lanes[0].Label, late.Class, late.Lanes[0].Result)
	}
	var kinds []int64
	for _, b := range late.Lanes[1].Spans {
		kinds = append(kinds, b[2])
	}
	for _, want := range []int64{barLive, barReady, barEarly} {
		if !slices.Contains(kinds, want) {
			t.Errorf("the late disk's bars are of the kinds %v, want %d too", kinds, want)
		}
	}
}

// A volume that somebody looked for in vain, and on which no guest ran, is in the
// picture with its finding: also one that never existed.
func TestNeverStarted(t *testing.T) {
	got := map[string]string{}
	for _, g := range parse(t, write(t, samples.Load(t, "neverstarted"))).content(t).Groups {
		if slices.Contains(g.Kinds, timeline.NeverStarted) && len(g.Findings) == 1 &&
			slices.ContainsFunc(g.Lanes[0].Marks, func(m mark) bool { return m[2] == markFailed }) {
			got[g.Lanes[0].Label] = g.Class + ", " + g.Lanes[0].Result
		}
	}
	want := map[string]string{
		"vg-late": "warning, 3.009 s too early", "vg-gone": "warning, ready 7.008 s",
		"/dev/vg/never": "warning, never ready", "/dev/vg/unasked": "unsure, never ready",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestIncomplete(t *testing.T) {
	d := parse(t, write(t, samples.Load(t, "incomplete")))
	if len(d.find("p", "incomplete")) != 1 {
		t.Error("the page does not stress that the record is not complete")
	}
	if len(d.content(t).Gaps) == 0 {
		t.Error("no gap is drawn")
	}
}

func TestScriptAndStyle(t *testing.T) {
	for name, s := range map[string]string{"script": scriptText, "style": styleText} {
		for _, bad := range []string{"</", "<!--", "http:", "https:", "@import", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("} {
			if strings.Contains(strings.ReplaceAll(s, `"http://www.w3.org/2000/svg"`, ""), bad) {
				t.Errorf("the %s has %q", name, bad)
			}
		}
	}
}

// FuzzNames puts foreign text wherever a timeline can have it.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"web-1", "<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "</script><script>alert(1)</script>",
		"<!--", "{{.}}", "javascript:alert(1)", "\u202eevil", "\xff", "\u2028", "]]>", "'", "a\x00b"} {
		f.Add(s, int64(-2668e6))
	}
	f.Fuzz(func(t *testing.T, name string, margin int64) {
		d := parse(t, write(t, foreign(name, margin)))
		checkClosed(t, d)
		content := d.content(t)
		if got, want := content.Groups[len(content.Groups)-2].Lanes[0].Label, whole(name); name != "" && got != want {
			t.Errorf("the guest is called %q, want %q", got, want)
		}
		for _, m := range []string{"</", "<script", "<!--"} {
			if n := d.elements["script"][0]; strings.Contains(text(n), m) {
				t.Errorf("%q in the data", m)
			}
		}
	})
}

// foreign is a timeline in which name stands for every text.
func foreign(name string, margin int64) *timeline.Timeline {
	at := timeline.Instant{At: event.Time(margin), From: event.Time(margin / 2), Event: 7}
	ready := timeline.Instant{At: 5e9, From: 5e9}
	m := &timeline.Margin{NS: event.Duration(margin), Width: event.Duration(margin / 3)}
	life := &timeline.Life{Created: &at, Live: &ready,
		Steps: []timeline.Step{{Kind: name, Instant: at, Detail: name, By: &event.Proc{Comm: name, Args: []string{name}}},
			{Kind: timeline.StepSuspend, Instant: ready}, {Kind: timeline.StepFound, Instant: at, State: name}},
		Paths: []timeline.Path{{Path: name, Link: true, Made: at, Ready: &ready}}}
	disk := timeline.Disk{Path: name, BackingOf: name, Mapping: "m", Uses: []timeline.Use{{Instant: at, Errno: 2, Error: name, Ready: &ready, Margin: m}}}
	guest := &timeline.Guest{ID: "g", Name: name, Identity: name, UUID: name, Binary: name, Exec: at, Disks: []timeline.Disk{disk},
		Exit: &timeline.Exit{Instant: ready}, Holds: []timeline.Hold{{Instant: at, Reason: event.HoldReason(name), Blockers: []string{name}}}}
	finding := func(kind, withheld string) *timeline.Finding {
		return &timeline.Finding{Kind: kind, Withheld: withheld, Guest: name, GuestID: "g", Disk: name, BackingOf: name,
			MappingName: name, Margin: m, Ready: &at, Error: name, State: name, Exit: guest.Exit, Evidence: []uint64{1, 2},
			Late: &timeline.Account{Steps: []timeline.AccountStep{{Kind: name, Detail: name}, {Kind: "disk", Detail: name, To: at.At}}}}
	}
	return &timeline.Timeline{BootID: name, Kernel: name, Host: event.HostInfo{Name: name, OS: name},
		Clock:      &event.ClockInfo{WallOffset: margin, Uncertainty: margin},
		Incomplete: []timeline.Gap{{From: at.At, To: ready.At, Why: name}},
		Marks:      []timeline.Mark{{Instant: at, MarkInfo: event.MarkInfo{Name: name, Text: name}}},
		Losses:     []timeline.Loss{{Instant: at, LossInfo: event.LossInfo{Source: name, What: name, Why: name}}},
		Mappings: []*timeline.Mapping{
			{ID: "m", Name: name, Lives: []*timeline.Life{life}},
			{ID: name, Name: name, Layer: name, Lives: []*timeline.Life{life}}},
		Guests: []*timeline.Guest{guest},
		Verdicts: []*timeline.Verdict{{Guest: name, GuestID: "g", Causes: []*timeline.Cause{{Kind: name, Withheld: name, Disks: []string{name},
			Settings: []string{name}, By: &event.Proc{Comm: name, Args: []string{name}, Unit: name, Parent: name}, Holder: name, Error: name, Cures: []string{name}}}}},
		Findings: []*timeline.Finding{finding(name, ""), finding("missing", name), finding("missing", "")},
	}
}

var errFull = errors.New("no space left")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteError(t *testing.T) {
	if err := Write(full{}, samples.Load(t, "demo")); !errors.Is(err, errFull) {
		t.Errorf("%v, want %v", err, errFull)
	}
}

func BenchmarkWrite(b *testing.B) {
	tl := samples.Load(b, "large")
	b.ReportAllocs()
	for b.Loop() {
		write(b, tl)
	}
}
