package text

import (
	"strings"

	"github.com/bootrace/bootrace/tracer/timeline"
)

// class orders findings, worst first.
type class uint8

const (
	failure class = iota // the guest came first, or got the wrong thing
	warning              // it worked, by luck
	unsure               // the record does not support a verdict
	note                 // bootrace did its work
	numClasses
)

var classes = [numClasses]struct {
	sign  glyph
	style style
}{
	failure: {markFailed, bad},
	warning: {signWarn, warn},
	unsure:  {signUnsure, warn},
	note:    {signNote, dim},
}

// kind is how one kind of finding is told.
//
// In text, {name} is a part of the finding (see says), {state} what the mapping
// was at the open, and [...] is left out where a part in it is not known.
type kind struct {
	class     class
	one, many string // for the count of those that are no races
	text      string
}

const (
	opened = "guest {guest} opened {disk}[, a backing file of {backing},] at {at}"
	// by is the margin; which of them is known depends on its sign.
	by = "[: {early} too early][: {spare} to spare][: between {worst} too early and {best} to spare]"
)

// kinds has an entry for each kind of finding that has words of its own. All
// others are told by unknown.
var kinds = map[string]kind{
	"missing": {failure, "missing disk", "missing disks",
		opened + ", but the mapping {state}[ ({error})][; it became ready at {ready}]" + by + "."},
	"never-ready": {failure, "disk never ready", "disks never ready",
		opened + ", but the mapping {state}[ ({error})], and it never became ready in this boot."},
	"not-live": {failure, "disk not live", "disks not live",
		opened + ": the node was there, but nothing behind it: the mapping {state}[ ({error})][; it became ready at {ready}]" + by + "."},
	"link-late": {failure, "late link", "late links",
		opened + "[ ({error})]: the mapping was there, only udev's link to it was missing[; it was ready at {ready}]" + by + "."},
	"backing-missing": {failure, "missing backing file", "missing backing files",
		opened + ", but the mapping {state}[ ({error})][; it became ready at {ready}]" + by + "."},
	"removed": {failure, "removed disk", "removed disks",
		opened + "[ ({error})], after the mapping[ {mapping}] had been ready and was removed again."},
	"near-miss": {warning, "near miss", "near misses",
		opened + "[, only {spare} after the mapping became ready][, {early} before udev was done with the mapping, which was live]" +
			"[, between {worst} before and {best} after the mapping became ready].[ It became ready at {ready}.] It worked by luck."},
	"substituted": {failure, "substituted disk", "substituted disks",
		opened + "; it led to another mapping[, {mapping},] than in the last boot in which this guest ran."},
	"shrunk": {failure, "shrunk disk", "shrunk disks",
		opened + "; the device[ {mapping}] is smaller than what this guest last ran on."},
	"vanished": {failure, "vanished disk", "vanished disks",
		opened + "; the mapping that it last ran on does not exist in this boot, and it ran on something else."},
	"not-a-device": {failure, "disk that is no device", "disks that are no devices",
		opened + ", which is a regular file and no device: what the guest writes goes into /dev, not to its disk."},
	"open-error": {failure, "failed open", "failed opens",
		opened + " and failed[: {error}]."},
	"held": {note, "held start", "held starts",
		"the start of guest {guest} was held until {disk} was ready."},
	"would-hold": {note, "start to hold", "starts to hold",
		"enforce mode would have held the start of guest {guest} until {disk} was ready."},
}

var unknown = kind{warning, "other finding", "other findings",
	opened + ": {kind}[ ({error})][; the mapping became ready at {ready}]" + by + "."}

func kindOf(f *timeline.Finding) kind {
	if k, ok := kinds[f.Kind]; ok {
		return k
	}
	return unknown
}

func classOf(f *timeline.Finding) class {
	switch {
	case f.Withheld != "":
		return unsure
	case f.Race:
		return failure
	}
	return kindOf(f).class
}

// states says what a mapping was at the open.
var states = map[string]string{
	"absent":    "did not exist",
	"created":   "had no table yet",
	"loaded":    "had no live table yet",
	"live":      "was live and not yet ready",
	"suspended": "was suspended",
	"removed":   "was removed",
}

// textOf is the template that tells f.
func textOf(f *timeline.Finding) string {
	state, ok := states[f.State]
	if !ok {
		state = "was not ready"
	}
	return strings.ReplaceAll(kindOf(f).text, "{state}", state)
}

// delays says of each part of the time until a mapping was ready what took so
// long; {took} is how long, {detail} the device, action or path.
var delays = map[string]string{
	timeline.StepDisk:    "the device beneath it[, {detail},] appeared only {took} after the boot began",
	timeline.StepCreated: "it took {took} until it was created",
	timeline.StepLoaded:  "it took {took} until its table was loaded",
	timeline.StepLive:    "it took {took} until its table was live",
	timeline.StepResumed: "it was suspended for {took}",
	timeline.StepUevent:  "it took {took} until the kernel announced it",
	timeline.StepUdev:    "udev took {took} to finish with it",
	timeline.StepLink:    "it took {took} until udev's link[ {detail}] was made",
	timeline.StepReady:   "it took {took} until it was ready",
}

const unknownDelay = "{step} took {took}"

// stepNames are the short names of these parts.
var stepNames = map[string]string{
	timeline.StepDisk:    "device appeared",
	timeline.StepCreated: "created",
	timeline.StepLoaded:  "table loaded",
	timeline.StepLive:    "live",
	timeline.StepUevent:  "announced",
	timeline.StepUdev:    "udev",
	timeline.StepLink:    "link",
}
