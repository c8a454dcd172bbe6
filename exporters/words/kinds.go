package words

import (
	"strings"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Class orders findings, worst first.
type Class uint8

// The classes.
const (
	Failure Class = iota // the guest came first, or got the wrong thing
	Warning              // it worked, by luck
	Unsure               // the record does not support a verdict
	Note                 // bootrace did its work
	NumClasses
)

var classStyles = [NumClasses]Style{Failure: Bad, Warning: Warn, Unsure: Warn, Note: Dim}

// Style is that of what is said about the findings of c.
func (c Class) Style() Style { return classStyles[c] }

// kind is how one kind of finding is told.
//
// In text, {name} is a part of the finding (see says), {what} the device as what
// it is ("the volume"), {state} how it was at the open, and [...] is left out where a part
// in it is not known. A {?part} prints nothing: it decides whether its [...] is told.
type kind struct {
	class     Class
	one, many string // for the count of those that are no races
	text      string
}

const (
	opened = "guest {guest} opened {disk}[, a backing file of {backing},] at {at}"
	// lastRan is what the guest last ran on; by is the margin; which of them is known depends on its sign.
	lastRan = "[; in boot {lastboot} it ran on {last}][ by {lastpath}][, {lastsize}]"
	by      = "[: {early} too early][: {spare} to spare][: between {worst} too early and {best} to spare]"
)

// kinds has an entry for each kind of finding. One of a later version is told by
// unknown.
var kinds = map[string]kind{
	"missing": {Failure, "missing disk", "missing disks",
		opened + ", but {what} {state}[ ({error})][, after it had been ready {earlier}][; it became ready at {ready}]" + by + "."},
	"never-ready": {Failure, "disk never ready", "disks never ready",
		opened + ", but {what} {state}[ ({error})], and it never became ready in this boot[: {reason}]."},
	"not-live": {Failure, "disk not live", "disks not live",
		opened + ": the node was there, but nothing behind it: {what} {state}[ ({error})][, after it had been ready {earlier}][; it became ready at {ready}]" + by + "."},
	"link-late": {Failure, "late link", "late links",
		opened + "[ ({error})]: {what} was there, only udev's link to it was missing[, after it had been ready {earlier}][; it was ready at {ready}]" + by + "."},
	"link-missing": {Failure, "missing link", "missing links",
		opened + "[ ({error})]: {what}[ {mapping}] was live, and the path was not there[, after it had been ready {earlier}]."},
	"backing-missing": {Failure, "missing backing file", "missing backing files",
		opened + ", but {what} {state}[ ({error})][, after it had been ready {earlier}][; it became ready at {ready}]" + by + "[, and it never became ready in this boot{?never}]."},
	"removed": {Failure, "removed disk", "removed disks",
		opened + "[ ({error})], after {what}[ {mapping}] had been ready and was removed again[: it was there {earlier}]."},
	"renamed": {Failure, "renamed disk", "renamed disks",
		opened + "[ ({error})]; what it meant is there under another name[: {mapping}][, as {nowpath}]" + lastRan + "."},
	"pulled": {Failure, "pulled disk", "pulled disks",
		"{disk}[, a backing file of {backing},] of guest {guest} was lost at {at}, while the guest ran[: {beneath} beneath it went]. Its reads and writes fail from then on[, {reason}]."},
	"near-miss": {Warning, "near miss", "near misses",
		opened + "[, only {spare} after {what} became ready][, {early} before udev was done with {what}, which was live]" +
			"[, between {worst} before and {best} after {what} became ready].[ It became ready at {ready}.][ It had been ready before: {earlier}.] It worked by luck."},
	"substituted": {Failure, "substituted disk", "substituted disks",
		opened + "; it led to another device than this guest should run on[: {mapping}][: {nomapping}][, {size}]" + lastRan + "[: {reason}]."},
	"shrunk": {Failure, "shrunk disk", "shrunk disks",
		opened + "; the device[ {mapping}] is smaller than what this guest last ran on: [{size}][ instead of {lastsize}]" + lastRan + "."},
	"vanished": {Failure, "vanished disk", "vanished disks",
		opened + ", and ran on[ {mapping}][ {nomapping}]; {lastwhat}[ {last}] that it last ran on[ by {lastpath}][, of {lastsize},] did not exist" +
			"[; it had been there {earlier}][; it came at {came}]."},
	"truncated": {Failure, "truncated disk", "truncated disks",
		"inside {disk} of guest {guest}, {layer} needs {needs} and has {has}: short by {short}[, since boot {since}][; in boot {whole} it had all][ on {wholeon}]." +
			"[ The guest's partitions fit all the same{?unneeded}.]"},
	"part-missing": {Failure, "disk with a missing part", "disks with a missing part",
		"inside {disk} of guest {guest}, {layer}: {seen}[, and {more}]."},
	"damaged": {Failure, "damaged disk", "damaged disks",
		"inside {disk} of guest {guest}, {layer} is damaged at its byte {atbyte}: {seen}[, and {more}].[ That is a copy, which is not needed as long as the first one is sound{?unneeded}.]"},
	"fs-errors": {Failure, "file system with errors", "file systems with errors",
		"inside {disk} of guest {guest}, {layer} says of itself that it has errors: {seen}."},
	"hibernated": {Warning, "hibernated guest", "hibernated guests",
		"inside {disk} of guest {guest}, {layer}: {seen}."},
	"rolled-back": {Warning, "disk that was rolled back", "disks that were rolled back",
		"inside {disk} of guest {guest}, {layer} is older than this guest had it in boot {whole}: its log is at {position}, and was at {position0}. A snapshot was restored, or this is another copy."},
	"not-a-device": {Failure, "disk that is no device", "disks that are no devices",
		opened + ", which is a regular file and no device: what the guest writes goes into /dev, not to its disk."},
	"never-started": {Warning, "guest that never started", "guests that never started",
		"{looker} looked for {disk} at {at}[ ({error})][, {looks} times], but {what} {state}[, after it had been ready {earlier}][; it became ready at {ready}]" + by + ". No guest ran on it in this boot."},
	"open-error": {Failure, "failed open", "failed opens",
		opened + " and failed[: {error}]."},
	"held": {Note, "held start", "held starts",
		"the start of guest {guest} was held[ for {held}][, waiting for {disk}]; {outcome}."},
	"not-executed": {Failure, "start that libvirt gave up", "starts that libvirt gave up",
		"libvirt was about to start guest {guest} at {at}[, {count} times in all], and qemu was never executed for it in this boot; {disk} was not ready[ before {ready}]" + by + "[; it had been ready {earlier}]."},
	"not-held": {Warning, "time in which starts were not held", "times in which starts were not held",
		"[{count} ]starts of guests went on at {at} without being looked at[: {reason}]."},
	"over-share": {Unsure, "user whose events are not all recorded", "users whose events are not all recorded",
		"[{count} ]events of {reason} are not recorded, from {at} on: more than the share of one. Of others nothing is missing for that."},
	"would-hold": {Note, "start to hold", "starts to hold",
		"enforce mode would have held the start of guest {guest}[ for {held}], waiting for {disk}[, which never became ready in this boot{?never}][, {wouldend}]."},
}

// wouldHoldInside is of a disk that is cut off inside.
var wouldHoldInside = kind{Note, kinds["would-hold"].one, kinds["would-hold"].many,
	"enforce mode would have denied the start of guest {guest}[, after {held}]: what is inside {disk} is not whole, as enforce.filesystem has it."}

// noFile is of a file that was not on its file system: nothing makes it ready.
var noFile = kind{Failure, kinds["never-ready"].one, kinds["never-ready"].many,
	opened + ", but {what} {state}[ ({error})], and nobody put it there later in this boot."}

// suspended is of a mapping whose table is there: what is read and written waits.
var suspended = kind{Failure, kinds["not-live"].one, kinds["not-live"].many,
	opened + ": {what} {state}[, after it had been ready {earlier}], so that all it read and wrote had to wait[; it became ready at {ready}]" + by + "."}

// inVain is what becomes of a held start whose disks were not ready in the end.
var inVain = kind{Warning, "start held in vain", "starts held in vain",
	kinds["held"].text + "[ {disk} was ready only at {ready}.][ {disk} was never ready in this boot{?never}.][ It had been ready before: {earlier}.]"}

// refused is a held start that never came to be.
var refused = kind{Failure, "held start that failed", "held starts that failed", inVain.text}

var unknown = kind{Warning, "other finding", "other findings",
	opened + ": {kind}[ ({error})][; {what} became ready at {ready}]" + by + "."}

func kindOf(f *timeline.Finding) kind {
	if f.Kind == timeline.Held && f.InVain {
		if f.Failed() {
			return refused
		}
		return inVain
	}
	if f.Kind == timeline.WouldHold && f.For == event.HoldFilesystem {
		return wouldHoldInside
	}
	switch {
	case f.Kind == timeline.NeverReady && f.DeviceKind == timeline.KindMount && f.State == "live":
		return noFile
	case f.Kind == timeline.NotLive && f.State == "suspended" && f.Errno == 0:
		return suspended
	}
	if k, ok := kinds[f.Kind]; ok {
		return k
	}
	return unknown
}

// ClassOf returns the class of f: what the record does not prove is never a
// failure.
func ClassOf(f *timeline.Finding) Class {
	switch {
	case f.Withheld != "":
		return Unsure
	case f.Accepted != nil:
		return Note
	case f.Kind == timeline.Pulled && !f.Failed(), f.Inside != nil && f.Inside.Spare:
		return Warning
	case f.Race:
		return Failure
	}
	return kindOf(f).class
}

// textOf is the template that tells f.
func textOf(f *timeline.Finding) string {
	return strings.NewReplacer("{state}", stateOf(f), "{what}", what(f)).Replace(kindOf(f).text)
}

// delays says of each part of the time until a mapping was ready what took so
// long; {took} is how long, {detail} the device, action or path.
var delays = map[string]string{
	timeline.StepDisk:         "the device beneath it[, {detail},] appeared only {at} after the boot began",
	timeline.StepPV:           "udev took {took} to finish with[ {detail},] the device beneath it[: up to {queued} of that its queue held it behind {behind}]",
	timeline.StepUsable:       "the device beneath it[, {detail},] was usable only {at} after the boot began",
	timeline.StepWritten:      "the device beneath it[, {detail},] became a physical volume only {at} after the boot began: it was blank before",
	timeline.StepLayer:        "it took {took} until[ {detail},] the layer beneath it, was live[, made so by {by}]",
	timeline.StepGroupDisk:    "LVM's command ran right after another physical volume[, {detail},] had appeared, {at} after the boot began",
	timeline.StepGroupUsable:  "LVM's command ran right after another physical volume[, {detail},] had become usable, {at} after the boot began",
	timeline.StepGroupWritten: "LVM's command ran right after another physical volume[, {detail},] had been made, {at} after the boot began",
	timeline.StepGroupPV:      "LVM's command ran right after udev had finished with another physical volume[, {detail}], which took {took}[: up to {queued} of that its queue held it behind {behind}]",
	timeline.StepCreated:      "[{by} created it {took} after {before}][it was created {took} after {before}{?nobody}]",
	timeline.StepLoaded:       "it took {took} until its table was loaded[ by {by}]",
	timeline.StepLive:         "it took {took} until its table was live[, made so by {by}]",
	timeline.StepResumed:      "it was suspended for {took}",
	timeline.StepUevent:       "it took {took} until the kernel announced it",
	timeline.StepUdev:         "udev took {took} to finish with it[: up to {queued} of that its queue held it behind {behind}]",
	timeline.StepLink:         "it took {took} until udev's link[ {detail}] was made",
	timeline.StepMounted:      "it took {took} until it was mounted[ from {detail}]",
	timeline.StepReady:        "it took {took} until it was ready",
}

const unknownDelay = "{step} took {took}"

// stepNames are the short names of these parts.
var stepNames = map[string]string{
	timeline.StepDisk:         "appeared",
	timeline.StepPV:           "handled by udev",
	timeline.StepUsable:       "usable",
	timeline.StepWritten:      "made a physical volume",
	timeline.StepLayer:        "live",
	timeline.StepGroupDisk:    "appeared",
	timeline.StepGroupUsable:  "usable",
	timeline.StepGroupWritten: "made a physical volume",
	timeline.StepGroupPV:      "handled by udev",
	timeline.StepMounted:      "mounted",
	timeline.StepCreated:      "created",
	timeline.StepLoaded:       "table loaded",
	timeline.StepLive:         "live",
	timeline.StepUevent:       "announced",
	timeline.StepUdev:         "udev",
	timeline.StepLink:         "link",
}

// OutcomeClass returns the class of an outcome.
func OutcomeClass(o timeline.Outcome) Class {
	switch o {
	case timeline.OutcomeFailed:
		return Failure
	case timeline.OutcomeAtRisk:
		return Warning
	case timeline.OutcomeFine:
		return Note
	}
	return Unsure
}
