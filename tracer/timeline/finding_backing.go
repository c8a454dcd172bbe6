package timeline

// BackingMissing says that a backing file was not there, or not live, when the
// guest opened it: missing, never-ready, not-live or link-late of a path that
// no command line names. State, Margin and Ready tell which.
const BackingMissing = "backing-missing"

// backingMissing reports what the rules for disks find out about a backing
// file.
type backingMissing struct{}

func (backingMissing) find(r *record, report func(*Finding)) {
	backing := *r
	backing.kind = whichBacking
	for _, of := range []rule{missing{}, linkLate{}, notLive{}, neverReady{}} {
		of.find(&backing, func(f *Finding) {
			f.Kind = BackingMissing
			report(f)
		})
	}
}
