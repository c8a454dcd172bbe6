package hold

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
)

// A user who has 20,000 starts held leaves the lines of others in the journal, and what
// is left out of his is told.
func TestJournalByUser(t *testing.T) {
	var out bytes.Buffer
	j := &journal{log: slog.New(slog.NewTextHandler(&out, nil))}
	now := event.Time(100e9)
	write := func(uid uint32, n int) {
		for range n {
			j.to(uid, now).Info("a start is held", "who", uid)
		}
	}
	count := func(text string) int { return strings.Count(out.String(), text) }
	write(1000, 20000)
	write(100000, 500) // a block of users is one
	write(165000, 500)
	write(165001, 500)
	write(64055, 800)
	write(0, 5000)
	for text, want := range map[string]int{"who=1000\n": 1000, "who=100000\n": 500, "who=165001\n": 0, "who=64055\n": 800, "who=0\n": 5000} {
		if n := count(text); n != want {
			t.Errorf("%q is there %d times, want %d", text, n, want)
		}
	}
	j.tell(now)
	if n := count("were left out"); n != 0 {
		t.Errorf("told too early: %d", n)
	}
	now = now.Add(leftOutPeriod)
	j.tell(now)
	j.tell(now)
	if n := count("were left out"); n != 2 || count("user=1000 lines=19000") != 1 {
		t.Errorf("what is left out: %d times", n)
	}
	out.Reset()
	write(1000, 100)
	if n := count("who=1000"); n != 60 {
		t.Errorf("after a minute: %d lines", n)
	}
	j.tell(now.Add(leftOutPeriod))
	j.tell(now.Add(2 * time.Hour))
	if len(j.of) > 0 {
		t.Errorf("%d users are remembered", len(j.of))
	}
}

// All users together can't push root's lines out.
func TestJournalOfManyUsers(t *testing.T) {
	var out bytes.Buffer
	j := &journal{log: slog.New(slog.NewTextHandler(&out, nil))}
	for uid := range uint32(2 * maxJournals) {
		for range 10 {
			j.to(uid+1, 1e9).Info("x")
		}
	}
	if n := strings.Count(out.String(), "\n"); n != int(linesOfAll.burst) || len(j.of) > maxJournals {
		t.Errorf("%d lines, %d users remembered", n, len(j.of))
	}
}

// Starts that are missed without end are told of at once, and then less and less often;
// none is left out of the count, of whichever user.
func TestMissedAreToldSparingly(t *testing.T) {
	var m missed
	told, count := 0, uint64(0)
	record := func(e event.Event) { told++; count += e.Loss.Count }
	log := slog.New(slog.DiscardHandler)
	now := event.Time(0)
	for range 24 * 3600 / 2 {
		now = now.Add(missedPeriod)
		m.addOf(missedRoom, 1000, now)
		m.record(record, log, now, false)
	}
	if told < 100 || told > 160 {
		t.Errorf("told %d times in a day", told)
	}
	for uid := range uint32(2 * maxReasons) {
		m.addOf(missedUnread, uid+2000, now)
	}
	m.record(record, log, now, true)
	if count != 24*3600/2+2*maxReasons || told > 160+maxReasons+1 {
		t.Errorf("%d counted, %d told", count, told)
	}
	m.record(record, log, now.Add(time.Hour), false)
	m.record(record, log, now.Add(2*time.Hour), false)
	if len(m.why) > 0 {
		t.Errorf("%d reasons are remembered", len(m.why))
	}
}
