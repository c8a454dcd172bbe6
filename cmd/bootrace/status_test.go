package main

import (
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// TestStatusOutcome: the status of a service that sees everything is 0, with the
// snapshot taken and enforce mode over; one that lost something does not know.
func TestStatusOutcome(t *testing.T) {
	healthy := []event.SourceInfo{{Name: "snapshot", State: "ended"}, {Name: "hold", State: "ended"}, {Name: "udev", State: "attached"}, {Name: "ebpf", State: "upgraded"}}
	for name, c := range map[string]struct {
		change func(*fullStatus)
		want   timeline.Outcome
	}{
		"healthy":        {func(*fullStatus) {}, timeline.OutcomeFine},
		"a source ended": {func(st *fullStatus) { st.Sources[2].State = "ended" }, timeline.OutcomeUnknown},
		"lost":           {func(st *fullStatus) { st.Lost = map[string]uint64{"open": 1} }, timeline.OutcomeUnknown},
		"no log":         {func(st *fullStatus) { st.LogErr = "no space" }, timeline.OutcomeUnknown},
	} {
		var st fullStatus
		st.Sources = append([]event.SourceInfo(nil), healthy...)
		c.change(&st)
		if got := st.sees(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
