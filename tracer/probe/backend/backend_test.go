package backend

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
)

func TestCheckGuests(t *testing.T) {
	if err := (Options{}).WithDefaults().CheckGuests(); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]string{{""}, {"/usr/bin/kvm"}, {"kvm\x00"}, make([]string, bpf.MaxGuestNames+1)} {
		if err := (Options{Guests: bad}).CheckGuests(); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	if n := len(guest.Programs()); n > bpf.MaxGuestNames {
		t.Errorf("the programs have no room for the %d names of the default", n)
	}
}

// report is what an event says of a loss.
type report struct {
	What  string
	UID   uint32
	Count uint64
	From  event.Time
}

func reports(events []event.Event) (list []report) {
	for _, e := range events {
		list = append(list, report{e.Loss.What, e.Loss.UID, e.Loss.Count, e.From})
	}
	return list
}

// What is lost is told as it is counted, of the time since it was last looked at.
func TestLosses(t *testing.T) {
	l := Losses{Source: "x", Why: "a buffer was full", Polled: 100}
	open, dm := Loss{What: "open"}, Loss{What: "dm"}
	for _, step := range []struct {
		now    event.Time
		counts map[Loss]uint64
		want   []report
	}{
		{200, nil, nil},
		{300, map[Loss]uint64{open: 5}, []report{{"open", 0, 5, 200}}},
		{400, map[Loss]uint64{open: 5}, nil},
		{500, map[Loss]uint64{open: 7, dm: 1}, []report{{"dm", 0, 1, 400}, {"open", 0, 2, 400}}},
		{600, map[Loss]uint64{open: 8, dm: 1}, []report{{"open", 0, 1, 500}}},
	} {
		events := l.Poll(step.now, step.counts, false)
		if diff := cmp.Diff(step.want, reports(events)); diff != "" {
			t.Errorf("at %d (-want +got):\n%s", step.now, diff)
		}
		for _, e := range events {
			if e.Src != "x" || e.Loss.Source != "x" || e.Loss.Why != "a buffer was full" {
				t.Errorf("%+v %+v", e, e.Loss)
			}
		}
	}
	// Who knows better since when says so.
	l.Since = func(what string, polled event.Time) event.Time {
		if what != "open" || polled != 600 {
			t.Errorf("asked for %s since %d", what, polled)
		}
		return 42
	}
	if got := reports(l.Poll(700, map[Loss]uint64{open: 9, dm: 1}, false)); !slices.Equal(got, []report{{"open", 0, 1, 42}}) {
		t.Errorf("got %+v", got)
	}
}

// A user who loses all the time is told of with growing pauses, of all that time each,
// and at the end at once. Others are told of meanwhile.
func TestLossesOfOneUser(t *testing.T) {
	const second = event.Time(time.Second)
	l := Losses{Source: "x", Interval: time.Second}
	user, other := Loss{"look", 4242}, Loss{What: "look"}
	counts := map[Loss]uint64{}
	var told []event.Time
	var sum uint64
	poll := func(now event.Time, last bool) []event.Event {
		events := l.Poll(now, counts, last)
		for _, e := range events {
			if e.Loss.UID != user.UID {
				continue
			}
			if told = append(told, now); e.From >= now || e.Loss.Why != "user 4242 had used up the share of one user" {
				t.Errorf("at %d: %+v %+v", now, e, e.Loss)
			}
			sum += e.Loss.Count
		}
		return events
	}
	for now := second; now <= 100*second; now += second {
		counts[user]++
		poll(now, false)
	}
	if want := []event.Time{1, 2, 4, 8, 16, 32, 64}; !slices.EqualFunc(told, want, func(a, b event.Time) bool { return a == b*second }) {
		t.Errorf("told at %v, want at %v s", told, want)
	}
	if sum != 64 {
		t.Errorf("%d are told, want 64", sum)
	}
	counts[other]++
	if got := reports(poll(101*second, false)); !slices.Equal(got, []report{{"look", 0, 1, 100 * second}}) {
		t.Errorf("of others: %+v", got)
	}
	if poll(102*second, true); sum != counts[user] {
		t.Errorf("%d are told at the end, want %d", sum, counts[user])
	}
}

// A source tells of itself when its abilities change, once.
func TestStatus(t *testing.T) {
	s := Status{Source: "x", Abilities: []event.Ability{{Name: AbilityDM, Why: "not yet"}, {Name: AbilityOpen, OK: true}}}
	before := s.Event(Attached, 20, 10)
	*s.Ability(AbilityDM) = event.Ability{Name: AbilityDM, OK: true}
	s.Upgrade(30)
	if a := before.Source.Abilities[0]; a.OK || before.From != 10 || before.At != 20 || before.Src != "x" {
		t.Errorf("what was told has changed: %+v", before)
	}
	told := s.Take()
	if len(told) != 1 || told[0].Source.State != Upgraded || !told[0].Source.Abilities[0].OK || told[0].At != 30 {
		t.Errorf("told: %+v", told)
	}
	if again := s.Take(); len(again) > 0 {
		t.Errorf("told twice: %+v", again)
	}
	if missing := NotSeen(s.Abilities); !slices.Equal(missing, []string{AbilityExec, AbilityExit}) {
		t.Errorf("not seen: %v", missing)
	}
}
