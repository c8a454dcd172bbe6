package timeline

import (
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// rule finds one kind of thing that can be said about a boot, or a few that are found
// together. All that is decided about them stands in the rule's file.
type rule interface {
	find(r *record, report func(*Finding))
	// kinds are those of the findings that it reports.
	kinds() []findingKind
}

// findingKind is what the findings of one kind come to.
type findingKind struct {
	name string
	// outcome is that of a finding that is certain, and that nobody has accepted.
	outcome func(f *Finding) Outcome
	// cause explains a finding: nil where it explains nothing of how a guest fared.
	cause func(r *record, f *Finding) *causeKind
	// order sorts the causes of one instant: what explains most has the least.
	order int
}

// Outcomes of findings that always come to the same. noOutcome is for those that tell
// nothing of how a guest fared.
func failed(*Finding) Outcome    { return OutcomeFailed }
func atRisk(*Finding) Outcome    { return OutcomeAtRisk }
func noOutcome(*Finding) Outcome { return "" }

// rules lists all of them. Their order is that of findings at one instant.
func rules() []rule {
	return []rule{
		missing{},
		linkLate{},
		notLive{},
		neverReady{},
		linkMissing{},
		removed{},
		renamed{},
		pulled{},
		backingMissing{},
		openError{},
		notADevice{},
		nearMiss{},
		changed{},
		truncated{},
		partMissing{},
		damaged{},
		rolledBack{},
		fsErrors{},
		hibernated{},
		neverStarted{},
		notExecuted{},
		held{},
		wouldHold{},
		notHeld{},
		overShare{},
	}
}

// record is what rules judge by.
type record struct {
	opts   Options
	gaps   gaps
	last   event.Time
	guests []*guestLife
	// backing has the rules for disks look at backing files instead.
	backing bool
	// looks are the vain opens by others, used the disks that guests have, by
	// path and by mapping, groups the volume groups that mappings came of.
	looks    []*look
	used     map[string]bool
	groups   map[string]bool
	route    func(sym) *route
	ways     *ways
	mappings map[string]*Mapping // by Mapping.ID
	lvm      *lvmFacts
	disks    map[event.Dev]*diskFact
	// account explains why a life was ready no sooner.
	account func(*life, stamp) *Account
	h       *history
	// unstarted are the guests of which no exec tells.
	unstarted []*unstarted
	policies  policies
	losses    []Loss
	// starts has each guest that was seen to start, by Guest.ID (see start).
	starts map[string]func() (*Guest, *plan)
	// settled are the times at which the service said that the boot had settled.
	settled []event.Time
	// mountsFrom is from when on mounts are recorded, nil if they are not.
	mountsFrom *event.Time
	// mountsUnread says why not all mounts of the host are recorded although
	// somebody tried to, empty where they are, or nobody did.
	mountsUnread string
	// snapshots are the times at which what existed was looked at.
	snapshots []event.Time
	// census knows devices by what is remembered of them.
	census *census
	// accepted is what operators made guests' disks in this boot.
	accepted []memoryFact
	// insideFacts are the looks into disks.
	insideFacts map[diskKey]*insideFact
}

// firstUse is the first use of one disk by one guest. Later opens of the same disk
// are ignored: the first one decides whether the guest came too early.
type firstUse struct {
	guest *guestLife
	disk  *Disk
	use   *Use
	route *route
	life  *life // that the path led to or would have led to, nil if none
	way   *access
	// state is the mapping's at the open; certain is false where it changed
	// just then.
	state   string
	certain bool
}

// usesOfDisks iterates over the first uses of disks, or of backing files where r.backing is
// set (finding_backing.go).
func (r *record) usesOfDisks(yield func(*firstUse) bool) {
	for u := range r.uses {
		if (u.disk.BackingOf != "") == r.backing && !yield(u) {
			return
		}
	}
}

// uses iterates over the first uses of disks and backing files.
func (r *record) uses(yield func(*firstUse) bool) {
	for _, g := range r.guests {
		for i := range g.firsts {
			if !yield(&g.firsts[i]) {
				return
			}
		}
	}
}

// absent reports whether the open failed because nothing was there.
func (u *firstUse) absent() bool {
	switch unix.Errno(u.use.Errno) {
	case unix.ENOENT, unix.ENXIO, unix.ENODEV:
		return true
	}
	return false
}

// stamp returns the window of the open.
func (u *firstUse) stamp() stamp {
	return stamp{from: u.use.From, at: u.use.At, id: u.use.Event}
}

// late reports whether the way in was open only after this use.
func (u *firstUse) late() bool { return u.way != nil && u.use.Margin.Negative() }

// finding fills in everything that does not depend on the kind.
func (r *record) finding(kind string, race bool, u *firstUse) *Finding {
	f := &Finding{
		Kind: kind, Race: race,
		Guest: u.guest.called(), GuestID: u.guest.out.ID,
		Disk: u.disk.Path, BackingOf: u.disk.BackingOf, At: u.use.At,
		Margin: u.use.Margin, Ready: u.use.Ready,
		Errno: u.use.Errno, Error: u.use.Error, State: u.state, Exit: u.guest.out.Exit,
	}
	if u.life != nil {
		f.Mapping, f.MappingName = u.life.mapping.ID, u.life.nameAt(u.stamp(), u.guest.names)
	}
	f.Evidence = u.evidence()
	if u.way != nil {
		f.Late = r.account(u.life, u.way.ready)
	}
	f.after(u.route.earlier(u.stamp(), u.way))
	return f
}

// after notes that the disk had been ready before. What came back did not take
// its time from the boot on.
func (f *Finding) after(e *Earlier) {
	if e == nil {
		return
	}
	f.Earlier = e
	f.Evidence = proof(append(f.Evidence, e.From.Event, e.To.Event))
	if f.Late != nil && e.Mapping == f.Mapping {
		f.Late.since(e.To.At)
	}
}

// evidence names the exec, the open, and what made the mapping ready.
func (u *firstUse) evidence() []uint64 {
	ids := []uint64{u.guest.out.Exec.Event, u.use.Event}
	if l := u.life; l != nil {
		ids = append(ids, l.start.id)
		if l.live != nil {
			ids = append(ids, l.live.id)
		}
		if l.out.Udev != nil {
			ids = append(ids, l.out.Udev.Event)
		}
		if l.end != nil && u.state == stateRemoved {
			ids = append(ids, l.end.id)
		}
	}
	if u.use.Ready != nil {
		ids = append(ids, u.use.Ready.Event)
	}
	return proof(ids)
}

// proof puts the ids of events in order, each once.
func proof(ids []uint64) []uint64 {
	slices.Sort(ids)
	return slices.DeleteFunc(slices.Compact(ids), func(id uint64) bool { return id == 0 })
}

// readiness is what decides when a mapping was ready.
var readiness = []string{whatDM, whatUdev, whatUevent, whatLink}

// withheld returns why nothing certain can be said about [from, to], empty if
// the record covers it.
func (r *record) withheld(subjects []string, from, to event.Time) string {
	return r.withheldOf(ofNobody, subjects, from, to)
}

// withheldOf is withheld for what may be missing of those users alone, too.
func (r *record) withheldOf(users whose, subjects []string, from, to event.Time) string {
	if gap := r.gaps.find(subjects, from, to, users); gap != nil {
		return gap.reason()
	}
	return ""
}

// rest returns why the time from a use to the end of the record is not covered.
// That the record has no proper end is no reason: a verdict on the rest of the
// boot holds as far as it is recorded.
func (r *record) rest(u *firstUse) string {
	return r.withheld(readiness, u.use.From, max(u.use.At, r.last-1))
}

// between returns why the time from a use to the mapping's readiness, in either
// order, is not covered.
func (r *record) between(u *firstUse) string {
	from, to := u.use.From, u.use.At
	if ready := u.use.Ready; ready != nil {
		from, to = min(from, ready.From), max(to, ready.At)
		if ready.OrBefore {
			from = u.use.From
		}
	}
	return r.withheld(readiness, from, to)
}

// findingKinds has all kinds by name.
var findingKinds = sync.OnceValue(func() map[string]*findingKind {
	kinds := map[string]*findingKind{}
	for _, rule := range rules() {
		for _, k := range rule.kinds() {
			kinds[k.name] = &k
		}
	}
	return kinds
})

// FindingKinds lists all kinds of findings.
func FindingKinds() []string { return slices.Sorted(maps.Keys(findingKinds())) }

// unknownKind is what a finding comes to of whose kind nothing is decided, such as one
// of a later version.
var unknownKind = findingKind{
	outcome: func(*Finding) Outcome { return OutcomeUnknown },
	cause:   always(unexplained),
}

func (f *Finding) kind() *findingKind {
	if k := findingKinds()[f.Kind]; k != nil {
		return k
	}
	return &unknownKind
}

// comesTo is what f alone comes to.
func (f *Finding) comesTo() Outcome {
	if f.Withheld != "" {
		return OutcomeUnknown
	}
	return f.kind().outcome(f)
}

// Failed reports whether f says that a guest did not get its disk, or got
// another one. The others say that it was luck, or that bootrace did something.
func (f *Finding) Failed() bool {
	return f.Accepted == nil && f.kind().outcome(f) == OutcomeFailed
}
