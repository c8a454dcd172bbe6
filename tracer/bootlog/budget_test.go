package bootlog

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
)

// budgeted opens a log of a MiB.
func budgeted(t *testing.T, f folders) *Writer {
	t.Helper()
	o := f.options(nil)
	o.MaxSize = 1 << 20
	return newWriter(t, o)
}

// appendOne returns the id that e got, 0: it was not recorded.
func appendOne(w *Writer, e event.Event) uint64 {
	w.Append(&e)
	return e.ID
}

// look is a failed open by a program that is no guest.
func look(at event.Time, pid int, uid uint32, path string) event.Event {
	return event.Event{At: at, Kind: event.Open, Proc: &event.Proc{PID: pid, UID: uid}, Open: &event.OpenInfo{Path: path, Errno: 2, Size: -1}}
}

// start returns what is recorded of a guest's start.
func start(at event.Time, pid int, uid uint32, path string) []event.Event {
	p := &event.Proc{PID: pid, UID: uid}
	alone := &event.Proc{PID: pid} // as those name it who look at it later
	return []event.Event{
		{At: at, Kind: event.Hold, Proc: p, Hold: &event.HoldInfo{Reason: event.HoldDisks, Guest: path}},
		{At: at, Kind: event.Release, Proc: p, Hold: &event.HoldInfo{Reason: event.ReleaseReady, Outcome: event.HoldAllowed}},
		{At: at, Kind: event.Exec, Proc: p, Exec: &event.ExecInfo{Filename: "kvm", Args: []string{"kvm", strings.Repeat("a", 2000)}}},
		{At: at, Kind: event.Open, Proc: p, Open: &event.OpenInfo{Path: path, Size: 1}},
		{At: at, Kind: event.Way, Proc: alone, Way: &event.WayInfo{Path: path}},
		{At: at, Kind: event.Image, Proc: alone, Image: &event.ImageInfo{Disk: path}},
		{At: at, Kind: event.Inside, Proc: alone, Inside: &event.InsideInfo{Disk: path, Why: strings.Repeat("a", 2000)}},
		{At: at, Kind: event.DMCreate, Proc: &event.Proc{PID: 9}, DM: &event.DMInfo{Name: path}},
	}
}

type whatOf struct {
	uid, pid int
	what     string
}

// toldLosses sums what events say was lost.
func toldLosses(events []event.Event) map[whatOf]uint64 {
	told := map[whatOf]uint64{}
	for _, e := range events {
		if e.Kind == event.Loss {
			told[whatOf{int(e.Loss.UID), e.Loss.PID, e.Loss.What}] += e.Loss.Count
		}
	}
	return told
}

// Four users flood the log with failing opens of long names: guests that start then,
// root's and those of another user, one of the four among them, and device-mapper, lose
// nothing. What the four lose is told as theirs, and the log stays within its bound.
func TestFloodCostsItsOwner(t *testing.T) {
	f := newFolders(t)
	w := budgeted(t, f)
	path := "/dev/" + strings.Repeat("x", 4000)
	at := event.Time(0)
	flood := func() {
		for i := range 2000 {
			at += 1e6
			appendOne(w, look(at, 100+i%4, 1000+uint32(i%4), fmt.Sprint(path, i)))
		}
	}
	flood()
	for g := range 40 {
		uid := []uint32{0, 64055, 1000, 0}[g%4]
		for _, e := range start(at, 10000+g, uid, fmt.Sprint("/dev/vg/", g)) {
			if appendOne(w, e) == 0 {
				t.Fatalf("%s of guest %d was dropped", e.Kind, g)
			}
		}
	}
	flood()
	own := w.OwnLosses()
	check(t, w.Close())
	events := f.read(t).events
	seen := map[uint32]uint64{}
	losses := 0
	for _, e := range events {
		switch {
		case e.Kind == event.Loss:
			losses++
		case e.Kind == event.Open && strings.HasPrefix(e.Open.Path, path):
			seen[e.Proc.UID]++
		}
	}
	told := toldLosses(events)
	for uid := uint32(1000); uid < 1004; uid++ {
		if lost := told[whatOf{int(uid), 0, "look"}]; seen[uid] == 0 || lost == 0 || seen[uid]+lost != 1000 {
			t.Errorf("of user %d %d are recorded, and %d lost", uid, seen[uid], lost)
		}
	}
	if len(told) != 4 || losses > 40 || len(own) != 4 || own[0].Count < 900 {
		t.Errorf("lost: %v, in %d events; %+v", told, losses, own)
	}
	if w.Dropped() > 0 || sizeOf(t, f) > 1<<20 {
		t.Errorf("%d dropped, %d bytes", w.Dropped(), sizeOf(t, f))
	}
}

// A guest that is recorded without end, its children included, costs no other guest of
// its user, and is told by its process.
func TestFloodByOneGuest(t *testing.T) {
	for _, uid := range []uint32{0, 64055} {
		f := newFolders(t)
		w := budgeted(t, f)
		for _, e := range start(1e9, 500, uid, "/dev/vg/greedy") {
			appendOne(w, e)
		}
		for i := range 5000 {
			pid := 501 + i%8
			if i < 8 {
				appendOne(w, event.Event{At: 2e9, Kind: event.Fork, Proc: &event.Proc{PID: pid, PPID: 500, UID: uid}})
			}
			appendOne(w, look(2e9, pid, uid, fmt.Sprintf("/dev/%0500d", i)))
		}
		for _, e := range start(3e9, 600, uid, "/dev/vg/modest") {
			if appendOne(w, e) == 0 {
				t.Errorf("%s of another guest of user %d was dropped", e.Kind, uid)
			}
		}
		check(t, w.Close())
		told := toldLosses(f.read(t).events)
		if len(told) != 1 || told[whatOf{int(uid), 500, "open"}] == 0 {
			t.Errorf("lost: %v", told)
		}
	}
}

// All guests of one user together leave room for others, however many they are, in the
// block of ids that he was given for containers, too.
func TestFloodByManyGuests(t *testing.T) {
	f := newFolders(t)
	w := budgeted(t, f)
	for g := range 3000 {
		for _, e := range start(1e9, 1000+g, 100000+uint32(g), "/dev/vg/hostile") {
			if e.Kind != event.DMCreate {
				appendOne(w, e)
			}
		}
	}
	for _, e := range append(start(3e9, 600, 64055, "/dev/vg/a"), start(3e9, 601, 0, "/dev/vg/b")...) {
		if appendOne(w, e) == 0 {
			t.Errorf("%s of user %d was dropped", e.Kind, e.Proc.UID)
		}
	}
	check(t, w.Close())
	for what := range toldLosses(f.read(t).events) {
		if what.uid != 100000 {
			t.Errorf("lost: %+v", what)
		}
	}
}

// What a user mounts by FUSE takes from his part; a flood of it leaves the host's
// mounts recorded.
func TestFloodOfMounts(t *testing.T) {
	f := newFolders(t)
	w := budgeted(t, f)
	mount := func(uid uint32, n int) uint64 {
		return appendOne(w, event.Event{At: 1e9, Kind: event.Mount, Mount: &event.MountInfo{Action: event.MountMade, Point: fmt.Sprintf("/%0900d", n), UID: uid}})
	}
	for i := range 2000 {
		mount(1000, i)
	}
	if mount(0, 0) == 0 {
		t.Error("a mount of the host's was dropped")
	}
	check(t, w.Close())
	if told := toldLosses(f.read(t).events); len(told) != 1 || told[whatOf{1000, 0, "mount"}] == 0 {
		t.Errorf("lost: %v", told)
	}
}

// What a log has that this boot's is joined with counts as well: it is in a folder that
// could not be read when recording began.
func TestBudgetOverMove(t *testing.T) {
	f := newFolders(t)
	w := budgeted(t, folders{f.volatile, f.durable}) // begins in the durable one
	for i := range 200 {
		appendOne(w, look(event.Time(i), 7, 1000, fmt.Sprintf("/dev/%0500d", i)))
	}
	check(t, w.Close())
	o := folders{f.volatile, f.volatile}.options(nil)
	o.MaxSize = 1 << 20
	w = newWriter(t, o)
	check(t, w.MoveTo(t.Context(), f.durable))
	kept := 0
	for i := range 1000 {
		if appendOne(w, look(event.Time(i), 7, 1000, fmt.Sprintf("/dev/%0500d", i))) > 0 {
			kept++
		}
	}
	if kept > 10 {
		t.Errorf("%d more are kept", kept)
	}
}

// What was taken before a restart counts after it, and what was lost, and not told when
// the service was killed, is told as not known.
func TestBudgetOverRestarts(t *testing.T) {
	f := newFolders(t)
	flood := func(w *Writer, n int) (kept int) {
		for i := range n {
			if appendOne(w, look(event.Time(i), 7, 1000, fmt.Sprintf("/dev/%0500d", i))) > 0 {
				kept++
			}
		}
		return kept
	}
	w := budgeted(t, f)
	for _, e := range start(1, 500, 64055, "/dev/vg/a") {
		appendOne(w, e)
	}
	if kept := flood(w, 1000); kept == 0 || kept > 300 {
		t.Fatalf("%d kept", kept)
	}
	w.Append(&event.Event{At: 1e6, Kind: event.DMCreate, DM: &event.DMInfo{Name: "last"}})
	check(t, w.Sync(t.Context()))
	killed := newFolders(t)
	check(t, os.CopyFS(killed.volatile, os.DirFS(f.volatile)))

	check(t, w.Close())
	w = budgeted(t, f)
	if kept := flood(w, 1000); kept > 0 {
		t.Errorf("%d kept after a restart", kept)
	}
	// The guest is still known, and its part is its own.
	if e := look(2e6, 500, 64055, "/dev/vg/b"); appendOne(w, e) == 0 {
		t.Error("an open of the guest was dropped")
	}
	check(t, w.Close())
	if told := toldLosses(f.read(t).events); told[whatOf{1000, 0, "look"}] < 1700 {
		t.Errorf("lost: %v", told)
	}

	w = budgeted(t, killed)
	check(t, w.Close())
	events := killed.read(t).events
	last := events[len(events)-1]
	if last.Kind != event.Loss || last.Loss.UID != 1000 || last.Loss.Count != 0 || last.At != 1e6 {
		t.Errorf("at last %+v %+v", last, last.Loss)
	}
	w = budgeted(t, killed)
	check(t, w.Close())
	if again := killed.read(t).events; len(again) > len(events)+1 {
		t.Errorf("it grows with each restart: %d, then %d events", len(events), len(again))
	}
}

// Somebody who has the log written again and again, so as to read it, sees at once what a
// user lost, and fills the log with that no more than the flood does.
func TestReadingDuringAFlood(t *testing.T) {
	b := newBudget()
	told, count := 0, uint64(0)
	tell := func(events []event.Event) {
		for _, e := range events {
			told++
			count += e.Loss.Count
		}
	}
	now := event.Time(0)
	for second := range 3600 {
		for range 10 {
			now += 1e8
			e := look(now, 7, 1000, "/dev/x")
			b.lost(&e, owner{uid: 1000})
			tell(b.due(now, false))
		}
		tell(b.flush(now))
		if second == 0 && count != 10 {
			t.Errorf("%d of the first 10 are told", count)
		}
	}
	tell(b.due(0, true))
	if told > 120 || count != 36000 {
		t.Errorf("in an hour %d are told, in %d events", count, told)
	}
}
