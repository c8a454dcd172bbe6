package timeline

import (
	"cmp"
	"slices"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

// Verdict is what the evidence says about one start of a guest: how it went,
// why, and what would cure it.
type Verdict struct {
	// Guest is its name, as in a Finding; GuestID is Guest.ID, empty where the
	// start was denied or killed before the guest's program ran. Both are empty
	// where somebody looked for a disk and no guest ever ran.
	Guest   string `json:"guest,omitempty"`
	GuestID string `json:"guest_id,omitempty"`
	// Identity is the guest's, as "uuid:...", the same for all of its starts;
	// empty if it has none.
	Identity string     `json:"identity,omitempty"`
	At       event.Time `json:"at_ns"` // of the start, or of the first look
	Outcome  Outcome    `json:"outcome"`
	// Unknown says why the record is not enough to call it fine, a reason each.
	// There can be some beside a failure, which is certain all the same.
	Unknown []string `json:"unknown,omitempty"`
	// Causes are ordered by time. There is more than one where disks of one
	// guest suffered different things, and none where it went well.
	Causes []*Cause `json:"causes"`
	// Evidence are the events that tell of the start, the opens and the exit.
	Evidence []uint64 `json:"evidence"`
}

// Cause is one explanation.
type Cause struct {
	Kind string `json:"kind"` // a Cause kind
	// Outcome is what this cause alone comes to.
	Outcome Outcome `json:"outcome"`
	// Withheld is the reason why the record does not support it: then it is a
	// possibility and no more.
	Withheld string `json:"withheld,omitempty"`
	// Disks are the paths that it is about.
	Disks []string `json:"disks"`
	// Mapping is the name of the first disk's mapping, empty if there is none, and
	// DeviceKind the kind of device, as in a Finding.
	Mapping    string        `json:"mapping,omitempty"`
	DeviceKind blockdev.Kind `json:"device_kind,omitempty"`
	// Settings of LVM that kept the volume from being activated by itself; nil
	// if none is known. Asked is set where LVM was asked for them.
	Settings []string `json:"settings,omitempty"`
	Asked    bool     `json:"asked,omitempty"`
	// LVM has the names that these settings are about.
	LVM *LVMDetail `json:"lvm,omitempty"`
	// Step is the step of Finding.Late that the guest came too early for.
	Step *AccountStep `json:"step,omitempty"`
	// NoAnswer is why LVM gave none when it was asked.
	NoAnswer string `json:"no_answer,omitempty"`
	// By is the process that activated the volume late, or removed it; Looker
	// the one that looked for it where no guest did.
	By     *event.Proc `json:"by,omitempty"`
	Looker *event.Proc `json:"looker,omitempty"`
	// Holder is the guest that had the disk at that time.
	Holder string `json:"holder,omitempty"`
	// Size is the device's now, in bytes, Last what the guest last ran on, and
	// Shorter is set where that was larger: of another-device, shorter-device.
	Size    int64 `json:"size,omitempty"`
	Last    *Last `json:"last,omitempty"`
	Shorter bool  `json:"shorter,omitempty"`
	// Device is what the disk led to, for people, where that is no mapping.
	Device string `json:"device,omitempty"`
	// NowPath leads to what was renamed, Beneath is what was pulled.
	NowPath string `json:"now_path,omitempty"`
	Beneath string `json:"beneath,omitempty"`
	// Earlier is when the first disk had been ready before, as in a Finding.
	Earlier *Earlier `json:"earlier,omitempty"`
	// Inside is what is wrong inside the first disk; of another-device and
	// shorter-device it is the proof that what is missing is needed.
	Inside *Trouble `json:"inside,omitempty"`
	// Filesystem is what enforce.filesystem made of such a start, empty in trace mode and
	// where it is not known.
	Filesystem string `json:"filesystem,omitempty"`
	// Error is the name of the open's errno.
	Error string `json:"error,omitempty"`
	// Held is how long the start was kept back before that, in vain; 0 if it was
	// not.
	Held event.Duration `json:"held_ns,omitempty"`
	// Unopened is set where the guest did not get so far as to open the disks.
	Unopened bool `json:"unopened,omitempty"`
	// Hold is what a hold of the start did, or would do, nil where that is not
	// known or no question.
	Hold *HoldAdvice `json:"hold,omitempty"`
	// Findings are the kinds of the findings that say so.
	Findings []string `json:"findings"`
	Evidence []uint64 `json:"evidence"`
	// Cures are what would help, the best first.
	Cures []string `json:"cures"`
}

// Decisive returns the step of f.Late that took most of the time between the
// look and ready, nil if nothing is known. It need not be the longest: the first
// step counts from the boot, and what was over when the guest came made nobody
// wait. Where the guest did not wait at all, it is the longest.
func (f *Finding) Decisive() *AccountStep {
	if f.Late == nil || len(f.Late.Steps) == 0 {
		return nil
	}
	var found *AccountStep
	most := event.Duration(0)
	for i := range f.Late.Steps {
		s := &f.Late.Steps[i]
		if d := s.To.Sub(max(s.From, f.At)); d > most {
			most, found = d, s
		}
	}
	if found == nil {
		found = &f.Late.Steps[min(max(f.Late.Longest, 0), len(f.Late.Steps)-1)]
	}
	return found
}

// judge gives a verdict for each start of each guest, and for each volume that
// no guest ever ran on, by time.
func (r *record) judge(t *Timeline) []*Verdict {
	j := judges{r: r, of: map[string]*Verdict{}, out: []*Verdict{}}
	for _, g := range r.guests {
		j.start(g)
	}
	findings := slices.Clone(t.Findings)
	slices.SortStableFunc(findings, func(a, b *Finding) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.kind().order, b.kind().order))
	})
	starts := map[string]*guestLife{}
	for _, g := range r.guests {
		starts[g.out.ID] = g
	}
	for _, f := range findings {
		if c := r.explain(f); c != nil {
			c.Held = heldInVain(f, starts[f.GuestID])
			j.verdict(f).add(c)
		}
	}
	for _, u := range r.unstarted {
		j.unresolved(u)
	}
	r.unopened(j.of)
	for _, g := range r.guests {
		j.finish(g)
	}
	for _, v := range j.out {
		v.close()
	}
	slices.SortStableFunc(j.out, func(a, b *Verdict) int { return cmp.Compare(a.At, b.At) })
	return j.out
}

// judges makes the verdicts of one boot; of finds them by what they are about.
type judges struct {
	r   *record
	of  map[string]*Verdict
	out []*Verdict
}

func (j *judges) put(key string, v *Verdict) *Verdict {
	v.Causes = []*Cause{}
	j.of[key] = v
	j.out = append(j.out, v)
	return v
}

// start begins the verdict of a start that was seen.
func (j *judges) start(g *guestLife) {
	v := j.put(g.out.ID, &Verdict{
		Guest: g.called(), GuestID: g.out.ID, Identity: g.fact.guest.Identity.String(), At: g.out.Exec.At,
		Evidence: []uint64{g.out.Exec.Event},
	})
	for i := range g.firsts {
		v.Evidence = append(v.Evidence, g.firsts[i].use.Event)
	}
	if g.out.Exit != nil {
		v.Evidence = append(v.Evidence, g.out.Exit.Event)
	}
	v.Evidence = proof(v.Evidence)
}

// verdict returns the verdict that a finding belongs to. One without a guest's
// exec is about a start that came to nothing, or about a volume.
func (j *judges) verdict(f *Finding) *Verdict {
	key := cmp.Or(f.GuestID, f.Disk)
	if v := j.of[key]; v != nil {
		return v
	}
	return j.put(key, &Verdict{Guest: f.Guest, GuestID: f.GuestID, Identity: j.r.identityOf(f.GuestID), At: f.At, Evidence: f.Evidence})
}

// unresolved adds a start that no finding is about, and of which the record does not
// say what became of it.
func (j *judges) unresolved(u *unstarted) {
	if j.of[u.out.ID] != nil {
		return
	}
	v := j.put(u.out.ID, &Verdict{Guest: u.called(), GuestID: u.out.ID, Identity: j.r.identityOf(u.out.ID), At: u.out.Exec.At, Unknown: []string{j.r.open(u)}})
	v.Evidence = slices.Clone(u.evidence)
	for i := range u.out.Holds {
		v.Evidence = append(v.Evidence, u.out.Holds[i].Event)
		if h := u.out.Holds[i].Released; h != nil {
			v.Evidence = append(v.Evidence, h.Event)
		}
	}
	v.Evidence = proof(v.Evidence)
}

// open says what the record leaves open about a start that came to nothing.
func (r *record) open(u *unstarted) string {
	n := len(u.out.Holds)
	switch {
	case n > 0 && u.out.Holds[n-1].Released == nil:
		return "its start was held, and how that ended is not recorded"
	case n > 0:
		return "its start was held and let go, and the record does not tell of it since"
	case u.call != nil && r.last.Sub(u.call.at) < executing:
		return "libvirt was about to start it, and the record ends before its program must have been executed"
	case len(u.out.Disks) == 0:
		return "libvirt was about to start it, and its program was never executed in this boot; the record has no disk of it"
	}
	return "libvirt was about to start it, and its program was never executed in this boot; as far as the record tells, none of its disks was late"
}

// identityOf returns the identity of a guest whose start came to nothing.
func (r *record) identityOf(id string) string {
	for _, u := range r.unstarted {
		if u.out.ID == id {
			return guest.Identity{Kind: u.out.IdentityFrom, Value: u.out.Identity}.String()
		}
	}
	return ""
}

// finish adds what no finding says: why a start that went well may not have
// done so, and why one that ended with an error did.
func (j *judges) finish(g *guestLife) {
	v := j.of[g.out.ID]
	v.Unknown = j.r.doubts(g, v)
	explained := slices.ContainsFunc(v.Causes, func(c *Cause) bool {
		// No program of the host ends because of what is inside.
		return !c.inside() && (c.Outcome == OutcomeFailed || c.Outcome == OutcomeUnknown)
	})
	if e := g.out.Exit; !explained && !g.out.Backfilled && e != nil && failedExit(&e.ExitInfo) {
		v.add(j.r.unexplained(g, v))
	}
}

// close says what the causes come to.
func (v *Verdict) close() {
	v.prune()
	v.Outcome = OutcomeFine
	for _, c := range v.Causes {
		c.Cures = append(c.Cures, c.remedies()...)
		v.Outcome = v.Outcome.Worse(c.Outcome)
		if c.Withheld != "" {
			v.Unknown = union(v.Unknown, []string{c.Withheld})
		}
	}
	if len(v.Unknown) > 0 {
		v.Outcome = v.Outcome.Worse(OutcomeUnknown)
	}
}

// key tells guests from each other over several starts.
func (v *Verdict) key() string {
	return cmp.Or(v.Identity, v.Guest, v.disk())
}

func (v *Verdict) disk() string {
	if len(v.Causes) == 0 || len(v.Causes[0].Disks) == 0 {
		return ""
	}
	return v.Causes[0].Disks[0]
}

// explain makes a cause of one finding, nil if it is none.
func (r *record) explain(f *Finding) *Cause {
	if f.Accepted != nil {
		return nil
	}
	kind := f.kind().cause(r, f)
	if kind == nil {
		return nil
	}
	c := &Cause{
		Kind: kind.name, Outcome: f.comesTo(), Withheld: f.Withheld, Disks: []string{f.Disk}, Mapping: f.MappingName, DeviceKind: cmp.Or(f.DeviceKind, r.deviceKind(f)),
		Error: f.Error, Looker: f.By, Size: f.Size, Last: f.Last, Device: f.Device, NowPath: f.NowPath, Beneath: f.Beneath, Earlier: f.Earlier,
		Inside: f.Inside, Findings: []string{f.Kind}, Evidence: slices.Clone(f.Evidence), Cures: []string{},
	}
	if f.Inside == nil { // what is inside does not get better by waiting
		c.Hold = r.holdAdvice(f)
	}
	if kind.look != nil {
		kind.look(r, f, c)
	}
	c.Evidence = proof(c.Evidence)
	return c
}

// add joins c with a cause of the same kind and reasons.
func (v *Verdict) add(c *Cause) {
	for _, old := range v.Causes {
		if !old.like(c) {
			continue
		}
		old.Size, old.Last = cmp.Or(old.Size, c.Size), cmp.Or(old.Last, c.Last)
		old.Shorter = old.Shorter || c.Shorter
		if old.Inside == nil {
			old.Inside = c.Inside
		}
		old.Disks = union(old.Disks, c.Disks)
		old.Findings = union(old.Findings, c.Findings)
		old.Evidence = proof(append(old.Evidence, c.Evidence...))
		return
	}
	v.Causes = append(v.Causes, c)
}

// prune drops what is only possible where the same is certain already.
func (v *Verdict) prune() {
	v.Causes = slices.DeleteFunc(v.Causes, func(c *Cause) bool {
		return c.Withheld != "" && slices.ContainsFunc(v.Causes, func(o *Cause) bool {
			return o != c && o != nil && o.Withheld == "" && o.Kind == c.Kind && slices.Contains(o.Disks, c.Disks[0])
		})
	})
}

// like: a device that is both another and a shorter one is one cause, told as
// another; all else has to be equal.
func (c *Cause) like(o *Cause) bool {
	proved := o.Kind == CauseTruncated && (c.Kind == CauseAnotherDevice || c.Kind == CauseShorterDevice)
	if proved || c.Kind == CauseAnotherDevice && (o.Kind == CauseAnotherDevice || o.Kind == CauseShorterDevice) {
		return c.Withheld == o.Withheld && slices.Contains(c.Disks, o.Disks[0])
	}
	step := func(c *Cause) string {
		if c.Step == nil {
			return ""
		}
		return c.Step.Kind
	}
	return c.Kind == o.Kind && (c.Inside == nil) == (o.Inside == nil) && (c.Inside == nil || slices.Equal(c.Disks, o.Disks)) && c.Withheld == o.Withheld && c.Unopened == o.Unopened && c.Error == o.Error && c.NowPath == o.NowPath &&
		c.Beneath == o.Beneath && (c.Earlier != nil) == (o.Earlier != nil) && step(c) == step(o) && c.Asked == o.Asked && slices.Equal(c.Settings, o.Settings) && c.LVM.equal(o.LVM)
}

func union(list, more []string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
