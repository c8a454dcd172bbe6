package timeline

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/bootrace/bootrace/tracer/event"
)

// OverShare says that a user, or one guest, had used up his share of the log or of
// the kernel's buffers, so that some of what he did is not recorded. It is in nobody
// else's way: only his guests are in doubt, and none where the events were opens by
// programs that are no known guests. At is the first, Count how many in all; 0: not
// known.
const OverShare = "over-share"

// sharer is whose share it is.
type sharer struct {
	uid uint32
	pid int
}

type overShare struct{}

func (overShare) find(r *record, report func(*Finding)) {
	found := map[sharer]*Finding{}
	var order []sharer
	for i := range r.losses {
		l := &r.losses[i]
		if l.UID == 0 && l.PID == 0 {
			continue
		}
		s := sharer{l.UID, l.PID}
		f := found[s]
		if f == nil {
			f = &Finding{Kind: OverShare, At: cmp.Or(l.From, l.At), Reason: s.words()}
			found[s] = f
			order = append(order, s)
		}
		f.At = min(f.At, cmp.Or(l.From, l.At))
		f.Count = min(f.Count+int(min(l.Count, 1<<30)), 1<<30)
		if len(f.Evidence) < shareEvidence {
			f.Evidence = append(f.Evidence, l.Event)
		}
	}
	slices.SortFunc(order, func(a, b sharer) int { return cmp.Or(cmp.Compare(a.uid, b.uid), cmp.Compare(a.pid, b.pid)) })
	for _, s := range order {
		found[s].Evidence = proof(found[s].Evidence)
		report(found[s])
	}
}

func (overShare) kinds() []findingKind {
	return []findingKind{{name: OverShare, outcome: noOutcome, cause: none}}
}

// shareEvidence is how many of the losses a finding names.
const shareEvidence = 8

func (s sharer) words() string {
	switch {
	case s.pid != 0:
		return fmt.Sprintf("the guest of process %d", s.pid)
	case event.UserOf(s.uid+1) == s.uid: // a block of them
		return fmt.Sprintf("users %d to %d", s.uid, s.uid+65535)
	}
	return fmt.Sprintf("user %d", s.uid)
}
