package words

import (
	"testing"

	"github.com/bootrace/bootrace/tracer/timeline"
	"github.com/bootrace/bootrace/tracer/timeline/timelinetest"
)

// Findings and causes of several guests that differ in a field are told apart, or the
// field is listed here. What is in neither would be told of one as if it were so of all.
func TestFieldsKeepApart(t *testing.T) {
	timelinetest.CheckIgnored(t, "findingReason", func(f *timeline.Finding) any { return findingReason(f) },
		"GuestID", "Mapping", "MappingName", "Device", "NowPath", "Evidence", // each guest has its own
		"At", "Margin", // the group tells from what to what
		"Held", "Deadline", "Count", "Looks", "Size", "Exit", "Waits", "Inside", // told of one, which is named
		"Last",  // a few guests with one are told one by one
		"Errno", // Error is its name
		"For",   // where a sentence depends on it (would-hold), State differs, too
	)
	timelinetest.CheckIgnored(t, "causeReason", func(c *timeline.Cause) any {
		return causeReason(&startCause{verdict: &timeline.Verdict{}, cause: c})
	},
		"Disks", "Mapping", "Device", "NowPath", "Evidence", // each guest has its own
		"Size", "Inside", "Holder", // told of one, which is named
		"Findings",   // Kind says the same, but for not-executed, which is looked for
		"Filesystem", // Cures differ, too
	)
}
