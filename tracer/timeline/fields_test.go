package timeline

import (
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/timeline/timelinetest"
)

// Causes of one start that differ in a field are not joined, or the field is listed here.
// What is in neither would be told of the first disk as if it were so of all.
func TestFieldsKeepCausesApart(t *testing.T) {
	timelinetest.CheckIgnored(t, "Cause.like", func(c *Cause) any { return new(Cause).like(c) },
		"Disks", "Findings", "Evidence", // add joins them
		"Size", "Last", "Shorter", // add takes what is known of any
		"Outcome", "Hold", "Held", "Filesystem", "Cures", // they follow from the others, or are those of the start
		"Mapping", "DeviceKind", "Device", "By", "Looker", "Holder", "NoAnswer", // those of the first disk are told
	)
}

// A cause has all that its finding has, or the field is listed here.
func TestFieldsAreHandedOn(t *testing.T) {
	timelinetest.CheckIgnored(t, "explain", func(f *Finding) any { return new(record).explain(f) },
		"Guest", "GuestID", "At", "Exit", // the verdict has them, or the guest
		"Mapping", "Errno", // MappingName and Error are their names
		"Margin", "Ready", "State", "Late", // what a cause tells of them is taken by its look: Step, By
		"Race", "BackingOf", "Reason", "Looks", "Count", "Waits", // the finding alone tells them
		"Held", "Outcome", "Deadline", "For", "InVain", // Hold has what a hold came to
	)
}

// What the tests of histories compare has each field of a finding and of a cause, or the
// field is listed here. Of what is in neither no history notices that it is wrong.
func TestFieldsAreDescribed(t *testing.T) {
	timelinetest.CheckIgnored(t, "describeFinding", func(f *Finding) any {
		var b strings.Builder
		describeFinding(&b, f)
		return b.String()
	},
		"GuestID", "Mapping", "Errno", // Guest, MappingName and Error stand for them
		"At", "Ready", "Exit", // the part "guests" has them
		"Size",                           // beside Last it is there
		"Race", "DeviceKind", "Deadline", // the sentences of package words depend on them, and its tests look at those
	)
	timelinetest.CheckIgnored(t, "describeVerdict", func(c *Cause) any {
		var b strings.Builder
		describeVerdict(&b, &Verdict{Causes: []*Cause{c}})
		return b.String()
	},
		// The finding is described with them, and explain hands them on.
		"Mapping", "DeviceKind", "Device", "Size", "Last", "NowPath", "Beneath", "Earlier", "Inside", "Error",
		"Outcome", // the verdict's is the worst of them
	)
}
