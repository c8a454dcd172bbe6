package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/blockdev"
	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/memory"
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

// Cause kinds: the explanations, and which findings speak for each.
const (
	// CauseTooLate: the disk became ready after the guest had looked, or only
	// just before.
	CauseTooLate = "too-late"
	// CauseNeverActivated: nothing made the mapping in this boot. Settings say
	// why, as far as LVM tells.
	CauseNeverActivated = "never-activated"
	// CauseHalfActivated: the mapping was made and never got ready: its table
	// stayed inactive or suspended, or udev never finished.
	CauseHalfActivated = "half-activated"
	// CauseLinkMissing: the mapping was live, and the path to it was not there.
	CauseLinkMissing = "link-missing"
	// CauseDeactivated: it had been ready, and was taken away before.
	CauseDeactivated = "deactivated"
	// CauseAnotherDevice: the path led to something else than in earlier boots.
	CauseAnotherDevice = "another-device"
	// CauseShorterDevice: the device was smaller than in earlier boots.
	CauseShorterDevice = "shorter-device"
	// CauseNoDevice: a regular file stood in the device's place.
	CauseNoDevice = "no-device"
	// CauseRenamed: what the path meant is there under another name.
	CauseRenamed = "renamed"
	// CausePulled: the disk, or what is beneath it, went while the guest ran.
	CausePulled = "pulled"
	// CauseTruncated: something inside needs more bytes than there are.
	CauseTruncated = "truncated"
	// CausePartMissing: a part of a file system's headers is not there.
	CausePartMissing = "part-missing"
	// CauseDamaged: a header inside failed a check.
	CauseDamaged = "damaged"
	// CauseRolledBack: a file system is older than this guest last had it.
	CauseRolledBack = "rolled-back"
	// CauseFSErrors: a file system says that it has errors.
	CauseFSErrors = "fs-errors"
	// CauseHibernated: the guest's memory is on the disk.
	CauseHibernated = "hibernated"
	// CauseInUse: somebody else had it.
	CauseInUse = "in-use"
	// CausePermission: the guest was not allowed to open the device, and
	// CauseFilePermission, the file.
	CausePermission     = "permission"
	CauseFilePermission = "file-permission"
	// CauseOpenError: the open failed for another reason.
	CauseOpenError = "open-error"
	// CauseNeither: the guest ended with an error, and its disks are not the
	// cause: all of them were opened with success and ready before, and the
	// record covers the time. Look inside the guest, and at what it printed.
	CauseNeither = "neither"
	// CauseUnexplained: the guest ended with an error, and the record is not
	// enough to say whether its disks are the cause.
	CauseUnexplained = "unexplained"
	// CauseDeniedInside: its start was denied for what is inside its disks.
	CauseDeniedInside = "denied-inside"
	// CauseDenied: its start was held, and denied in the end.
	CauseDenied = "denied"
	// CauseKilled: it was killed while its start was held.
	CauseKilled = "killed-while-held"
)

// Cures. The README beside this file sorts them by what they are about.
const (
	CureHold            = "hold"             // keep the guest's start back until the disk is ready
	CureHoldProgram     = "hold-program"     // no pattern of enforce.binaries names the guest's program
	CureWait            = "wait"             // bootrace wait before the start: a hold can't last so long here
	CureOrder           = "order"            // start the guest after the unit that activates its disk
	CureAutoActivation  = "autoactivation"   // lvchange --setautoactivation y
	CureSkip            = "clear-skip"       // lvchange --setactivationskip n
	CureAutoList        = "auto-list"        // add it to auto_activation_volume_list
	CureVolumeList      = "volume-list"      // add it to volume_list
	CureEventActivation = "event-activation" // event_activation=1, or vgchange -aay at boot
	CureMissingPV       = "missing-pv"       // bring the physical volume back
	CureWaitForDevice   = "wait-for-device"  // the disk beneath is slow: order after it
	CureThinCheck       = "thin-check"       // the pool is checked at each activation
	CureUdev            = "udev"             // udev's queue is long, or a rule slow
	CureRepair          = "repair"           // lvconvert --repair, replace the leg
	CureImport          = "import"           // vgimport
	CureLockStart       = "lockstart"        // lvmlockd before activation
	CureRecreate        = "recreate"         // a mapping of dmsetup needs a unit that makes it at boot
	CureFindVolume      = "find-volume"      // the volume was renamed or removed
	CureFindRemover     = "find-remover"     // find what takes it away
	CureLinks           = "links"            // udevadm trigger, vgmknodes: make the links again
	CureRefresh         = "refresh"          // lvchange --refresh, dmsetup resume
	CureExtend          = "extend"           // give the volume its size back
	CureGrow            = "grow"             // the same of a device that LVM does not know
	CureFindDisk        = "find-disk"        // find the disk that the guest ran on
	CureMount           = "mount"            // mount the file system of the guest's image
	CureNoFallback      = "no-fallback"      // the launcher must not take another path instead
	CureRemoveFile      = "remove-file"      // remove the file that stands in the node's place
	CureRename          = "rename"           // change the guest's configuration, or rename it back
	CureBringBack       = "bring-back"       // attach the disk again, then stop and start the guest
	CureAccept          = "accept"           // bootrace accept: the new disk is right
	CureRelease         = "release"          // stop the other user
	CurePermission      = "rights"           // owner, group, mode: a udev rule
	CureFileRights      = "file-rights"      // owner and mode of the file and its folders; AppArmor, SELinux
	CureAttach          = "attach"           // find out why the device did not appear
	CureFill            = "fill"             // losetup, nbd-client: the device is there and empty
	CureAssemble        = "assemble"         // mdadm: the array was not assembled
	CureZvol            = "zvol"             // ZFS: the pool was not imported, or its volumes not linked
	CureDRBD            = "drbd"             // drbdadm up
	CureRBD             = "rbd"              // rbdmap.service
	CurePath            = "path"             // what makes the file or the link: the launcher, a mount
	CureMultipath       = "multipath"        // multipathd did not make the map
	CureLookInside      = "look-inside"      // the guest's own console and log
	CureAskAgain        = "ask-again"        // LVM has not been asked yet
	CureLongerHold      = "longer-hold"      // the hold ended before the disk came: a later deadline
	CureLauncher        = "launcher-timeout" // what starts the guest gave up while it was held
	CureActivate        = "activate"         // see what lvchange -ay says
	CureFindGroup       = "find-group"       // are its disks there, and does LVM see them
	CureFilter          = "filter"           // devices/filter, global_filter
	CureDevicesFile     = "devices-file"     // lvmdevices --adddev
	CureFilterLinks     = "filter-by-link"   // a filter by names that are there at boot
	CureUdevRule        = "udev-rule"        // what keeps udev from calling the disk LVM's
	CureSystemID        = "system-id"        // it is another host's
	CureCluster         = "cluster"          // clvmd, or make it a shared group
	CureRenameGroup     = "rename-group"     // vgrename by UUID
	CureDuplicate       = "duplicate"        // multipath, a filter, vgimportclone
	CureMetadata        = "metadata"         // what LVM says of the disk
	CureHealth          = "health"           // look before anything is repaired
	CurePoolMessage     = "pool-message"     // what lvchange -ay of the pool says
	CurePoolPart        = "pool-part"        // deactivate the part, then activate
	CureHoldInside      = "hold-filesystem"  // enforce.filesystem keeps such a start back
	CureGiveBack        = "give-back"        // give the device back what is missing; repair nothing before
	CureFindPart        = "find-part"        // find out what the disk was made of
	CureGuestRepair     = "guest-repair"     // a copy first, then the guest's own tools
	CureGuestCheck      = "guest-check"      // have the guest check the file system
	CureWhichCopy       = "which-copy"       // find out which copy of the disk is the right one
	CureLeaveAlone      = "leave-alone"      // change nothing on a hibernated guest's disks
)

// Failed reports whether f says that a guest did not get its disk, or got
// another one. The others say that it was luck, or that bootrace did something.
func (f *Finding) Failed() bool {
	if f.Accepted != nil {
		return false
	}
	switch f.Kind {
	case NearMiss, WouldHold, NotHeld, OverShare, Hibernated, RolledBack:
		return false
	case Truncated, Damaged, FSErrors:
		return f.Inside == nil || !f.Inside.Spare
	case Pulled:
		return f.Reason == "" // else the guest may have given it up
	case Held:
		return f.Outcome == event.HoldDenied || f.Outcome == event.HoldGone
	}
	return true
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

// causeOrder puts what explains most first where findings are of one instant.
func causeOrder(f *Finding) int {
	switch f.Kind {
	case Vanished:
		return -2
	case Substituted:
		return -1
	case Truncated, PartMissing, Damaged:
		return 1
	case FSErrors, RolledBack, Hibernated:
		return 2
	}
	return 0
}

// insideCauses are the causes of what was seen inside.
var insideCauses = []string{CauseTruncated, CausePartMissing, CauseDamaged, CauseRolledBack, CauseFSErrors, CauseHibernated}

// judge gives a verdict for each start of each guest, and for each volume that
// no guest ever ran on, by time.
func (r *record) judge(t *Timeline) []*Verdict {
	j := judges{r: r, of: map[string]*Verdict{}, out: []*Verdict{}}
	for _, g := range r.guests {
		j.start(g)
	}
	findings := slices.Clone(t.Findings)
	slices.SortStableFunc(findings, func(a, b *Finding) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(causeOrder(a), causeOrder(b)))
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

// unresolved adds a start that was held, and of which the record does not say what
// became of it.
func (j *judges) unresolved(u *unstarted) {
	n := len(u.out.Holds)
	if n == 0 || j.of[u.out.ID] != nil {
		return
	}
	why := "its start was held, and how that ended is not recorded"
	if u.out.Holds[n-1].Released != nil {
		why = "its start was held and let go, and the record does not tell of it since"
	}
	v := j.put(u.out.ID, &Verdict{Guest: u.called(), GuestID: u.out.ID, Identity: j.r.identityOf(u.out.ID), At: u.out.Exec.At, Unknown: []string{why}})
	for i := range u.out.Holds {
		v.Evidence = append(v.Evidence, u.out.Holds[i].Event)
		if h := u.out.Holds[i].Released; h != nil {
			v.Evidence = append(v.Evidence, h.Event)
		}
	}
	v.Evidence = proof(v.Evidence)
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
		return !slices.Contains(insideCauses, c.Kind) && (c.Outcome == OutcomeFailed || c.Outcome == OutcomeUnknown)
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
	c := &Cause{
		Kind: causeOf(f), Withheld: f.Withheld, Disks: []string{f.Disk}, Mapping: f.MappingName, DeviceKind: cmp.Or(f.DeviceKind, r.deviceKind(f)),
		Error: f.Error, Looker: f.By, Size: f.Size, Last: f.Last, Shorter: f.Kind == Shrunk, Device: f.Device, NowPath: f.NowPath, Beneath: f.Beneath, Earlier: f.Earlier,
		Inside: f.Inside, Findings: []string{f.Kind}, Evidence: slices.Clone(f.Evidence), Cures: []string{},
	}
	if c.Kind == CauseNeverActivated && r.madeLater(f) {
		c.Kind = CauseHalfActivated
	}
	switch c.Kind {
	case "":
		return nil
	case CauseTooLate:
		if s := f.Decisive(); s != nil {
			c.Step, c.By = s, s.By
			c.Evidence = append(c.Evidence, s.Event)
		}
		r.ask(f, c)
	case CauseNeverActivated:
		r.ask(f, c)
	case CauseDenied, CauseKilled:
		if f.Ready == nil { // to wait longer would not have helped
			r.ask(f, c)
			c.Cures = c.neverRemedies()
		}
	case CauseDeactivated:
		c.By = r.remover(f, c)
	case CauseRenamed:
		c.By = r.renamer(f)
	}
	if c.Kind == CauseTruncated || c.Kind == CausePartMissing {
		c.Filesystem = r.filesystemPolicy(f)
	}
	if f.Inside == nil { // what is inside does not get better by waiting
		c.Hold = r.holdAdvice(f)
	}
	c.Evidence = proof(c.Evidence)
	c.Outcome = outcomeOf(f)
	return c
}

// filesystemPolicy is what enforce.filesystem was for the guest of a finding; empty in
// trace mode.
func (r *record) filesystemPolicy(f *Finding) string {
	g, _ := r.start(f.GuestID)
	if g == nil {
		return ""
	}
	if slices.ContainsFunc(g.Holds, func(h Hold) bool { return h.For == event.HoldFilesystem }) {
		return event.FilesystemHolds
	}
	policy := r.policies.at(g.Exec.At)
	if policy == nil || policy.Mode != event.ModeEnforce {
		return ""
	}
	how := rulingOf(policy, g)
	return how.Filesystem
}

// holdInside is the cure that keeps such a start back, where nothing does.
func (c *Cause) holdInside() []string {
	switch c.Filesystem {
	case event.FilesystemHolds, event.FilesystemDenies:
		return nil
	}
	return []string{CureHoldInside}
}

// madeLater reports whether the mapping was made after all since the open, and
// only never became ready.
func (r *record) madeLater(f *Finding) bool {
	m := r.mappings[f.Mapping]
	return m != nil && slices.ContainsFunc(m.Lives, func(l *Life) bool { return l.Created != nil && l.Created.At >= f.At })
}

// heldInVain is how long the start was held that a finding is about, where that
// did not help: it came to nothing, or was let go before its disks were ready.
func heldInVain(f *Finding, g *guestLife) event.Duration {
	switch {
	case f.Kind == Held:
		return f.Held
	case g == nil || len(g.out.Holds) == 0 || g.waited():
		return 0
	}
	h := &g.out.Holds[len(g.out.Holds)-1]
	if h.Released == nil {
		return 0
	}
	return h.Released.At.Sub(h.At)
}

// outcomeOf is what one finding comes to.
func outcomeOf(f *Finding) Outcome {
	switch {
	case f.Withheld != "":
		return OutcomeUnknown
	case f.Kind == NearMiss, f.Kind == Pulled && !f.Failed(), f.Inside != nil && !f.Failed():
		return OutcomeAtRisk
	}
	return OutcomeFailed
}

func causeOf(f *Finding) string {
	if f.Accepted != nil {
		return ""
	}
	switch f.Kind {
	case WouldHold, NotHeld, OverShare:
		return ""
	case Held:
		if f.Outcome == event.HoldDenied && f.Reason == string(event.HoldIdentity) {
			return CauseAnotherDevice
		}
		if f.Outcome == event.HoldDenied && f.For == event.HoldFilesystem {
			return CauseDeniedInside
		}
		return causeOfHold(f.Outcome)
	case Substituted, Vanished:
		return CauseAnotherDevice
	case Shrunk:
		return CauseShorterDevice
	case Renamed:
		return CauseRenamed
	case Pulled:
		return CausePulled
	case Truncated, PartMissing, Damaged, RolledBack, FSErrors, Hibernated:
		return f.Kind
	case NotADevice:
		return CauseNoDevice
	case LinkMissing:
		return CauseLinkMissing
	case OpenError:
		return causeOfError(f)
	}
	switch {
	case f.Kind == Removed, f.State == stateRemoved && f.Ready == nil:
		return CauseDeactivated
	case f.Ready != nil:
		return CauseTooLate
	case f.State == stateAbsent || f.State == "":
		return CauseNeverActivated
	}
	return CauseHalfActivated
}

// causeOfHold: a hold is a cause by itself only where the guest's program never
// ran. What became of one that was let go in the end, its opens tell.
func causeOfHold(outcome event.HoldOutcome) string {
	switch outcome {
	case event.HoldDenied:
		return CauseDenied
	case event.HoldGone:
		return CauseKilled
	}
	return ""
}

func causeOfError(f *Finding) string {
	switch unix.Errno(f.Errno) {
	case unix.EACCES, unix.EPERM:
		if !inDev(f.Disk) && f.Mapping == "" {
			return CauseFilePermission
		}
		return CausePermission
	case unix.EBUSY, unix.EAGAIN, unix.ETXTBSY:
		return CauseInUse
	}
	return CauseOpenError
}

// renamer is the process that renamed the mapping in this boot.
func (r *record) renamer(f *Finding) *event.Proc {
	var by *event.Proc
	if m := r.mappings[f.Mapping]; m != nil {
		for _, l := range m.Lives {
			for i := range l.Steps {
				if s := &l.Steps[i]; s.Kind == StepRenamed && s.Detail == f.MappingName {
					by = s.By
				}
			}
		}
	}
	return by
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

// unexplained is the cause of a guest that ended with an error, and of whose
// disks there is no finding.
func (r *record) unexplained(g *guestLife, v *Verdict) *Cause {
	c := &Cause{Kind: CauseNeither, Outcome: OutcomeFailed, Disks: []string{}, Findings: []string{}, Evidence: slices.Clone(v.Evidence), Cures: []string{}}
	for i := range g.firsts {
		c.Disks = union(c.Disks, []string{g.firsts[i].disk.Path})
	}
	whys := v.Unknown
	if len(whys) == 0 {
		whys = append(v.pulled(), g.inVain()...)
	}
	holder := r.holder(g)
	if holder != nil && len(whys) == 0 && !g.refused() {
		whys = []string{"guest " + holder.called() + " had one of its disks at the same time"}
	}
	switch {
	case len(whys) > 0:
		c.Kind, c.Outcome, c.Withheld = CauseUnexplained, OutcomeUnknown, strings.Join(whys, "; ")
		v.Unknown = nil // the cause says it
	case holder != nil:
		c.Kind, c.Holder = CauseInUse, holder.called()
		c.Evidence = proof(append(c.Evidence, holder.out.Exec.Event))
	}
	return c
}

// pulled says which disks went while the guest ran, a reason each.
func (v *Verdict) pulled() []string {
	var whys []string
	for _, c := range v.Causes {
		if c.Kind == CausePulled {
			whys = append(whys, strings.Join(c.Disks, " and ")+" went while it ran")
		}
	}
	return whys
}

// inVain says what a guest that ended with an error looked for and never got, or
// that it had no disk at all, a reason each.
func (g *guestLife) inVain() []string {
	var whys []string
	for i := range g.firsts {
		if d := g.firsts[i].disk; !d.opened() {
			whys = append(whys, fmt.Sprintf("its open of %s failed (%s)", d.Path, d.Uses[0].Error))
		}
	}
	for _, f := range g.strays {
		whys = append(whys, fmt.Sprintf("its open of %s failed (%s), and whether that is a disk is not known", g.names.get(f.path), errorName(f.errno)))
	}
	if len(g.firsts) == 0 && len(whys) == 0 {
		whys = []string{"the record has no disk of it"}
	}
	return whys
}

// lockTime is how long a program may live that ends because it did not get a lock:
// qemu asks for its locks while it opens its disks.
const lockTime = 10 * time.Second

// refused reports whether g can have ended because a disk was locked: soon after
// it had opened its disks, and by itself. A guest that waits for a migration locks
// nothing until that is over.
func (g *guestLife) refused() bool {
	e, last := g.out.Exit, g.out.Exec.At
	for i := range g.firsts {
		last = max(last, g.firsts[i].use.At)
	}
	return e != nil && e.Signal == 0 && e.At.Sub(last) <= lockTime && g.fact.guest.Incoming == ""
}

// failedExit: the signals that stop a guest in order are no failure; qemu ends
// with status 0 then, but a wrapper may not.
func failedExit(e *event.ExitInfo) bool {
	switch unix.Signal(e.Signal) {
	case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGKILL:
		return false
	}
	return e.Status != 0 || e.Signal != 0
}

// holder is a guest that ran on one of g's disks all the time that g lived, and
// that does not share it. qemu locks what it opens (file.locking), so g could not
// have it. The lock itself is not seen.
func (r *record) holder(g *guestLife) *guestLife {
	for i := range g.firsts {
		u := &g.firsts[i]
		if u.life == nil || u.use.Errno != 0 {
			continue
		}
		for _, other := range r.guests {
			if other != g && other.keeps(u.life.mapping.ID, u.disk, g.out) {
				return other
			}
		}
	}
	return nil
}

// keeps reports whether g had the mapping as a disk while other lived, in a way
// that kept other from having it as d.
func (g *guestLife) keeps(mapping string, d *Disk, other *Guest) bool {
	if g.out.Exec.At > other.Exec.At || g.out.Exit != nil && g.out.Exit.At < other.Exit.At {
		return false
	}
	return slices.ContainsFunc(g.out.Disks, func(own Disk) bool {
		return own.Mapping == mapping && !sharing(&own, d) && slices.ContainsFunc(own.Uses, func(u Use) bool { return u.Errno == 0 })
	})
}

// sharing reports whether two guests can have one disk at the same time: both
// only read, both let others write, or one of them takes no lock at all.
//
// What no command line names is a backing file, which is only read.
func sharing(a, b *Disk) bool {
	reads := func(d *Disk) bool { return d.ReadOnly || d.BackingOf != "" || !d.Announced }
	return reads(a) && reads(b) || a.ShareRW && b.ShareRW || a.Unlocked || b.Unlocked
}

func (c *Cause) remedies() []string {
	switch c.Kind {
	case CauseTooLate:
		return union(union(c.holdRemedies(), c.lateRemedies()), c.settingRemedies())
	case CauseNeverActivated:
		return c.neverRemedies()
	case CauseHalfActivated:
		if c.otherDevice() {
			return union(c.makerRemedies(), []string{CureUdev})
		}
		return []string{CureRefresh, CureUdev}
	case CauseLinkMissing:
		return []string{CureLinks}
	case CauseDeactivated:
		return []string{CureFindRemover}
	case CauseAnotherDevice, CauseShorterDevice:
		return c.otherRemedies()
	case CauseTruncated:
		return append([]string{CureGiveBack}, c.holdInside()...)
	case CausePartMissing:
		return append([]string{CureFindPart}, c.holdInside()...)
	case CauseDeniedInside:
		return []string{CureGiveBack}
	case CauseDamaged:
		return []string{CureGuestRepair}
	case CauseFSErrors:
		return []string{CureGuestCheck}
	case CauseHibernated:
		return []string{CureLeaveAlone}
	case CauseRolledBack:
		return []string{CureWhichCopy}
	case CauseRenamed:
		return []string{CureRename}
	case CausePulled:
		return []string{CureBringBack}
	case CauseNoDevice:
		return append([]string{CureRemoveFile}, c.holdRemedies()...)
	case CauseInUse:
		return []string{CureRelease}
	case CausePermission:
		return []string{CurePermission}
	case CauseFilePermission:
		return []string{CureFileRights}
	case CauseDenied, CauseKilled:
		if len(c.Cures) > 0 {
			return nil
		}
		if c.Kind == CauseDenied {
			return []string{CureLongerHold}
		}
		return []string{CureLauncher}
	}
	return []string{CureLookInside}
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
		return []string{CureUdev}
	case StepCreated, StepWritten, StepGroupWritten:
		return []string{CureOrder}
	}
	return nil
}

// otherRemedies go by what the guest last ran on: LVM brings its volumes back,
// nobody brings back what was made with dmsetup. The last is for who knows that
// the new disk is right.
func (c *Cause) otherRemedies() []string {
	var out []string
	_, lvm := devmap.ParseLVMUUID(lastUUID(c.Last))
	device := c.Last != nil && c.Last.Kind != ""
	switch {
	case device && c.Kind == CauseShorterDevice:
		out = []string{CureGrow}
	case device && c.Last.Kind == memory.KindFile:
		out = []string{CureMount, CureNoFallback}
	case device:
		out = []string{CureFindDisk, CureNoFallback}
	case !lvm:
		out = []string{CureRecreate, CureNoFallback}
	case c.Kind == CauseShorterDevice:
		out = []string{CureExtend}
	case c.Last.Came != nil:
		out = append(c.holdRemedies(), CureNoFallback)
	default:
		out = []string{CureNoFallback}
	}
	return append(out, CureAccept)
}

func lastUUID(l *Last) string {
	if l == nil {
		return ""
	}
	return l.UUID
}

// makers are what makes the devices of a kind.
var makers = map[blockdev.Kind]string{
	blockdev.Array: CureAssemble, blockdev.Zvol: CureZvol, blockdev.DRBD: CureDRBD, blockdev.RBD: CureRBD,
	memory.KindFile: CurePath, KindMount: CureMount,
}

// otherDevice reports whether the disk is a block device that is no mapping.
func (c *Cause) otherDevice() bool {
	switch c.DeviceKind {
	case "", blockdev.Mapping, memory.KindFile, KindMount:
		return false
	}
	return true
}

// makerRemedies are what makes a device usable that was announced and empty.
func (c *Cause) makerRemedies() []string {
	if cure := c.maker(); cure != CureAttach {
		return []string{cure}
	}
	return []string{CureFill}
}

// maker says what to do about a path that nothing made, empty if that is a
// question for LVM.
func (c *Cause) maker() string {
	path := c.Disks[0]
	if cure := makers[c.DeviceKind]; cure != "" {
		return cure
	}
	_, _, lvm := devmap.Volume(path)
	switch {
	case c.DeviceKind != blockdev.Mapping:
		return CureAttach
	case strings.HasPrefix(path, "/dev/mapper/mpath"): // multipathd's, with user_friendly_names
		return CureMultipath
	case lvm && !strings.HasPrefix(path, "/dev/disk/by-id/dm-"):
		return ""
	}
	return CureRecreate
}
