package otlp

import (
	"go.opentelemetry.io/otel/attribute"
)

// Lanes are the services of a boot's trace: Jaeger gives each its colour. No
// semantic convention names what they are about, so the names and the keys
// below are our own; the prefix keeps them apart in a Jaeger that others use.
const (
	laneBoot     = "bootrace-boot"
	laneMapper   = "bootrace-device-mapper"
	laneStorage  = "bootrace-storage"
	laneUdev     = "bootrace-udev"
	laneLVM      = "bootrace-lvm"
	laneGuests   = "bootrace-guests"
	laneHold     = "bootrace-hold"
	namespace    = "bootrace"
	scopeName    = "github.com/bootrace/bootrace/exporters/otlp"
	scopeVersion = "1" // of the model: names, keys, what becomes a span
)

// Keys of attributes. They are the interface that queries are written against:
// who renames or removes one, or changes what it means, raises scopeVersion.
const (
	keyBootID       = attribute.Key("bootrace.boot.id")
	keyComplete     = attribute.Key("bootrace.boot.complete")
	keyCompleteFrom = attribute.Key("bootrace.boot.complete_from_ns")
	keyIncomplete   = attribute.Key("bootrace.boot.incomplete")
	keyClockTrusted = attribute.Key("bootrace.boot.clock_trusted")
	keyClockError   = attribute.Key("bootrace.boot.clock_error_ns")
	keyRaces        = attribute.Key("bootrace.boot.races")
	keyFindings     = attribute.Key("bootrace.boot.findings")
	keyGuests       = attribute.Key("bootrace.boot.guests")
	keyMappings     = attribute.Key("bootrace.boot.mappings")

	keyRace      = attribute.Key("bootrace.race")
	keyResult    = attribute.Key("bootrace.outcome") // failed, unknown, at-risk, fine
	keyFinding   = attribute.Key("bootrace.finding")
	keyCause     = attribute.Key("bootrace.cause")
	keyWithheld  = attribute.Key("bootrace.finding.withheld")
	keyEvidence  = attribute.Key("bootrace.finding.evidence")
	keyMargin    = attribute.Key("bootrace.margin_ns")
	keyMarginErr = attribute.Key("bootrace.margin_error_ns")
	keyAtLeast   = attribute.Key("bootrace.margin_at_least")

	keyGuest        = attribute.Key("bootrace.guest.name")
	keyGuestUUID    = attribute.Key("bootrace.guest.uuid")
	keyIdentity     = attribute.Key("bootrace.guest.identity")
	keyIdentityFrom = attribute.Key("bootrace.guest.identity_from")
	keyBackfilled   = attribute.Key("bootrace.found_running")

	keyDiskID     = attribute.Key("bootrace.disk.id")
	keyDiskFormat = attribute.Key("bootrace.disk.format")
	keyDiskKind   = attribute.Key("bootrace.disk.kind")
	keyBackingOf  = attribute.Key("bootrace.disk.backing_of")
	keySize       = attribute.Key("bootrace.size_bytes")

	// What was seen inside a disk. On a guest's span and on that of a look they are of
	// all layers, their kinds and states joined by commas and short the most that one of
	// them lacks; on a look's points of one layer each.
	keyInsideKind    = attribute.Key("bootrace.inside.kind")  // gpt, lvm-pv, xfs, ...
	keyInsideState   = attribute.Key("bootrace.inside.state") // clean, dirty, errors, ...
	keyInsideShort   = attribute.Key("bootrace.inside.short_bytes")
	keyInsideNeeds   = attribute.Key("bootrace.inside.needs_bytes")
	keyInsideHas     = attribute.Key("bootrace.inside.has_bytes")
	keyInsideName    = attribute.Key("bootrace.inside.name")
	keyInsideDetail  = attribute.Key("bootrace.inside.detail")
	keyInsideUUID    = attribute.Key("bootrace.inside.uuid")
	keyInsideDamaged = attribute.Key("bootrace.inside.damaged")
	keyInsideUnknown = attribute.Key("bootrace.inside.unknown")
	keyInsideLive    = attribute.Key("bootrace.inside.in_use")

	keyMapping     = attribute.Key("bootrace.mapping.name")
	keyKind        = attribute.Key("bootrace.mapping.kind")
	keyMappingUUID = attribute.Key("bootrace.mapping.uuid")
	keyVG          = attribute.Key("bootrace.lvm.vg")
	keyLV          = attribute.Key("bootrace.lvm.lv")
	keyDev         = attribute.Key("bootrace.mapping.dev")
	keyTable       = attribute.Key("bootrace.mapping.table")
	keyState       = attribute.Key("bootrace.mapping.state")
	keyFound       = attribute.Key("bootrace.mapping.found")
	keyPrivate     = attribute.Key("bootrace.mapping.private")
	keyAction      = attribute.Key("bootrace.udev.action")
	keyPath        = attribute.Key("bootrace.path")

	keyStep     = attribute.Key("bootrace.step")
	keyDetail   = attribute.Key("bootrace.step.detail")
	keyLongest  = attribute.Key("bootrace.step.longest")
	keyWindow   = attribute.Key("bootrace.window_ns")
	keyReason   = attribute.Key("bootrace.reason")
	keyOutcome  = attribute.Key("bootrace.hold.outcome")
	keyHeld     = attribute.Key("bootrace.hold.duration_ns")
	keyBlockers = attribute.Key("bootrace.hold.blockers")
	keySignal   = attribute.Key("bootrace.exit.signal")
	keySource   = attribute.Key("bootrace.source")
	keyText     = attribute.Key("bootrace.text")
	keyCut      = attribute.Key("bootrace.cut")
	keyLeftOut  = attribute.Key("bootrace.left_out") // what there is no room for
)
