package service

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
)

const second = event.Time(time.Second)

func TestSettling(t *testing.T) {
	for name, c := range map[string]struct {
		active  []event.Time // seconds at which something starts
		trusted bool
		want    []event.Time // seconds at which it settles
	}{
		"quiet":               {[]event.Time{5}, true, []event.Time{15}},
		"still busy":          {[]event.Time{5, 12, 20}, true, []event.Time{30}},
		"no clock":            {[]event.Time{5}, false, []event.Time{100}},
		"never quiet":         {every(3), true, []event.Time{100, 200, 300}},
		"a guest comes later": {[]event.Time{5, 50}, true, []event.Time{15, 60}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &settling{}
			var got []event.Time
			for now := event.Time(0); now < 310; now++ {
				for _, at := range c.active {
					if at == now {
						s.observe(&event.Event{At: at * second, Kind: event.Exec})
					}
				}
				if s.settled(now*second, 10*time.Second, c.trusted) {
					got = append(got, now)
				}
			}
			if len(got) != len(c.want) {
				t.Fatalf("it settles at %d, want %d", got, c.want)
			}
			for i := range got {
				if d := got[i] - c.want[i]; d < 0 || d > 5 {
					t.Errorf("it settles at %d, want %d", got, c.want)
				}
			}
		})
	}
}

func every(n event.Time) (at []event.Time) {
	for now := event.Time(0); now < 310; now += n {
		at = append(at, now)
	}
	return at
}

// What goes on all the time keeps no boot from settling.
func TestIsActivity(t *testing.T) {
	for _, c := range []struct {
		e    event.Event
		want bool
	}{
		{event.Event{Kind: event.Exec}, true},
		{event.Event{Kind: event.DMResume}, true},
		{event.Event{Kind: event.Open, Open: &event.OpenInfo{Errno: 2}}, true},
		{event.Event{Kind: event.Open, Open: &event.OpenInfo{}}, false},
		{event.Event{Kind: event.Udev}, false},
		{event.Event{Kind: event.Mark}, false},
	} {
		if got := isActivity(&c.e); got != c.want {
			t.Errorf("%s: %v", c.e.Kind, got)
		}
	}
}

// That the boot has settled is in its log, with the boot before.
func TestSettle(t *testing.T) {
	const before = "0d2b306f-ab2c-4bb8-904f-64eca438565f"
	s := testService(t, nil)
	header := fmt.Sprintf(`{"bootrace_log":1,"boot_id":%q,"started_ns":1}`+"\n", before)
	if err := os.WriteFile(filepath.Join(s.opts.StateDir, before+".jsonl"), []byte(header), 0o600); err != nil {
		t.Fatal(err)
	}
	s.settling.since = event.Now() - mostActive*event.Time(s.config().Export.Settle) - 1
	s.settle()
	s.settle() // nothing has started since
	st := s.statusOf(t)
	if st.Settled == 0 {
		t.Error("the status does not say so")
	}
	if _, err := s.do(t, control.Sync); err != nil {
		t.Fatal(err)
	}
	l, err := bootlog.Open(st.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var marks []string
	for e, err := range l.Events() {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == event.Mark {
			marks = append(marks, strings.TrimSpace(e.Mark.Name+" "+e.Mark.Text))
		}
	}
	if got := strings.Join(marks, ", "); got != "previous-boot "+before+", settled" {
		t.Errorf("the log has the marks %s", got)
	}
}
