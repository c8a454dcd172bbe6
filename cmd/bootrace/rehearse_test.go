package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/twin/rehearse"
)

// Each guest has a row and each plan a column, wherever a plan lists it; a guest that a
// plan doesn't have is not known there, and a name can't break the table.
func TestShowRehearsal(t *testing.T) {
	margin := -1500 * time.Millisecond
	r := &rehearse.Result{
		Host: "kvm7", Kernel: "6.1.0", Pace: 0.5, Summary: []string{"web loses."}, Differences: []string{"network: there is none"},
		Plans: []rehearse.PlanResult{
			{Plan: rehearse.AsRecorded, Guests: []rehearse.Cell{
				{Guest: "db\n", Identity: "uuid:db", Prediction: rehearse.InTime},
				{Guest: "web", Identity: "uuid:web", Prediction: rehearse.Race, Margin: &margin, Disk: "/dev/vg/web"},
			}},
			{Plan: rehearse.AsRecorded, Enforce: true, Guests: []rehearse.Cell{{Guest: "web", Identity: "uuid:web", Prediction: rehearse.Held, Held: 2 * time.Second}}},
			{Plan: "late:vdb=1m", Failed: "the kernel panicked", Guests: []rehearse.Cell{{Guest: "web", Identity: "uuid:web", Prediction: rehearse.NotKnown, Why: "the kernel panicked"}}},
		},
	}
	var out bytes.Buffer
	showRehearsal(&out, r)
	for _, want := range []string{
		"1  as-recorded\n", "2  as-recorded, enforce mode\n", "3  late:vdb=1m\n  it could not be rehearsed: the kernel panicked\n",
		"✗ loses /dev/vg/web: 1.5 s too early", "held for 2.0 s, and runs",
		"web     race -1.5 s  held 2.0 s  not known\n", "in time      not known   not known\n",
		"took 0.5 times as long", "network: there is none",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}
