package timeline

import (
	stdcmp "cmp"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline/histories"
)

var update = flag.Bool("update", false, "write what came out as what is wanted")

// TestHistories builds the timeline of each history under testdata and compares
// what a person would want to know of it. Every history is also built from its
// events in another order.
func TestHistories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			testHistory(t, file)
		})
	}
}

func testHistory(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	events := parse(t, section(archive, "events"))
	tl := buildOf(events)
	for i := range archive.Files {
		f := &archive.Files[i]
		got := describe(tl, f.Name)
		switch {
		case f.Name == "events":
		case *update:
			f.Data = []byte(got)
		default:
			if diff := cmp.Diff(strings.TrimSpace(string(f.Data)), strings.TrimSpace(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", f.Name, diff)
			}
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	checkOrder(t, tl, events)
	checkLoss(t, events)
	checkLent(t, events)
}

func parse(t testing.TB, text string) []event.Event {
	t.Helper()
	events, err := histories.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func section(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

func buildOf(events []event.Event) *Timeline {
	return Build(Boot{ID: "b", Host: "h", Kernel: "k", Current: true}, Options{}, slices.Values(events))
}

// checkLent: a Builder keeps nothing that an event points to, which a reader of logs
// uses again for others.
func checkLent(t *testing.T, events []event.Event) {
	t.Helper()
	kept := NewBuilder(Boot{ID: "b", Host: "h", Kernel: "k", Current: true}, Options{})
	lent := NewBuilder(kept.boot, Options{})
	for i := range events {
		var a, b event.Event
		for _, e := range []*event.Event{&a, &b} {
			if err := e.UnmarshalJSON(events[i].AppendJSON(nil)); err != nil {
				t.Fatal(err)
			}
		}
		kept.Add(&a)
		lent.Add(&b)
		wreck(reflect.ValueOf(&b).Elem())
	}
	if diff := cmp.Diff(kept.Timeline(), lent.Timeline()); diff != "" {
		t.Errorf("something of an event was kept (-own +lent):\n%s", diff)
	}
}

// wreck overwrites everything that v points to.
func wreck(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			wreck(v.Elem())
			v.Elem().SetZero()
		}
	case reflect.Struct:
		for i := range v.NumField() {
			wreck(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			wreck(v.Index(i))
			v.Index(i).SetZero()
		}
	case reflect.Map:
		v.Clear()
	}
}

// checkOrder: the result must not depend on the order of arrival.
func checkOrder(t *testing.T, want *Timeline, events []event.Event) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		shuffled := slices.Clone(events)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if diff := cmp.Diff(want, buildOf(shuffled)); diff != "" {
			t.Fatalf("another order of arrival changes the result (-sorted +shuffled):\n%s", diff)
		}
	}
}

// checkLoss: a log may lack any of its lines, and is read all the same.
func checkLoss(t *testing.T, events []event.Event) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range 10 {
		var left []event.Event
		for i := range events {
			if rng.IntN(20) > n {
				left = append(left, events[i])
			}
		}
		buildOf(left)
	}
}

func describe(tl *Timeline, what string) string {
	var b strings.Builder
	switch what {
	case "findings":
		for _, f := range tl.Findings {
			describeFinding(&b, f)
		}
	case "verdicts":
		for _, v := range tl.Verdicts {
			describeVerdict(&b, v)
		}
	case "summary":
		describeSummary(&b, &tl.Summary)
	case "mappings":
		for _, m := range tl.Mappings {
			describeMapping(&b, m)
		}
	case "guests":
		for _, g := range tl.Guests {
			describeGuest(&b, g)
		}
	case "record":
		describeRecord(&b, tl)
	}
	return b.String()
}

func describeFinding(b *strings.Builder, f *Finding) {
	fmt.Fprintf(b, "%s guest=%s disk=%s mapping=%s state=%s", f.Kind, f.Guest, f.Disk, f.MappingName, f.State)
	if f.BackingOf != "" {
		fmt.Fprintf(b, " backing_of=%s", f.BackingOf)
	}
	if f.Error != "" {
		fmt.Fprintf(b, " error=%s", f.Error)
	}
	if e := f.Earlier; e != nil {
		fmt.Fprintf(b, " earlier=%s..%s", describeInstant(&e.From), describeInstant(&e.To))
		if e.By != nil {
			fmt.Fprintf(b, " removed by %s", e.By.Comm)
		}
	}
	if l := f.Last; l != nil {
		fmt.Fprintf(b, " size=%d last=%s,%s,%d", f.Size, l.Path, l.Name, l.Size)
		if l.Came != nil {
			fmt.Fprintf(b, " came=%s", describeInstant(l.Came))
		}
	}
	for _, more := range [][2]string{{"now", f.NowPath}, {"beneath", f.Beneath}} {
		if more[1] != "" {
			fmt.Fprintf(b, " %s=%s", more[0], more[1])
		}
	}
	if f.Accepted != nil {
		fmt.Fprintf(b, " accepted=%s", describeInstant(f.Accepted))
	}
	if f.Looks > 0 {
		fmt.Fprintf(b, " looks=%d", f.Looks)
	}
	if f.By != nil {
		fmt.Fprintf(b, " by %s", stdcmp.Or(strings.Join(f.By.Args, " "), f.By.Comm))
	}
	if f.Device != "" {
		fmt.Fprintf(b, " device=%q", f.Device)
	}
	fmt.Fprintf(b, "%s evidence=%v", describeMargin(f.Margin), f.Evidence)
	if f.Held > 0 || f.Outcome != "" {
		fmt.Fprintf(b, " held=%v outcome=%s", f.Held, f.Outcome)
	}
	if f.For != "" {
		fmt.Fprintf(b, " for=%s", f.For)
	}
	if f.InVain {
		b.WriteString(" in_vain")
	}
	if f.Count > 0 {
		fmt.Fprintf(b, " count=%d", f.Count)
	}
	if len(f.Waits) > 0 {
		fmt.Fprintf(b, " waits=%v", f.Waits)
	}
	if t := f.Inside; t != nil {
		fmt.Fprintf(b, " layer=%q needs=%d has=%d at=%d more=%d spare=%t since=%s whole=%s,%s what=%q", t.Layer, t.Needs, t.Has, t.AtByte, t.More, t.Spare, t.Since, t.Whole, t.WholeOn, t.What)
		if t.Before != 0 {
			fmt.Fprintf(b, " generation=%d before=%d", t.Generation, t.Before)
		}
	}
	if f.Reason != "" {
		fmt.Fprintf(b, " (%s)", f.Reason)
	}
	if f.Withheld != "" {
		fmt.Fprintf(b, " WITHHELD: %s", f.Withheld)
	}
	fmt.Fprintln(b)
	if f.Late != nil {
		for i, s := range f.Late.Steps {
			longest := ""
			if i == f.Late.Longest {
				longest = " <-- longest"
			}
			fmt.Fprintf(b, "    %s %s %v%s", s.Kind, s.Detail, s.To.Sub(s.From), longest)
			if s.Behind > 0 {
				fmt.Fprintf(b, " queued=%v behind=%d", s.Queued, s.Behind)
			}
			if s.By != nil && s.By.Args != nil {
				fmt.Fprintf(b, " by %s", strings.Join(s.By.Args, " "))
			}
			b.WriteString("\n")
		}
	}
}

func describeMargin(m *Margin) string {
	switch {
	case m == nil:
		return ""
	case m.AtLeast:
		return fmt.Sprintf(" margin>=%v", m.NS)
	default:
		return fmt.Sprintf(" margin=%v..%v", m.NS, m.NS+m.Width)
	}
}

func describeVerdict(b *strings.Builder, v *Verdict) {
	fmt.Fprintf(b, "guest=%s %s\n", v.Guest, v.Outcome)
	for _, why := range v.Unknown {
		fmt.Fprintf(b, "  not known: %s\n", why)
	}
	for _, c := range v.Causes {
		fmt.Fprintf(b, "  %s disks=%v findings=%v cures=%v", c.Kind, c.Disks, c.Findings, c.Cures)
		if c.Unopened {
			b.WriteString(" unopened")
		}
		if c.Hold != nil {
			fmt.Fprintf(b, " hold=%+v", *c.Hold)
		}
		if c.Asked || len(c.Settings) > 0 {
			fmt.Fprintf(b, " settings=%v", c.Settings)
		}
		if c.LVM != nil {
			fmt.Fprintf(b, " lvm=%+v", *c.LVM)
		}
		if c.Step != nil {
			fmt.Fprintf(b, " step=%s", c.Step.Kind)
		}
		if c.By != nil {
			fmt.Fprintf(b, " by=%s", stdcmp.Or(strings.Join(c.By.Args, " "), c.By.Comm))
		}
		if c.Looker != nil {
			fmt.Fprintf(b, " looker=%s", c.Looker.Comm)
		}
		if c.NoAnswer != "" {
			fmt.Fprintf(b, " no answer: %s", c.NoAnswer)
		}
		if c.Holder != "" {
			fmt.Fprintf(b, " holder=%s", c.Holder)
		}
		if c.Held > 0 {
			fmt.Fprintf(b, " held=%v", c.Held)
		}
		if c.Filesystem != "" {
			fmt.Fprintf(b, " filesystem=%s", c.Filesystem)
		}
		if c.Shorter {
			b.WriteString(" shorter")
		}
		fmt.Fprintf(b, " evidence=%v", c.Evidence)
		if c.Withheld != "" {
			fmt.Fprintf(b, " WITHHELD: %s", c.Withheld)
		}
		b.WriteString("\n")
	}
}

func describeSummary(b *strings.Builder, s *Summary) {
	fmt.Fprintf(b, "%s", s.Outcome)
	for _, o := range Outcomes() {
		fmt.Fprintf(b, " %s=%d", o, s.Counts.Of(o))
	}
	b.WriteString("\n")
	for _, why := range s.Unknown {
		fmt.Fprintf(b, "  not known: %s\n", why)
	}
	for i := range s.Guests {
		g := &s.Guests[i]
		fmt.Fprintf(b, "%s %s, %d of %d starts, %g..%g runs=%s", stdcmp.Or(g.Guest, g.Disk), g.Outcome, g.Bad, g.Starts, g.First.Seconds(), g.Last.Seconds(), g.Runs)
		if g.Since != nil {
			fmt.Fprintf(b, " since %g", g.Since.Seconds())
		}
		b.WriteString("\n")
	}
}

func describeInstant(i *Instant) string {
	switch {
	case i == nil:
		return "-"
	case i.OrBefore:
		return fmt.Sprintf("<=%g", i.At.Seconds())
	case i.From == i.At:
		return fmt.Sprintf("%g", i.At.Seconds())
	default:
		return fmt.Sprintf("%g..%g", i.From.Seconds(), i.At.Seconds())
	}
}

func describeMapping(b *strings.Builder, m *Mapping) {
	fmt.Fprintf(b, "%s vg=%s lv=%s layer=%s renamed=%v\n", m.Name, m.VG, m.LV, m.Layer, m.Renamed)
	for _, l := range m.Lives {
		fmt.Fprintf(b, "  %d:%d created=%s live=%s udev=%s removed=%s", l.Dev.Major, l.Dev.Minor,
			describeInstant(l.Created), describeInstant(l.Live), describeInstant(l.Udev), describeInstant(l.Removed))
		if l.Backfilled {
			b.WriteString(" backfilled")
		}
		if l.Private {
			b.WriteString(" private")
		}
		b.WriteString("\n")
		for _, p := range l.Paths {
			fmt.Fprintf(b, "    %s made=%s gone=%s ready=%s\n", p.Path, describeInstant(&p.Made), describeInstant(p.Gone), describeInstant(p.Ready))
		}
	}
}

func describeGuest(b *strings.Builder, g *Guest) {
	fmt.Fprintf(b, "%s pid=%d forks=%v exec=%s", g.Name, g.PID, g.Forks, describeInstant(&g.Exec))
	if g.Exit != nil {
		fmt.Fprintf(b, " exit=%d at %s", g.Exit.Status, describeInstant(&g.Exit.Instant))
	}
	if g.Unstarted {
		b.WriteString(" unstarted")
	}
	if g.Domain != nil {
		fmt.Fprintf(b, " domain=%s", describeInstant(g.Domain))
	}
	for _, h := range g.Holds {
		fmt.Fprintf(b, " held=%s released=%s", describeInstant(&h.Instant), describeInstant(h.Released))
	}
	b.WriteString("\n")
	for _, d := range g.Disks {
		fmt.Fprintf(b, "  %s announced=%v backing_of=%s mapped=%v", d.Path, d.Announced, d.BackingOf, d.Mapping != "")
		if d.FromHeader {
			b.WriteString(" from_header")
		}
		if d.Problem != "" {
			fmt.Fprintf(b, " problem: %s", d.Problem)
		}
		b.WriteString("\n")
		for _, u := range d.Uses {
			fmt.Fprintf(b, "    %s error=%s count=%d ready=%s%s\n", describeInstant(&u.Instant), u.Error, u.Count, describeInstant(u.Ready), describeMargin(u.Margin))
		}
	}
}

func describeRecord(b *strings.Builder, tl *Timeline) {
	from := "-"
	if tl.CompleteFrom != nil {
		from = fmt.Sprintf("%g", tl.CompleteFrom.Seconds())
	}
	fmt.Fprintf(b, "complete=%v from=%s\n", tl.Complete, from)
	for _, g := range tl.Incomplete {
		fmt.Fprintf(b, "  %s %g..%g %s\n", g.What, g.From.Seconds(), g.To.Seconds(), g.Why)
	}
}

// TestJSON: the form survives a round trip, and empty lists are lists.
func TestJSON(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/missing.txtar")
	if err != nil {
		t.Fatal(err)
	}
	want := buildOf(parse(t, section(archive, "events")))
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := new(Timeline)
	if err := json.Unmarshal(data, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("round trip (-want +got):\n%s", diff)
	}
	empty, err := json.Marshal(buildOf(nil))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(empty), "null") {
		t.Errorf("null in %s", empty)
	}
}

// TestAgain: a Builder can be asked before the end, and goes on.
func TestAgain(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/missing.txtar")
	if err != nil {
		t.Fatal(err)
	}
	events := parse(t, section(archive, "events"))
	b := NewBuilder(Boot{ID: "b", Host: "h", Kernel: "k", Current: true}, Options{})
	for i := range events {
		b.Add(&events[i])
		b.Timeline()
	}
	if diff := cmp.Diff(buildOf(events), b.Timeline()); diff != "" {
		t.Errorf("asking in between changes the result (-want +got):\n%s", diff)
	}
}
