package main

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/service"
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
		"healthy":                 {func(*fullStatus) {}, timeline.OutcomeFine},
		"a source ended":          {func(st *fullStatus) { st.Sources[2].State = "ended" }, timeline.OutcomeUnknown},
		"lost":                    {func(st *fullStatus) { st.Lost = map[string]uint64{"open": 1} }, timeline.OutcomeUnknown},
		"log in memory":           {func(st *fullStatus) { st.LogRefused = "a link" }, timeline.OutcomeUnknown},
		"config":                  {func(st *fullStatus) { st.ConfigErr = "line 3" }, timeline.OutcomeFailed},
		"flood of a user":         {func(st *fullStatus) { st.OverShare = []event.LossInfo{{What: "look", Count: 9, UID: 1000}} }, timeline.OutcomeFine},
		"flood of a user's guest": {func(st *fullStatus) { st.OverShare = []event.LossInfo{{What: "open", Count: 9, UID: 1000}} }, timeline.OutcomeUnknown},
		"flood of root's":         {func(st *fullStatus) { st.OverShare = []event.LossInfo{{What: "look", Count: 9}} }, timeline.OutcomeUnknown},
		"no log":                  {func(st *fullStatus) { st.LogErr = "no space" }, timeline.OutcomeUnknown},
	} {
		var st fullStatus
		st.Sources = append([]event.SourceInfo(nil), healthy...)
		c.change(&st)
		if got := st.sees(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// A service that is stopped (SIGSTOP, a hung disk) is said to give no answer, soon;
// one that is not there is said not to run.
func TestStatusOfStoppedService(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control")
	var st service.Status
	if err := askStatus(t.Context(), socket, time.Minute, &st); !errors.Is(err, control.ErrNoService) {
		t.Errorf("no service: %v", err)
	}
	stopped, err := net.Listen("unix", socket) // the kernel accepts, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer stopped.Close()
	if err := askStatus(t.Context(), socket, 50*time.Millisecond, &st); !errors.Is(err, errNoAnswer) {
		t.Errorf("a stopped service: %v", err)
	}
	if statusLimit > 2*time.Second {
		t.Errorf("a person waits %s for that", statusLimit)
	}
}

// What runs and is not what is installed is said, with what to do; of an initramfs that
// did not start the service nothing is known, and nothing is said.
func TestOutdated(t *testing.T) {
	for name, c := range map[string]struct {
		st   service.Status
		want []string
	}{
		"current":            {service.Status{Version: "v2", FromInitramfs: true}, nil},
		"not restarted":      {service.Status{Version: "v1"}, []string{"v2 is installed: `systemctl restart bootrace`"}},
		"old initramfs":      {service.Status{Version: "v2", InitramfsVersion: "v1"}, []string{"the initramfs has v1: `update-initramfs -u`"}},
		"both from there":    {service.Status{Version: "v1", FromInitramfs: true}, []string{"v2 is installed", "the initramfs has v1"}},
		"replaced, and late": {service.Status{Version: "v1", InitramfsVersion: "v0"}, []string{"v2 is installed", "the initramfs has v0"}},
	} {
		got := outdated(&c.st, "v2")
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(got[i], c.want[i]) {
				t.Errorf("%s: %q, want %q", name, got[i], c.want[i])
			}
		}
	}
}
