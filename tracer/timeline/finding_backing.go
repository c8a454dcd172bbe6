package timeline

// BackingMissing says that a backing file was not there, or not live, when the
// guest opened it: missing, never-ready, not-live or link-late of a path that
// no command line names. State, Margin and Ready tell which.
const BackingMissing = "backing-missing"

// backingMissing reports what the rules for disks find out about a backing
// file.
type backingMissing struct{}

func (backingMissing) find(r *record, report func(*Finding)) {
	of := *r
	of.backing = true
	for _, rule := range []rule{missing{}, linkLate{}, notLive{}, neverReady{}} {
		rule.find(&of, func(f *Finding) {
			f.Kind = BackingMissing
			report(f)
		})
	}
}

func (backingMissing) kinds() []findingKind {
	return []findingKind{{name: BackingMissing, outcome: failed, cause: howItStood}}
}
