package timeline

import (
	"iter"

	"github.com/bootrace/bootrace/tracer/event"
)

// Stand is a boot as it stood at one time. What an exporter says of the time
// before a mark that the boot had settled it says by what was known then, so
// that it never has to take anything back.
type Stand struct {
	*Timeline
	// Ended is set where that is the end of the record, and nothing will follow.
	Ended bool
}

// Stands yields the boot as it stood at each mark that it had settled, and in
// the end. The running boot has no end yet: how it stands now is not its last
// word, so it is left out, unless now is set. The first skip marks are passed
// over: making a timeline takes time.
func (b *Builder) Stands(events iter.Seq2[event.Event, error], now bool, skip int) iter.Seq2[Stand, error] {
	return func(yield func(Stand, error) bool) {
		added, marks := false, 0
		for e, err := range events {
			if err != nil {
				yield(Stand{}, err)
				return
			}
			b.Add(&e)
			added = true
			if !isSettled(&e) {
				continue
			}
			added = false
			if marks++; marks > skip && !yield(Stand{b.interim(), false}, nil) {
				return
			}
		}
		if added && (now || !b.boot.Current) {
			yield(Stand{b.Timeline(), !b.boot.Current}, nil)
		}
	}
}

func isSettled(e *event.Event) bool {
	return e.Kind == event.Mark && e.Mark != nil && e.Mark.Name == event.MarkSettled
}

// interim is the Timeline of a record that goes on.
func (b *Builder) interim() *Timeline {
	current := b.boot.Current
	defer func() { b.boot.Current = current }()
	b.boot.Current = true
	return b.Timeline()
}
