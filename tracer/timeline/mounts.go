package timeline

import (
	"path"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/memory"
)

// A guest's image can be a file. What it waits for then is the file system that
// it lies on: a mount is a life like a device's, from mount to umount, and the
// paths below its point lead to it.

// KindMount is Mapping.Kind of a mounted file system, beside blockdev's kinds.
const KindMount blockdev.Kind = "mount"

// mountFact is a mount that was found, made or undone.
type mountFact struct {
	stamp
	info event.MountInfo
}

func (b *Builder) addMount(e *event.Event) {
	if e.Mount == nil {
		return
	}
	f := mountFact{stampOf(e), *e.Mount}
	if f.info.Action == event.MountFound {
		f.from, f.orBefore = min(f.from, 1), true
	}
	for _, text := range []*string{&f.info.Point, &f.info.Root, &f.info.Source, &f.info.FSType, &f.info.UUID, &f.info.Unit} {
		*text = strings.Clone(*text)
	}
	b.mounts = append(b.mounts, f)
}

// mounts are the lives of the file systems by their points.
type mounts struct {
	h  *history
	at map[string][]*life
}

// newMounts makes the lives. devices knows which device a source's path led to.
func newMounts(h *history, d *devices, facts []mountFact) *mounts {
	m := &mounts{h: h, at: map[string][]*life{}}
	facts = slices.SortedStableFunc(slices.Values(facts), func(a, b mountFact) int { return a.compare(&b.stamp) })
	for i := range facts {
		f := &facts[i]
		switch f.info.Action {
		case event.MountFound, event.MountMade:
			m.mounted(d, f)
		case event.MountGone:
			m.unmounted(f)
		}
	}
	return m
}

func (m *mounts) mounted(d *devices, f *mountFact) {
	l := newLife(KindMount, f.stamp)
	l.out.Backfilled = f.orBefore
	l.name = m.h.names.add(f.info.Point)
	l.names = []nameSpan{{l.name, span{start: f.stamp}}}
	l.under, l.filesystem = m.beneath(d, f), memory.FileSystem(&f.info)
	l.becomeLive(f.stamp)
	l.enter(stateLive, f.stamp)
	l.udev = []stamp{f.stamp} // udev has no part in it
	step := Step{Kind: StepMounted, Instant: f.instant(), Detail: f.info.Source}
	if f.info.Unit != "" {
		step.By = &event.Proc{Unit: f.info.Unit}
	}
	l.out.Steps = append(l.out.Steps, step)
	m.h.lives = append(m.h.lives, l)
	m.at[f.info.Point] = append(m.at[f.info.Point], l)
}

// beneath is the device of a file system. Some have a number of their own, which
// is no device's: then it is the one that the source's path led to.
func (m *mounts) beneath(d *devices, f *mountFact) []event.Dev {
	if f.info.Dev.Major != 0 {
		return []event.Dev{f.info.Dev}
	}
	l := m.h.lifeByNode(nodeOf(f.info.Source), f.stamp)
	for _, s := range d.paths[m.h.names.of[f.info.Source]] {
		if s.life != nil && s.start.from <= f.at {
			l = s.life
		}
	}
	if l == nil || !l.hasDev {
		return nil
	}
	return []event.Dev{l.out.Dev}
}

func (m *mounts) unmounted(f *mountFact) {
	for _, l := range slices.Backward(m.at[f.info.Point]) {
		if l.end == nil {
			m.h.finish(l, f.stamp)
			l.out.Steps = append(l.out.Steps, Step{Kind: StepRemoved, Instant: f.instant()})
			return
		}
	}
}

// over returns the mounts, over the whole boot, at the deepest point that p lies
// below. The root is none of them: it is always there.
func (m *mounts) over(p string) []*life {
	for dir := p; ; {
		cut := strings.LastIndexByte(dir, '/')
		if cut <= 0 {
			return nil
		}
		dir = dir[:cut]
		if lives := m.at[dir]; len(lives) > 0 {
			return lives
		}
	}
}

// holding returns the file system that a path lay on at s, by the deepest mount
// that was there then, nil where none is known.
func (m *mounts) holding(p string, s stamp) *life {
	for dir := p; dir != "/" && strings.HasPrefix(dir, "/"); {
		dir = path.Dir(dir)
		if l := m.existing(dir, s); l != nil {
			return l
		}
	}
	return nil
}

// existing returns the last mount at a point that was there at s.
func (m *mounts) existing(point string, s stamp) *life { return lastExisting(m.at[point], s) }
