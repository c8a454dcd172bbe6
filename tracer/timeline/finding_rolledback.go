package timeline

import (
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/inspect"
)

// RolledBack says that a file system is older than this guest last had it on the same
// disk: its log, or its generation, only goes forward. The disk is a restored
// snapshot, or another copy.
const RolledBack = "rolled-back"

// CauseRolledBack means that a file system is older than this guest last had it.
const CauseRolledBack = "rolled-back"

type rolledBack struct{}

func (rolledBack) find(r *record, report func(*Finding)) {
	for w := range r.insides {
		if w.before == nil {
			continue
		}
		seen := map[[2]string]int{}
		w.seen.Walk(func(l *inspect.Layer) { seen[[2]string{string(l.Kind), l.UUID}]++ })
		told := false
		w.seen.Walk(func(l *inspect.Layer) {
			last := only(w.before.Inside, l)
			if told || l.UUID == "" || last == nil || seen[[2]string{string(l.Kind), l.UUID}] > 1 || !inspect.Older(l.Kind, l.Generation, last.Generation) {
				return
			}
			told = true
			report(w.finding(RolledBack, &Trouble{
				Layer: l.Title(), Whole: w.before.InsideBoot, Generation: l.Generation, Before: last.Generation,
			}))
		})
	}
}

func (rolledBack) kinds() []findingKind {
	return []findingKind{{name: RolledBack, outcome: atRisk, cause: always(olderCopy), order: 2}}
}

var olderCopy = newCause(causeKind{name: CauseRolledBack, inside: true, cures: just(CureWhichCopy)})

// only returns the remembered layer of that kind and UUID, nil where there is none, or
// more than one.
func only(list []event.MemoryLayer, l *inspect.Layer) *event.MemoryLayer {
	var found *event.MemoryLayer
	for i := range list {
		if list[i].Kind == string(l.Kind) && list[i].UUID == l.UUID {
			if found != nil {
				return nil
			}
			found = &list[i]
		}
	}
	return found
}
