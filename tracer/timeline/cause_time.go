package timeline

import (
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
)

// What explains that a disk was not there in time goes by how it stood with the device,
// whichever rule found it.

// CauseTooLate means that the disk became ready after the guest had looked, or only
// just before.
const CauseTooLate = "too-late"

// CauseNeverActivated means that nothing made the mapping in this boot. Settings say
// why, as far as LVM tells.
const CauseNeverActivated = "never-activated"

// CauseHalfActivated means that the mapping was made and never got ready: its table
// stayed inactive or suspended, or udev never finished.
const CauseHalfActivated = "half-activated"

// CauseDeactivated means that it had been ready, and was taken away before.
const CauseDeactivated = "deactivated"

var (
	tooLate = newCause(causeKind{
		name: CauseTooLate,
		look: func(r *record, f *Finding, c *Cause) {
			if s := f.Decisive(); s != nil {
				c.Step, c.By = s, s.By
				c.Evidence = append(c.Evidence, s.Event)
			}
			r.ask(f, c)
		},
		cures: func(c *Cause) []string {
			return union(union(c.holdRemedies(), c.lateRemedies()), c.settingRemedies())
		},
	})
	neverActivated = newCause(causeKind{
		name:  CauseNeverActivated,
		look:  (*record).ask,
		cures: (*Cause).neverRemedies,
	})
	halfActivated = newCause(causeKind{
		name: CauseHalfActivated,
		cures: func(c *Cause) []string {
			if c.otherDevice() {
				return union(c.makerRemedies(), []string{CureUdev})
			}
			return []string{CureRefresh, CureUdev}
		},
	})
	deactivated = newCause(causeKind{
		name:  CauseDeactivated,
		look:  func(r *record, f *Finding, c *Cause) { c.By = r.remover(f, c) },
		cures: just(CureFindRemover),
	})
)

// howItStood explains a finding by how it stood with the device when it was wanted.
func howItStood(r *record, f *Finding) *causeKind {
	switch {
	case f.State == stateRemoved && f.Ready == nil:
		return deactivated
	case f.Ready != nil:
		return tooLate
	case f.DeviceKind == KindMount && f.State == stateLive:
		return noSuchFile
	case (f.State == stateAbsent || f.State == "") && !r.madeLater(f):
		return neverActivated
	}
	return halfActivated
}

// madeLater reports whether the mapping was made after all since the open, and
// only never became ready.
func (r *record) madeLater(f *Finding) bool {
	m := r.mappings[f.Mapping]
	return m != nil && slices.ContainsFunc(m.Lives, func(l *Life) bool { return l.Created != nil && l.Created.At >= f.At })
}

// remover is the process that took the mapping away.
func (r *record) remover(f *Finding, c *Cause) *event.Proc {
	m := r.mappings[f.Mapping]
	if m == nil {
		return nil
	}
	var by *event.Proc
	for _, l := range m.Lives {
		for i := range l.Steps {
			s := &l.Steps[i]
			if s.Kind == StepRemoved && s.From <= f.At && s.By != nil {
				by = s.By
				c.Evidence = append(c.Evidence, s.Event)
			}
		}
	}
	return by
}

// lateRemedies go by what the guest came too early for.
func (c *Cause) lateRemedies() []string {
	switch {
	case c.Earlier != nil && c.Earlier.Removed:
		return []string{CureFindRemover}
	case c.Step == nil:
		return nil
	}
	switch c.Step.Kind {
	case StepDisk, StepUsable, StepPV, StepGroupDisk, StepGroupUsable, StepGroupPV:
		return []string{CureWaitForDevice}
	case StepLayer:
		if strings.HasSuffix(c.Step.Detail, "-tpool") {
			return []string{CureThinCheck}
		}
		return []string{CureWaitForDevice}
	case StepUevent: // of a device that is there empty at first, when it was filled
		if c.otherDevice() {
			return c.makerRemedies()
		}
		return []string{CureUdev}
	case StepUdev, StepLink, StepReady:
		if c.DeviceKind == KindMount { // what was late is the file
			return []string{CurePath}
		}
		return []string{CureUdev}
	case StepCreated, StepWritten, StepGroupWritten:
		if c.otherDevice() { // nobody activates it
			return []string{CureWaitForDevice}
		}
		return []string{CureOrder}
	}
	return nil
}
