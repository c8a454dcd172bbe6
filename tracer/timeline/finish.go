package timeline

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/memory"
)

// Timeline makes a Timeline of the events that were added so far. It changes
// nothing in the Builder: more can be added, and it can be asked again.
func (b *Builder) Timeline() *Timeline {
	t := b.outline()
	cover := b.coverage()
	t.Sources = cover.spans()
	lost := append(lossGaps(t.Losses), b.laterGaps()...)
	lost = append(lost, cover.gaps("")...)

	h := newHistory(b.names, lost)
	for _, f := range sorted(&b.dms, func(f *dmFact) *stamp { return &f.stamp }) {
		h.apply(f)
	}
	d := newDevices(h)
	d.apply(
		sorted(&b.devs, func(f *devFact) *stamp { return &f.stamp }),
		sorted(&b.links, func(f *linkFact) *stamp { return &f.stamp }),
	)
	m := newMounts(h, d, b.mounts)
	all := h.mappings()
	ways := b.waysOf(h, m)
	ways.prove()
	r := b.resolve(h, d, ways)

	groups := groupsOf(h)
	p := b.guests(r, groups)
	for _, g := range p.guests {
		t.Guests = append(t.Guests, g.out)
	}
	t.listUnstarted(p.unstarted)
	rec := b.record(b.judgeRecord(t, all, cover), h, p)
	rec.looks, rec.used, rec.groups, rec.route, rec.ways = b.looksOf(p), usedDisks(t.Guests), groups, r.route, ways
	rec.policies, rec.losses = b.policiesOf(t.Marks, t.Sources), t.Losses
	for i := range t.Marks {
		if t.Marks[i].Name == event.MarkSettled {
			rec.settled = append(rec.settled, t.Marks[i].At)
		}
	}
	rec.mountsFrom, rec.mountsUnread = cover.since(whatMount), cover.partly(whatMount)
	t.LVM = rec.lvm.list()
	if n := len(rec.policies.facts); n > 0 {
		t.Inspect = rec.policies.facts[n-1].info.Inspect
	}
	rec.mappings = map[string]*Mapping{}
	for _, m := range all {
		rec.mappings[m.ID] = m
	}
	rec.find(t)
	t.Mappings = append(t.Mappings, told(all, t)...)
	return t
}

// told returns the devices that a timeline tells of: all mappings, and of the
// others those that guests had to do with.
func told(all []*Mapping, t *Timeline) []*Mapping {
	used := map[string]bool{}
	for _, g := range t.Guests {
		for i := range g.Disks {
			used[g.Disks[i].Mapping] = true
			for j := range g.Disks[i].Uses {
				used[g.Disks[i].Uses[j].Mapping] = true
			}
		}
	}
	for _, f := range t.Findings {
		used[f.Mapping] = true
	}
	return slices.DeleteFunc(all, func(m *Mapping) bool { return m.Kind != blockdev.Mapping && !used[m.ID] })
}

// outline fills in what the record says about itself.
func (b *Builder) outline() *Timeline {
	t := &Timeline{
		BootID: b.boot.ID, Kernel: b.boot.Kernel, Host: event.HostInfo{Name: b.boot.Host},
		Clock: b.clock.value, First: b.first, Last: b.last, Events: b.count,
		Losses: []Loss{}, Marks: []Mark{}, Mappings: []*Mapping{}, Guests: []*Guest{}, Findings: []*Finding{},
	}
	if b.host.value != nil {
		t.Host = *b.host.value
		t.Host.Name = cmp.Or(t.Host.Name, b.boot.Host)
	}
	t.Losses = append(t.Losses, b.losses...)
	t.Marks = append(t.Marks, b.marks...)
	slices.SortStableFunc(t.Losses, func(a, b Loss) int { return a.Instant.compare(b.Instant) })
	slices.SortStableFunc(t.Marks, func(a, b Mark) int { return a.Instant.compare(b.Instant) })
	return t
}

func (i Instant) compare(o Instant) int {
	return cmp.Or(cmp.Compare(i.At, o.At), cmp.Compare(i.From, o.From), cmp.Compare(i.Event, o.Event))
}

func (b *Builder) coverage() *coverage {
	c := &coverage{marks: slices.Clone(b.marks), losses: b.losses, last: b.last}
	for i := range b.sources {
		c.sources = append(c.sources, &b.sources[i])
	}
	slices.SortStableFunc(c.sources, func(a, b *sourceFact) int { return a.compare(&b.stamp) })
	slices.SortStableFunc(c.marks, func(a, b Mark) int { return a.Instant.compare(b.Instant) })
	return c
}

func (b *Builder) resolve(h *history, d *devices, w *ways) *resolver {
	for _, l := range h.lives {
		l.settle(b.opts.Settle, b.last)
	}
	r := &resolver{h: h, paths: d.paths, ways: w, names: b.names, cache: map[sym]*route{}}
	r.describePaths()
	for _, l := range h.lives {
		sortSteps(l.out.Steps)
	}
	return r
}

// guests follows the guests' processes, gives them their opens and measures
// these.
func (b *Builder) guests(r *resolver, groups map[string]bool) *processes {
	p := &processes{names: b.names, tenures: map[int][]tenure{}, insides: map[diskKey]*insideFact{}}
	for _, s := range b.processSteps() {
		p.apply(s)
	}
	p.recall(b.images, b.memories)
	for _, f := range b.opensOf(p) {
		if g := p.of(int(f.pid), f.stamp); g != nil {
			g.open(f)
		}
	}
	domains := slices.Clone(b.domains)
	slices.SortFunc(domains, func(a, b domainFact) int { return a.compare(&b.stamp) })
	for i := range domains {
		p.domain(&domains[i])
	}
	for _, f := range sorted(&b.holds, func(f *holdFact) *stamp { return &f.stamp }) {
		p.hold(f)
	}
	p.looked(b.insides)
	for _, g := range p.guests {
		g.judge(r, groups)
	}
	p.inherit()
	p.guests = slices.DeleteFunc(p.guests, func(g *guestLife) bool { return p.replaced(g) })
	return p
}

// groupsOf names the volume groups that mappings came of.
func groupsOf(h *history) map[string]bool {
	groups := map[string]bool{}
	for _, l := range h.lives {
		if l.mapping.VG != "" && l.kind == blockdev.Mapping {
			groups[l.mapping.VG] = true
		}
	}
	return groups
}

// opensOf returns the opens by processes of guests, in the order of time.
func (b *Builder) opensOf(p *processes) []*openFact {
	var out []*openFact
	for f := range b.opens.all {
		if len(p.tenures[int(f.pid)]) > 0 {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b *openFact) int { return a.compare(&b.stamp) })
	return out
}

// replaced reports whether g was only a wrapper: its process went on to run
// another guest before it had opened a disk.
func (p *processes) replaced(g *guestLife) bool {
	if len(g.firsts) > 0 || g.out.Exit != nil {
		return false
	}
	for i, t := range p.tenures[g.out.PID] {
		if t.guest == g {
			rest := p.tenures[g.out.PID][i+1:]
			return t.end != nil && len(rest) > 0 && rest[0].start == *t.end
		}
	}
	return false
}

// judgeRecord says how complete the record is, and returns its gaps.
func (b *Builder) judgeRecord(t *Timeline, devices []*Mapping, c *coverage) gaps {
	all := append(lossGaps(t.Losses), b.laterGaps()...)
	all = append(all, c.gaps(b.existed(t, devices, c))...)
	if !b.boot.Current {
		all = append(all, c.tail()...)
	}
	all = all.sort()
	t.Incomplete = all.joined()
	t.Complete = len(all) == 0
	t.CompleteFrom = all.completeFrom(t.Last)
	return all
}

// existed says what was there when tracing began, empty if certainly nothing.
func (b *Builder) existed(t *Timeline, devices []*Mapping, c *coverage) string {
	mappings, guests := 0, 0
	for _, m := range devices {
		if m.Kind == blockdev.Mapping && m.Lives[0].Backfilled {
			mappings++
		}
	}
	for _, g := range t.Guests {
		if g.Backfilled {
			guests++
		}
	}
	if mappings+guests > 0 {
		return counted(mappings, "mapping") + " and " + counted(guests, "guest") + " existed already"
	}
	if slices.ContainsFunc(b.losses, func(l Loss) bool { return l.Source == sourceSnapshot }) {
		return "the snapshot failed that tells what existed already"
	}
	if !slices.ContainsFunc(c.sources, func(f *sourceFact) bool { return f.info.Name == sourceSnapshot }) {
		return "no snapshot tells what existed already"
	}
	return ""
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// record is what the rules go by.
func (b *Builder) record(g gaps, h *history, p *processes) *record {
	b.sortDisks()
	a := accounts{disks: b.disks, names: b.names, h: h, queue: b.udevQueue()}
	return &record{
		opts: b.opts, gaps: g, last: b.last, guests: p.guests, lvm: b.lvmFacts(), disks: b.disks, account: a.of,
		h: h, snapshots: b.snapshots(), unstarted: p.unstarted, accepted: b.accepted, census: newCensus(h), insideFacts: p.insides,
	}
}

// find runs the rules, and judges what they found.
func (r *record) find(t *Timeline) {
	for _, rule := range rules() {
		rule.find(r, func(f *Finding) {
			f.DeviceKind = cmp.Or(f.DeviceKind, r.deviceKind(f))
			if findingKinds()[f.Kind] == nil {
				f.Withheld = cmp.Or(f.Withheld, "nothing is decided about findings of the kind "+f.Kind)
			}
			t.Findings = append(t.Findings, f)
		})
	}
	slices.SortStableFunc(t.Findings, func(a, b *Finding) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.GuestID, b.GuestID), cmp.Compare(a.Disk, b.Disk))
	})
	t.Verdicts = r.judge(t)
	t.Summary = r.summarize(t)
}

// deviceKind is the kind of the device that f is about, empty where it is about
// none.
func (r *record) deviceKind(f *Finding) blockdev.Kind {
	if m := r.mappings[f.Mapping]; m != nil {
		return m.Kind
	}
	return KindOfPath(f.Disk)
}

// KindOfPath is the kind of device that a guest's path can mean by its name, file
// outside /dev, and empty for no path.
func KindOfPath(path string) blockdev.Kind {
	meaning, _ := blockdev.MeaningOf(path)
	switch {
	case path == "":
		return ""
	case !inDev(path):
		return memory.KindFile
	case meaning.Kind == "", meaning.Kind == blockdev.Other && len(meaning.Mappings) == 0:
		return blockdev.Other
	case meaning.Kind == blockdev.Other: // a link that udev names after the mapping
		return blockdev.Mapping
	}
	return meaning.Kind
}
