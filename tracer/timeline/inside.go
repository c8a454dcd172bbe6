package timeline

import (
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/inspect"
	"github.com/bootrace/bootrace/tracer/memory"
)

// insideFact is a look into a disk.
type insideFact struct {
	stamp
	pid  int // of the guest, 0: it had not started
	info event.InsideInfo
}

func (b *Builder) addInside(e *event.Event) {
	if e.Inside == nil {
		return
	}
	f := insideFact{stamp: stampOf(e), info: *e.Inside}
	if e.Proc != nil {
		f.pid = e.Proc.PID
	}
	for _, text := range []*string{&f.info.Guest, &f.info.Disk, &f.info.Why, &f.info.Cut, &f.info.Name, &f.info.UUID} {
		*text = strings.Clone(*text)
	}
	if e.Inside.Dev != nil {
		dev := *e.Inside.Dev
		f.info.Dev = &dev
	}
	f.info.Layers = slices.Clone(e.Inside.Layers)
	for i := range f.info.Layers {
		l := &f.info.Layers[i]
		for _, text := range []*string{&l.Kind, &l.Name, &l.Label, &l.UUID, &l.Detail, &l.State, &l.Why} {
			*text = strings.Clone(*text)
		}
		l.Damage, l.Checked, l.Unknown = slices.Clone(l.Damage), cloned(l.Checked), cloned(l.Unknown)
		for j := range l.Damage {
			l.Damage[j].What, l.Damage[j].Check = strings.Clone(l.Damage[j].What), strings.Clone(l.Damage[j].Check)
		}
	}
	b.insides = append(b.insides, f)
}

// looked gives the starts what was seen in their disks.
func (p *processes) looked(facts []insideFact) {
	facts = slices.SortedStableFunc(slices.Values(facts), func(a, b insideFact) int { return a.compare(&b.stamp) })
	for i := range facts {
		f := &facts[i]
		if f.pid == 0 { // before the guest's start
			if g := p.startedAs(f.info.Guest, "", f.at); g != nil {
				p.see(g.out, f)
			}
			continue
		}
		if g := p.lookedFor(f); g != nil {
			p.see(g.out, f)
			continue
		}
		for _, u := range slices.Backward(p.unstarted) {
			if slices.Contains(u.pids, f.pid) && u.is(f.info.Guest, "") {
				if !slices.ContainsFunc(u.out.Disks, func(d Disk) bool { return clean(d.Path) == clean(f.info.Disk) }) {
					u.addDisk(f.info.Disk, "", "")
				}
				p.see(u.out, f)
				break
			}
		}
	}
}

// lookedFor returns the guest that a look was for: what the process was, or became
// right after.
func (p *processes) lookedFor(f *insideFact) *guestLife {
	same := func(g *guestLife) bool { return f.info.Guest == "" || f.info.Guest == identityOf(g.fact.guest) }
	if g := p.of(f.pid, f.stamp); g != nil && same(g) {
		return g
	}
	for _, t := range p.tenures[f.pid] {
		if t.start.at >= f.from {
			if same(t.guest) {
				return t.guest
			}
			return nil
		}
	}
	return nil
}

// see takes in a look at a disk of g. One that was taken while somebody wrote adds
// nothing to one before, of the same device with the same size.
func (p *processes) see(g *Guest, f *insideFact) {
	for i := range g.Disks {
		d := &g.Disks[i]
		if clean(d.Path) != clean(f.info.Disk) || d.BackingOf != "" {
			continue
		}
		key := diskKey{g, clean(d.Path)}
		known := p.insides[key]
		if known == nil || known.info.Why != "" || f.info.Why == "" && !(f.info.Live && !known.info.Live && alikeSize(&f.info, &known.info)) {
			p.insides[key] = f
			seen := inspect.Replay(&f.info)
			d.Inside = &Inside{Instant: f.instant(), Live: f.info.Live, Layers: f.info.Layers, Unknown: seen.Unknown}
		}
		return
	}
}

// diskKey is a disk of one start.
type diskKey struct {
	guest *Guest
	path  string // cleaned
}

func alikeSize(a, b *event.InsideInfo) bool {
	has := func(i *event.InsideInfo) int64 {
		n := slices.IndexFunc(i.Layers, func(l event.InsideLayer) bool { return l.Kind == string(inspect.KindDisk) })
		if n < 0 {
			return -1
		}
		return i.Layers[n].Has
	}
	sameDev := a.Dev == nil && b.Dev == nil || a.Dev != nil && b.Dev != nil && *a.Dev == *b.Dev
	return sameDev && a.UUID == b.UUID && has(a) == has(b)
}

// within is a disk of one start that was looked into.
type within struct {
	fact   *insideFact
	guest  *Guest
	called string
	disk   *Disk
	seen   *inspect.InspectedDisk
	now    event.MemoryDisk  // what it led to, as it would be remembered
	last   *event.MemoryInfo // of the guest, nil: nothing is remembered
	recall uint64            // the event that says so
	before *event.MemoryDisk // what is remembered of this disk's inside, nil: nothing
}

// insides yields the disks that were looked into.
func (r *record) insides(yield func(*within) bool) {
	for _, g := range r.guests {
		var ran []ranOn
		for i := range g.out.Disks {
			d := &g.out.Disks[i]
			f := r.insideFacts[diskKey{g.out, clean(d.Path)}]
			if f == nil || d.Inside == nil {
				continue
			}
			if ran == nil {
				ran = r.ranOn(g)
			}
			w := &within{fact: f, guest: g.out, called: g.called(), disk: d, seen: inspect.Replay(&f.info), now: f.now()}
			for j := range ran {
				if ran[j].disk == d {
					w.now = ran[j].as
				}
			}
			if g.memory != nil {
				w.last, w.recall = &g.memory.info, g.memory.id
			}
			w.before = memory.Seen(w.last, &w.now)
			if !yield(w) {
				return
			}
		}
	}
	for _, u := range r.unstarted {
		for i := range u.out.Disks {
			d := &u.out.Disks[i]
			f := r.insideFacts[diskKey{u.out, clean(d.Path)}]
			if f == nil || d.Inside == nil {
				continue
			}
			if !yield(&within{fact: f, guest: u.out, called: u.called(), disk: d, seen: inspect.Replay(&f.info), now: f.now()}) {
				return
			}
		}
	}
}

// now is what a disk led to, as far as the look itself tells.
func (f *insideFact) now() event.MemoryDisk {
	return event.MemoryDisk{Path: f.info.Disk, Name: f.info.Name, UUID: f.info.UUID, Size: f.info.Size}
}

// first returns the first trouble of a kind, and how many there are.
func (w *within) first(kind inspect.TroubleKind) (found *inspect.Trouble, count int) {
	for i := range w.seen.Troubles {
		if t := &w.seen.Troubles[i]; t.Kind == kind {
			if count++; found == nil || found.Copy && !t.Copy {
				found = t
			}
		}
	}
	return found, count
}

// trouble makes a finding of one kind, nil where the disk has none.
func (w *within) trouble(kind string) *Finding {
	t, n := w.first(inspect.TroubleKind(kind))
	if t == nil {
		return nil
	}
	return w.finding(kind, &Trouble{Layer: t.Layer, What: t.What, Needs: t.Needs, Has: t.Has, AtByte: t.At, More: n - 1, Spare: t.Copy})
}

func (w *within) finding(kind string, t *Trouble) *Finding {
	at := w.guest.Exec.At
	if len(w.disk.Uses) > 0 {
		at = w.disk.Uses[0].At
	}
	f := &Finding{
		Kind: kind, Guest: w.called, GuestID: w.guest.ID, Disk: w.disk.Path, At: at, Size: w.now.Size, Inside: t, Exit: w.guest.Exit,
		Mapping: w.disk.Mapping, MappingName: w.fact.info.Name,
		Evidence: []uint64{w.guest.Exec.Event, w.disk.Inside.Event},
	}
	if (t.Since != "" || t.Whole != "") && w.recall != 0 {
		f.Evidence = append(f.Evidence, w.recall)
	}
	f.Evidence = proof(f.Evidence)
	return f
}

// layers lists the layers that have the state.
func (w *within) layers(state inspect.State) (found []*inspect.Layer) {
	w.seen.Walk(func(l *inspect.Layer) {
		if l.State == state {
			found = append(found, l)
		}
	})
	return found
}

// whole says in which boot this guest's layer was last seen with all its bytes, and
// on what, where that was another device. Guests of one template share UUIDs, so only
// what this guest ran on counts.
func (w *within) whole(l *inspect.Layer) (boot, on string) {
	if w.last == nil || l == nil || l.UUID == "" {
		return "", ""
	}
	for i := range w.last.Disks {
		d := &w.last.Disks[i]
		if slices.ContainsFunc(d.Inside, func(m event.MemoryLayer) bool {
			return m.Kind == string(l.Kind) && m.UUID == l.UUID && m.Needs > 0 && m.Needs <= m.Has
		}) {
			if !memory.SameDisk(d, &w.now) {
				on = memory.Describe(d)
			}
			return d.InsideBoot, on
		}
	}
	return "", ""
}

// wholeInside is whole of the first layer within what is short of which that is
// remembered: a partition has no UUID, and the file system in it has.
func (w *within) wholeInside() (boot, on string) {
	w.seen.Walk(func(l *inspect.Layer) {
		if boot == "" {
			boot, on = w.whole(l)
		}
	})
	return boot, on
}

// filesystemPolicy adds what enforce.filesystem was for the guest of a finding.
func (r *record) filesystemPolicy(f *Finding, c *Cause) {
	g, _ := r.start(f.GuestID)
	if g == nil {
		return
	}
	if slices.ContainsFunc(g.Holds, func(h Hold) bool { return h.For == event.HoldFilesystem }) {
		c.Filesystem = event.FilesystemHolds
		return
	}
	if policy := r.policies.at(g.Exec.At); policy != nil && policy.Mode == event.ModeEnforce {
		how := r.rulingOf(policy, g)
		c.Filesystem = how.Filesystem
	}
}

// holdInside is the cure that keeps such a start back, where nothing does.
func (c *Cause) holdInside() []string {
	switch c.Filesystem {
	case event.FilesystemHolds, event.FilesystemDenies:
		return nil
	}
	return []string{CureHoldInside}
}

// failedUnlessSpare is the outcome of what is wrong inside a disk, and may concern a
// copy that nobody needs as long as the first one is sound.
func failedUnlessSpare(f *Finding) Outcome {
	if f.Inside != nil && f.Inside.Spare {
		return OutcomeAtRisk
	}
	return OutcomeFailed
}
