package timeline

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
)

// A Builder keeps what it needs of an event, not the event: a host can have a
// million of them, and most are opens of no consequence.

// sym is an interned string; 0 is the empty one.
type sym uint32

// symbols interns strings. It copies them, so that a log's line buffers are
// not kept alive.
type symbols struct {
	of   map[string]sym
	text []string
}

func newSymbols() *symbols {
	return &symbols{of: map[string]sym{"": 0}, text: []string{""}}
}

func (s *symbols) add(text string) sym {
	if id, ok := s.of[text]; ok {
		return id
	}
	text = strings.Clone(text)
	id := sym(len(s.text))
	s.of[text] = id
	s.text = append(s.text, text)
	return id
}

func (s *symbols) get(id sym) string { return s.text[id] }

// chunk is large enough that a million facts need few of them, and small
// enough that a quiet boot does not notice.
const chunk = 4096

// list is an append-only list that never copies what it holds.
type list[T any] struct{ chunks [][]T }

func (l *list[T]) add(v T) {
	n := len(l.chunks)
	if n == 0 || len(l.chunks[n-1]) == cap(l.chunks[n-1]) {
		size := chunk
		if n == 0 {
			size = chunk / 16
		}
		l.chunks = append(l.chunks, make([]T, 0, size))
		n++
	}
	l.chunks[n-1] = append(l.chunks[n-1], v)
}

func (l *list[T]) all(yield func(*T) bool) {
	for _, c := range l.chunks {
		for i := range c {
			if !yield(&c[i]) {
				return
			}
		}
	}
}

// sorted returns pointers to the facts in the order of their stamps.
func sorted[T any](l *list[T], stampOf func(*T) *stamp) []*T {
	var facts []*T
	for f := range l.all {
		facts = append(facts, f)
	}
	slices.SortFunc(facts, func(a, b *T) int { return stampOf(a).compare(stampOf(b)) })
	return facts
}

// stamp is when a fact became true, and the event that says so.
type stamp struct {
	from, at event.Time // from <= at
	id       uint64
	orBefore bool
}

func stampOf(e *event.Event) stamp {
	s := stamp{from: e.Earliest(), at: e.At, id: e.ID}
	if e.Kind == event.Backfill {
		// A snapshot's From may be 0: any time since the boot.
		s.from, s.orBefore = e.From, true
	}
	s.from = min(s.from, s.at)
	return s
}

// exact narrows a stamp to an instant within its window.
func (s stamp) exact(at event.Time) stamp {
	if at >= s.from && at <= s.at {
		s.from, s.at = at, at
	}
	return s
}

func (s *stamp) compare(o *stamp) int {
	switch {
	case s.at != o.at:
		return cmp.Compare(s.at, o.at)
	case s.from != o.from:
		return cmp.Compare(s.from, o.from)
	default:
		return cmp.Compare(s.id, o.id)
	}
}

func (s stamp) instant() Instant {
	return Instant{At: s.at, From: s.from, OrBefore: s.orBefore, Event: s.id}
}

func (s stamp) pointer() *Instant {
	i := s.instant()
	return &i
}

// both is when a and b are true: the later of the two.
func both(a, b stamp) stamp {
	late := a
	if b.at > a.at || b.at == a.at && a.orBefore && !b.orBefore {
		late = b
	}
	late.from = max(a.from, b.from)
	return late
}

// dmFact is one request to device-mapper, or a mapping found by a snapshot.
type dmFact struct {
	stamp
	kind             event.Kind
	name, uuid       sym
	newName, newUUID sym
	state            sym
	dev              event.Dev
	hasDev           bool
	errno            int32
	flags            uint32
	size             int64
	table            []string
	by               *event.Proc
}

// devFact is a uevent of a block device, udev's end of it, or a record of udev's
// database.
type devFact struct {
	stamp
	kind   event.Kind
	action sym
	device blockdev.Kind
	node   sym // kernel name
	// name and uuid are device-mapper's; of other devices uuid is what
	// identifies them over reboots.
	name, uuid sym
	dev        event.Dev
	links      []sym
	progress   blockdev.Progress
	usable     blockdev.Usable
	size       int64 // bytes, -1 if not known
	under      []event.Dev
	since      event.Time // event.DevInfo.Since, 0 if not known
	// asked is set where somebody asked for the announcement: it begins nothing.
	asked bool
}

// linkFact is a symbolic link that was made under /dev.
type linkFact struct {
	stamp
	path, target sym
}

// openFact is an open of anything by anybody.
type openFact struct {
	stamp
	path    sym
	kind    sym
	pid     int32
	errno   int32
	flags   uint32
	repeats int32
	uid     uint32
	dev     event.Dev
	hasDev  bool
	size    int64
}

// forkFact is a process of a guest that made another.
type forkFact struct {
	stamp
	pid, parent int
}

type exitFact struct {
	stamp
	pid  int
	uid  uint32
	info event.ExitInfo
}

type holdFact struct {
	stamp
	pid     int
	parent  int
	release bool
	info    event.HoldInfo
}

// domainFact is a call of libvirt's hook at the start of a domain.
type domainFact struct {
	stamp
	pid  int // of the hook
	info event.DomainInfo
}

// policyFact is what enforce mode does, or would do, from then on.
type policyFact struct {
	stamp
	info event.PolicyInfo
}

type sourceFact struct {
	stamp
	info event.SourceInfo
}

// lookFact is a vain open of a path under /dev by somebody who minds none of
// the host's own devices.
type lookFact struct {
	stamp
	path    sym
	errno   int32
	repeats int32
	by      *event.Proc
}

// lvmFact is what LVM said of a volume, or of its configuration.
type lvmFact struct {
	stamp
	info event.LVMInfo
}
