package rehearse

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
	"github.com/bootrace/bootrace/tracer/twin"
)

// Options say what is rehearsed.
type Options struct {
	Capture string   // path of the capture
	Plans   []string // as ParsePlan takes them; as-recorded always comes first
	Enforce bool     // each plan is played in enforce mode, too
	Dir     string   // of the records and the consoles; it is there
	Program string   // file of this program
	Memory  int      // of the machine, in MiB
	// Progress is told of each step; nil: nobody wants to know.
	Progress func(format string, args ...any)
}

// Prediction is what becomes of a guest in a plan.
type Prediction string

// The predictions.
const (
	InTime   Prediction = "in-time"   // its disks are ready before it opens them
	Race     Prediction = "race"      // it opens a disk before that is ready
	Never    Prediction = "never"     // a disk never gets ready, or its start is given up
	Held     Prediction = "held"      // enforce mode holds it until its disks are ready
	NotKnown Prediction = "not-known" // Why says why
)

// Loses reports whether the guest would not come up by itself.
func (p Prediction) Loses() bool { return p == Race || p == Never }

// Cell is what a plan comes to for a guest.
type Cell struct {
	Guest      string     `json:"guest"`
	Identity   string     `json:"identity,omitempty"`
	Prediction Prediction `json:"prediction"`
	// Margin is the smallest from ready to the open, of any of its disks, in the host's
	// time; nil where none is known. Disk is the one that it is of.
	Margin *event.Duration `json:"margin_ns,omitempty"`
	Disk   string          `json:"disk,omitempty"`
	Held   event.Duration  `json:"held_ns,omitempty"` // in the host's time
	Why    string          `json:"why,omitempty"`     // it is not known
	// Causes and Cures are the kinds of those of the verdict.
	Causes []string `json:"causes,omitempty"`
	Cures  []string `json:"cures,omitempty"`
}

// PlanResult is what a plan came to.
type PlanResult struct {
	Plan    string `json:"plan"`
	Enforce bool   `json:"enforce"` // enforce mode, whatever mode the host is in
	// Log is the record of the boot, empty where there is none; Failed says why.
	Log    string         `json:"log,omitempty"`
	Failed string         `json:"failed,omitempty"`
	Up     event.Duration `json:"up_ns"` // until the twin was up, in its own time
	Guests []Cell         `json:"guests"`
}

// Cell is that of a guest in the plan, nil where it has none.
func (p *PlanResult) Cell(guest, identity string) *Cell {
	for i := range p.Guests {
		if c := &p.Guests[i]; c.Guest == guest && c.Identity == identity {
			return c
		}
	}
	return nil
}

// Result is what a rehearsal came to.
type Result struct {
	Host   string `json:"host"`
	Kernel string `json:"kernel"`
	// Pace is how many times as long as the host the twin took from its first disk to its
	// first guest; 1 where that is not known (PaceUnknown says why). Delays are longer by
	// it, and times are told shorter.
	Pace        float64      `json:"pace"`
	PaceUnknown string       `json:"pace_unknown,omitempty"`
	Plans       []PlanResult `json:"plans"`
	// Summary has a sentence for each guest that would lose.
	Summary []string `json:"summary"`
	// Differences are those between the host and its twin, by name.
	Differences []string         `json:"differences"`
	Outcome     timeline.Outcome `json:"outcome"` // of the plan as-recorded
}

// perBoot bounds one boot of a twin, beside the delays of its disks.
const perBoot = 20 * time.Minute

// Run builds the twin and plays the plans.
func Run(ctx context.Context, o Options) (*Result, error) {
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	for _, need := range [][2]string{{"qemu-system-x86_64", "qemu-system-x86"}, {"mke2fs", "e2fsprogs"}} {
		if _, err := tool(need[0], need[1]); err != nil {
			return nil, err
		}
	}
	if err := memory(o.Memory); err != nil {
		return nil, err
	}
	f, err := os.Open(o.Capture)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := room(o.Dir, 8*info.Size()+1<<30); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(o.Dir, "twin")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the twin: %w", err)
	}
	defer os.RemoveAll(work)
	o.Progress("building the twin")
	t, err := Build(ctx, f, work, o.Program)
	if err != nil {
		return nil, err
	}
	plans, err := t.plans(o)
	if err != nil {
		return nil, err
	}
	m := t.Manifest
	r := &Result{Host: m.Host, Kernel: m.Kernel, Pace: 1, Differences: t.Differences(), Plans: []PlanResult{}, Summary: []string{}, Outcome: timeline.OutcomeUnknown}
	for i, p := range plans {
		o.Progress("plan %d of %d: %s", i+1, len(plans), p)
		result, times := t.play(ctx, o, p, i+1, r.Pace)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if i == 0 {
			r.setPace(m, times)
			for n := range result.Guests {
				result.Guests[n].scale(r.Pace)
			}
			if m.Late(onTime) && r.Pace > slower {
				// The disks that come later did so too early for this pace.
				o.Progress("the twin takes %.1f times as long as the host: once more, with its disks so much later", r.Pace)
				result, _ = t.play(ctx, o, p, i+1, r.Pace)
			}
		}
		r.Plans = append(r.Plans, result)
	}
	r.Outcome = outcomeOf(r.Plans[0])
	r.Summary = summary(r.Plans)
	return r, nil
}

// slower is how much slower a twin may be before its times are stretched for it.
const slower = 1.25

func memory(mib int) error {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "MemAvailable:" {
			continue
		}
		kib, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return err
		}
		const beside = 256 // QEMU's own, MiB
		if have := kib >> 10; have < int64(mib+beside) {
			return fmt.Errorf("the machine needs %d MiB of memory, and %d are available: give it less with --memory, or rehearse on another machine: a capture can be copied", mib+beside, have)
		}
	}
	return nil
}

func room(dir string, bytes int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("ask for the room in %s: %w", dir, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < uint64(bytes) {
		return fmt.Errorf("%s has room for %s, and a twin may need %s: choose another folder with -o", dir, humanize.IBytes(free), humanize.IBytes(uint64(bytes)))
	}
	return nil
}

// plans are those to play: as recorded first, and each in enforce mode after itself.
func (t *Twin) plans(o Options) ([]Plan, error) {
	var plans []Plan
	for _, text := range append([]string{AsRecorded}, o.Plans...) {
		if len(plans) > 0 && text == AsRecorded {
			continue
		}
		p, err := ParsePlan(text, t.Manifest)
		if err != nil {
			return nil, err
		}
		plans = append(plans, p)
		if o.Enforce {
			p.Enforce = true
			plans = append(plans, p)
		}
	}
	return plans, nil
}

// play boots the twin by a plan, and judges its record.
func (t *Twin) play(ctx context.Context, o Options, p Plan, n int, pace float64) (PlanResult, *twin.Times) {
	r := PlanResult{Plan: p.text, Enforce: p.Enforce, Guests: []Cell{}}
	m := machine{twin: t, plan: p, pace: pace, dir: o.Dir, name: p.file(n), mem: o.Memory}
	longest := time.Duration(0)
	for i := range t.Manifest.Disks {
		after, _ := p.comes(&t.Manifest.Disks[i])
		longest = max(longest, time.Duration(float64(after)*pace))
	}
	log, up, err := m.run(ctx, perBoot+longest)
	r.Up = up
	var tl *timeline.Timeline
	times := new(twin.Times)
	if err == nil {
		r.Log = log
		tl, err = judge(log, times)
	}
	if err != nil {
		r.Failed = err.Error()
		for _, g := range t.Manifest.Guests {
			r.Guests = append(r.Guests, Cell{Guest: g.Name, Identity: g.Identity, Prediction: NotKnown, Why: "the twin's boot was not recorded: " + err.Error()})
		}
		return r, times
	}
	r.Guests = t.cells(tl)
	for i := range r.Guests {
		r.Guests[i].scale(pace)
	}
	return r, times
}

// judge makes a timeline of a record.
func judge(path string, times *twin.Times) (*timeline.Timeline, error) {
	log, err := bootlog.Open(path)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	h := log.Header()
	b := timeline.NewBuilder(timeline.Boot{ID: h.BootID, Host: h.HostName, Kernel: h.Kernel}, timeline.Options{})
	for e, err := range log.Events() {
		if err != nil {
			return nil, err
		}
		times.Observe(&e)
		b.Add(&e)
	}
	return b.Timeline(), nil
}

// setPace compares the twin's pace to the host's.
func (r *Result) setPace(m *twin.Manifest, times *twin.Times) {
	first := times.First(m.Disks)
	switch {
	case m.Record == nil:
		r.PaceUnknown = "no boot of the host is recorded: its disks come on time here, and times are the twin's"
	case m.Record.ToGuest <= 0:
		r.PaceUnknown = "no guest started in the recorded boot of the host: times are the twin's"
	case first == 0 || times.Guest <= first:
		r.PaceUnknown = "no guest started in the twin"
	default:
		r.Pace = float64(times.Guest.Sub(first)) / float64(m.Record.ToGuest)
	}
}

func (c *Cell) scale(pace float64) {
	c.Held = event.Duration(float64(c.Held) / pace)
	if c.Margin != nil {
		scaled := event.Duration(float64(*c.Margin) / pace)
		c.Margin = &scaled
	}
}

// cells says for each guest of the host what the boot came to.
func (t *Twin) cells(tl *timeline.Timeline) []Cell {
	var list []Cell
	for _, g := range t.Manifest.Guests {
		c := Cell{Guest: g.Name, Identity: g.Identity}
		c.judge(tl)
		for _, d := range g.Disks {
			if d.NotEmulated != "" {
				c = Cell{Guest: g.Name, Identity: g.Identity, Prediction: NotKnown, Why: fmt.Sprintf("%s is not like the host's: %s", d.Path, d.NotEmulated)}
				break
			}
		}
		list = append(list, c)
	}
	for _, v := range tl.Verdicts {
		if slices.ContainsFunc(list, func(c Cell) bool { return c.is(v) }) {
			continue
		}
		c := Cell{Guest: v.Guest, Identity: v.Identity}
		c.judge(tl)
		list = append(list, Cell{Guest: v.Guest, Identity: v.Identity, Prediction: NotKnown,
			Why: fmt.Sprintf("no recorded boot of the host has it, so what its disks lie on is not known; in the twin it was %q", c.Prediction)})
	}
	return list
}

// is reports whether the verdict is this guest's.
func (c *Cell) is(v *timeline.Verdict) bool {
	return c.Identity != "" && v.Identity == c.Identity || c.Identity == "" && v.Guest == c.Guest
}

// judge takes what the timeline says of the guest.
func (c *Cell) judge(tl *timeline.Timeline) {
	c.Prediction, c.Why = NotKnown, "nothing in the twin started it"
	var verdict *timeline.Verdict
	rank := []timeline.Outcome{timeline.OutcomeFine, timeline.OutcomeAtRisk, timeline.OutcomeUnknown, timeline.OutcomeFailed}
	for _, v := range tl.Verdicts {
		if c.is(v) && (verdict == nil || slices.Index(rank, v.Outcome) > slices.Index(rank, verdict.Outcome)) {
			verdict = v
		}
	}
	if verdict == nil {
		return
	}
	c.Why = ""
	for _, cause := range verdict.Causes {
		c.Causes = append(c.Causes, cause.Kind)
		for _, cure := range cause.Cures {
			if !slices.Contains(c.Cures, cure) {
				c.Cures = append(c.Cures, cure)
			}
		}
	}
	for _, g := range tl.Guests {
		if g.ID != verdict.GuestID {
			continue
		}
		for _, d := range g.Disks {
			for _, u := range d.Uses[:min(1, len(d.Uses))] {
				if u.Margin != nil && (c.Margin == nil || u.NS < *c.Margin) {
					ns := u.NS
					c.Margin, c.Disk = &ns, d.Path
				}
			}
		}
		for _, h := range g.Holds {
			if h.Released != nil {
				c.Held += h.Released.At.Sub(h.At)
			}
		}
	}
	switch verdict.Outcome {
	case timeline.OutcomeUnknown:
		c.Prediction, c.Why = NotKnown, strings.Join(verdict.Unknown, "; ")
	case timeline.OutcomeFailed:
		c.Prediction = Never
		if c.Margin != nil && *c.Margin < 0 {
			c.Prediction = Race
		}
		if c.Disk == "" && len(verdict.Causes) > 0 && len(verdict.Causes[0].Disks) > 0 {
			c.Disk = verdict.Causes[0].Disks[0]
		}
	default:
		c.Prediction = InTime
		if c.Held > 0 {
			c.Prediction = Held
		}
	}
}

// outcomeOf says what a plan comes to as a whole.
func outcomeOf(p PlanResult) timeline.Outcome {
	outcome := timeline.OutcomeFine
	if len(p.Guests) == 0 {
		outcome = timeline.OutcomeUnknown
	}
	for _, c := range p.Guests {
		switch {
		case c.Prediction.Loses():
			return timeline.OutcomeFailed
		case c.Prediction == NotKnown:
			outcome = timeline.OutcomeUnknown
		}
	}
	return outcome
}

// summary has a sentence for each guest and plan in which it loses.
func summary(plans []PlanResult) []string {
	list := []string{}
	for _, p := range plans {
		if p.Enforce {
			continue
		}
		when := "as things are"
		if p.Plan != AsRecorded {
			when = "with " + p.Plan
		}
		for _, c := range p.Guests {
			if !c.Prediction.Loses() {
				continue
			}
			s := fmt.Sprintf("%s loses %s %s: the disk never gets ready for it.", c.Guest, cmp.Or(c.Disk, "its disk"), when)
			if c.Prediction == Race {
				s = fmt.Sprintf("%s loses %s %s: it looks %s before that is ready.", c.Guest, cmp.Or(c.Disk, "its disk"), when, seconds(-*c.Margin))
			}
			j := slices.IndexFunc(plans, func(q PlanResult) bool { return q.Enforce && q.Plan == p.Plan })
			if j >= 0 {
				switch e := plans[j].Cell(c.Guest, c.Identity); {
				case e == nil:
					s += " Whether enforce mode saves it is not known: it did not start."
				case e.Prediction == Held:
					s += fmt.Sprintf(" Enforce mode holds it for %s, and it runs.", seconds(e.Held))
				case e.Prediction == InTime:
					s += " In enforce mode it was in time."
				case e.Prediction.Loses() && e.Held > 0:
					s += fmt.Sprintf(" Enforce mode holds it for %s, in vain.", seconds(e.Held))
				case e.Prediction.Loses():
					s += " Enforce mode doesn't save it."
				default:
					s += " Whether enforce mode saves it is not known: " + e.Why + "."
				}
			}
			list = append(list, s)
		}
	}
	return list
}

func seconds(d event.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// Differences lists what the twin is not.
func (t *Twin) Differences() []string {
	m := t.Manifest
	list := []string{
		"hardware: the machine is emulated, with one processor and a kernel without mitigations, and its times are not the host's",
		"network: there is none, so storage and units that need it don't work",
		"contents of disks: there are none but tables, labels and metadata, so nothing inside guests is predicted",
		"udev: its rules are the host's, but other kinds of devices take their time here",
	}
	list = append(list, strings.Join(t.replaced, ", ")+": a stand-in that opens disks as qemu does takes the place; it answers no questions, so libvirt starts no guests here")
	if t.ownRoot {
		list = append(list, "root file system: it is on a disk of its own, which the host doesn't have")
	}
	if m.Root.Type != "ext4" {
		list = append(list, "root file system: it is ext4 here, and "+cmp.Or(m.Root.Type, "another one")+" on the host")
	}
	for _, target := range t.dropped {
		list = append(list, target+": its file system is not there")
	}
	for _, fs := range m.FileSystems {
		if fs.InRoot {
			list = append(list, fs.Target+": its files are on the root file system")
		}
	}
	if _, without := t.commandLine(); len(without) > 0 {
		list = append(list, "kernel's command line: without "+strings.Join(without, " "))
	}
	for _, o := range m.Others {
		list = append(list, o.Name+": a "+o.What+", which no twin has")
	}
	for _, d := range m.Disks {
		if d.Serial != "" && !serialPattern.MatchString(d.Serial) {
			list = append(list, d.Name+": its serial number can't be given to an emulated disk")
		}
	}
	list = append(list, "SELinux: it is off")
	if n := len(m.LeftOut); n > 0 {
		list = append(list, fmt.Sprintf("files: %d files and folders are not there or were changed, which the capture's manifest lists", n))
	}
	return append(list, m.Missing...)
}
