package hold

import (
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/readiness"
)

// Look is a look into the disks of a guest.
type Look interface {
	Done() <-chan struct{}
	// Doubts tells what is not whole inside them, once the look is done. Unknown says
	// why that is not known of a disk, empty where it is known of all.
	Doubts() (doubts []Doubt, unknown string)
}

// Start is whose disks are looked into.
type Start struct {
	Guest   *guest.Guest
	Members []readiness.Member // where its paths lead
	PID     int
	UID     uint32
	Dir     string
	// Again is set where what was seen before is not enough.
	Again bool
}

const (
	// lookPatience is how long a start waits for a look into its disks where the policy
	// depends on it; where it does not, nobody waits.
	lookPatience = 5 * time.Second
	// settle is how long news of a device are left to become true.
	settle = 100 * time.Millisecond
)

// inside decides about a guest whose disks are all ready, and those that they should
// be, by what is inside them. It returns false while the guest is to be held all the
// same.
func (h *Holder) inside(d *hold, v *readiness.Verdict) bool {
	policy := d.policy.Filesystem
	d.mu.Lock()
	was := d.cutOff()
	d.mu.Unlock()
	if h.opts.Inspect == nil {
		h.finish(d, true, event.ReleaseReady)
		return true
	}
	s := Start{Guest: &d.guest, Members: v.Members, PID: d.task.PID, UID: d.task.UID, Dir: d.task.Cwd, Again: was}
	if policy == config.FilesystemWarn { // it goes on at once; the record has what the look beside it finds
		h.finish(d, true, event.ReleaseReady)
		h.opts.Inspect(s)
		return true
	}
	doubts, unknown := h.look(d, s)
	switch {
	case unknown != "" && was:
		return false // it was short, and nothing says that it no longer is
	case len(doubts) == 0:
		if unknown != "" {
			h.journal.to(d.uid, event.Now()).Warn("a guest starts, and what is inside its disks is not known", "guest", name(&d.guest), "why", shorten(unknown))
		}
		if was {
			d.mu.Lock()
			d.doubts = nil
			d.mu.Unlock()
		}
		h.finish(d, true, event.ReleaseReady)
		return true
	}
	d.mu.Lock()
	d.blockers, d.doubts = nil, doubts
	d.mu.Unlock()
	texts := textsOf(doubts)
	switch policy {
	case config.FilesystemDeny:
		h.becomes(d, event.HoldFilesystem)
		h.finish(d, false, event.HoldFilesystem)
		h.journal.to(d.uid, event.Now()).Error("a start is denied: what is inside its disks is not whole", "guest", name(&d.guest), "disks", texts)
		return true
	default:
		d.allow.Store(false)
		if h.becomes(d, event.HoldFilesystem) {
			h.journal.to(d.uid, event.Now()).Error("a start is held: what is inside its disks is not whole; give the device back what is missing, or `bootrace release` starts it all the same",
				"guest", name(&d.guest), "disks", texts, "denied_in", d.deadline.Sub(event.Now()).Round(time.Second))
		}
		return false
	}
}

func textsOf(doubts []Doubt) []string {
	var texts []string
	for i := range doubts {
		texts = append(texts, shorten(doubts[i].Text))
	}
	return sample(texts, 0)
}

// cutOff reports whether a start is held for what is inside its disks; d.mu is held.
func (d *hold) cutOff() bool { return d.recorded && d.reason == event.HoldFilesystem }

// look has the disks looked into, and waits for that, but not for long.
func (h *Holder) look(d *hold, s Start) (doubts []Doubt, unknown string) {
	look := h.opts.Inspect(s)
	if look == nil {
		return nil, "they are not looked into"
	}
	limit := time.NewTimer(lookPatience)
	defer limit.Stop()
	select {
	case <-look.Done():
		return look.Doubts()
	case <-limit.C:
		return nil, "the look into them was not done within " + lookPatience.String()
	case <-d.done:
		return nil, "its hold is over"
	}
}

// bell tells all who wait that something about devices has changed.
type bell struct {
	mu   sync.Mutex
	ring chan struct{}
}

// wait returns what is closed at the next change.
func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ring == nil {
		b.ring = make(chan struct{})
	}
	return b.ring
}

func (b *bell) strike() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ring != nil {
		close(b.ring)
		b.ring = nil
	}
}

// Changed says that a device was changed: starts that are held for what their disks
// are, or for what is inside them, are looked at again. It does not wait.
func (h *Holder) Changed() { h.bell.strike() }
