package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// unstarted is a guest of which no exec tells: its start was denied, or it was
// killed while it was held, or libvirt gave up before it executed qemu. What is
// known is a hold, a call of libvirt's hook, or both, by one process.
type unstarted struct {
	pids []int // of the process that was held, or of the hooks
	out  *Guest
	call *domainFact // of the hook, nil: none; the first of several
	// calls counts those, none of which led to an exec, and evidence has them.
	calls    int
	evidence []uint64
}

// hold attaches a hold to the guest whose process it kept back: the next exec
// of that process, or the one it has just made. One of libvirt's hook is that of
// the domain that it was called for.
func (p *processes) hold(f *holdFact) {
	if g := p.heldBy(f); g != nil {
		g.out.Holds = f.change(g.out.Holds)
		return
	}
	last := p.unstartedOf(f)
	if last == nil {
		if f.release {
			return // of a hold that is not recorded
		}
		last = p.addUnstarted(f.pid, f.stamp)
		last.identify(&f.info)
		last.out.PPID = f.parent
	}
	last.out.Holds = f.change(last.out.Holds)
}

// unstartedOf returns the start that a hold, or its release, is about. The number
// of a process is used again, so that a hold goes by the guest, too.
func (p *processes) unstartedOf(f *holdFact) *unstarted {
	for _, u := range slices.Backward(p.unstarted) {
		n := len(u.out.Holds)
		open := n > 0 && u.out.Holds[n-1].Released == nil
		if slices.Contains(u.pids, f.pid) && (open || u.is(f.info.Identity, f.info.Guest)) {
			return u
		}
	}
	return nil
}

// is reports whether that is the guest's identity, or else its name.
func (u *unstarted) is(identity, name string) bool {
	if _, value, _ := strings.Cut(identity, ":"); value != "" {
		return u.out.Identity == value
	}
	return u.called() == name
}

func (p *processes) addUnstarted(pid int, s stamp) *unstarted {
	u := &unstarted{pids: []int{pid}, out: &Guest{
		ID: fmt.Sprintf("%d@%d", pid, s.at), PID: pid, Exec: s.instant(), Unstarted: true, Disks: []Disk{},
	}}
	p.unstarted = append(p.unstarted, u)
	return u
}

// identify takes the guest's identity from a hold. The name that it gives is the
// identity where there is no name.
func (u *unstarted) identify(h *event.HoldInfo) {
	kind, value, _ := strings.Cut(h.Identity, ":")
	u.out.Identity, u.out.IdentityFrom = value, kind
	if kind == identityUUID {
		u.out.UUID = value
	}
	if kind == identityName || h.Guest != value {
		u.out.Name = h.Guest
	}
}

// What package guest calls the identities that a domain can have.
const (
	identityUUID = "uuid"
	identityName = "name"
)

// called is the guest's name, else its identity, else its id: for people.
func (u *unstarted) called() string { return cmp.Or(u.out.Name, u.out.Identity, u.out.ID) }

func (p *processes) heldBy(f *holdFact) *guestLife {
	if f.info.Hook {
		return p.startedAs(f.info.Identity, f.info.Guest, f.at)
	}
	if g := p.of(f.pid, f.stamp); g != nil {
		return g
	}
	for _, t := range p.tenures[f.pid] {
		if t.start.at >= f.from {
			return t.guest
		}
	}
	return nil
}

// domain attaches a call of libvirt's hook to the guest that it led to, or notes
// that it led to none. Calls for one domain without an exec between them are one
// start, tried again.
func (p *processes) domain(f *domainFact) {
	identity := guest.Identity{Kind: identityUUID, Value: f.info.UUID}
	if f.info.UUID == "" {
		identity = guest.Identity{Kind: identityName, Value: f.info.Name}
	}
	if g := p.startedAs(identity.String(), f.info.Name, f.at); g != nil {
		g.out.Domain = f.pointer()
		return
	}
	for _, u := range p.unstarted {
		if u.call != nil && u.out.Identity == identity.Value {
			u.calls++
			u.pids = append(u.pids, f.pid)
			if len(u.evidence) < listedLooks {
				u.evidence = append(u.evidence, f.id)
			}
			return
		}
	}
	u := p.addUnstarted(f.pid, f.stamp)
	u.call, u.calls, u.evidence = f, 1, []uint64{f.id}
	u.out.Name, u.out.UUID, u.out.Domain = f.info.Name, f.info.UUID, f.pointer()
	u.out.Identity, u.out.IdentityFrom = identity.Value, identity.Kind
	for i := range f.info.Disks {
		d := &f.info.Disks[i]
		u.addDisk(d.Path, d.Format, "")
		for _, backing := range d.Backing {
			u.addDisk(backing, "", d.Path)
		}
	}
}

func (u *unstarted) addDisk(path, format, of string) {
	u.out.Disks = append(u.out.Disks, Disk{
		Path: path, Format: format, Storage: string(guest.StorageFile), Needs: true, Announced: true, BackingOf: of, Uses: []Use{},
	})
}

// startedAs returns the guest of that identity, or else of that name, that was
// executed first from then on.
func (p *processes) startedAs(identity, name string, from event.Time) *guestLife {
	_, value, _ := strings.Cut(identity, ":")
	var found *guestLife
	for _, g := range p.guests {
		same := value != "" && strings.EqualFold(g.out.Identity, value) || g.out.UUID == "" && name != "" && g.out.Name == name
		if same && !g.out.Backfilled && g.out.Exec.At >= from && (found == nil || g.out.Exec.At < found.out.Exec.At) {
			found = g
		}
	}
	return found
}

// change applies a fact to the holds of one start. One that waits for something
// else now is the same hold.
func (f *holdFact) change(holds []Hold) []Hold {
	n := len(holds)
	open := n > 0 && holds[n-1].Released == nil
	switch {
	case f.release && open:
		h := &holds[n-1]
		h.Released, h.Reason, h.Outcome = f.pointer(), cmp.Or(f.info.Reason, h.Reason), f.info.Outcome
	case f.release:
	case open:
		h := &holds[n-1]
		h.For, h.Reason, h.Blockers, h.More, h.Disk = f.info.Reason, f.info.Reason, f.info.Blockers, f.info.More, cmp.Or(f.info.Disk, h.Disk)
	default:
		holds = append(holds, Hold{
			Instant: f.instant(), For: f.info.Reason, Reason: f.info.Reason, Blockers: f.info.Blockers, More: f.info.More,
			Disk: f.info.Disk, Deadline: f.info.Deadline, Hook: f.info.Hook,
		})
	}
	return holds
}

// inherit gives the holds of a wrapper to the guest that its process became.
func (p *processes) inherit() {
	for _, g := range p.guests {
		if len(g.out.Holds) == 0 || !p.replaced(g) {
			continue
		}
		for i, t := range p.tenures[g.out.PID] {
			if t.guest == g {
				next := p.tenures[g.out.PID][i+1].guest.out
				next.Holds = append(g.out.Holds, next.Holds...)
			}
		}
	}
}

// InVain reports whether a hold ended without what it waited for: at its deadline,
// because bootrace ended, or with the process, or by hand while the disks were not
// ready. An operator who lets a guest run on another disk than it last ran on has
// decided that.
func (h *Hold) InVain() bool {
	switch {
	case h.Outcome == "":
		return false
	case h.Outcome != event.HoldAllowed:
		return true
	case h.Reason == event.ReleaseByHand:
		return h.For == event.HoldDisks
	}
	return h.Reason != event.ReleaseReady
}

// listUnstarted adds the guests that were never executed, and puts all in order.
func (t *Timeline) listUnstarted(list []*unstarted) {
	if len(list) == 0 {
		return
	}
	for _, u := range list {
		t.Guests = append(t.Guests, u.out)
	}
	slices.SortStableFunc(t.Guests, func(a, b *Guest) int { return a.Exec.compare(b.Exec) })
}
