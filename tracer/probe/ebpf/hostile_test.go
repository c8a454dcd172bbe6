package ebpf

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/probetest"
	"github.com/bootrace/bootrace/tracer/recorder"
)

// room is what these tests leave a user in the maps, so that they need few processes.
const room = 20

// bothWays are the ways to keep calls under way.
func bothWays(t *testing.T, test func(t *testing.T, b *Backend)) {
	for name, without := range map[string]bool{"task storage": false, "a map for all": true} {
		t.Run(name, func(t *testing.T) {
			b := openTestAs(t, backend.Options{}, asIf{noTaskStorage: without, roomOfUser: room})
			if !without && !b.programs.taskStorage {
				t.Skip("NOT TESTED: this kernel keeps nothing with tasks for programs that trace")
			}
			test(t, b)
		})
	}
}

// A user whose threads wait in open(2) of a FIFO under /dev, more than the kernel
// side has room for, blinds nobody: root's guest is told whole. What he himself
// loses by that is told as his loss.
func TestWaitingOpensOfOneUser(t *testing.T) {
	const waiting = 3 * room
	bothWays(t, func(t *testing.T, b *Backend) {
		fifo := probetest.FIFO(t)
		guest := probetest.Guest(t, "qemu-system-x86_64", "-drive", "file=/dev/vg/lv,if=none")
		events := probetest.Trace(t, b, func() {
			probetest.Unleash(t, probetest.AsHostile(t, "/bin/sh", "patient", "-c", probetest.Children(waiting, ": <"+fifo)))
			_ = guest.Run()
		})
		probetest.CheckGuest(t, events, guest)
		if lost := probetest.LossesOf(events, 0); len(lost) > 0 {
			t.Errorf("others lost %v", lost)
		}
		lost := probetest.LossesOf(events, probetest.Hostile)
		t.Logf("the user lost %v", lost)
		if b.programs.taskStorage && len(lost) > 0 {
			t.Errorf("the user lost %v, although each task keeps its own", lost)
		}
		if !b.programs.taskStorage && lost["look"] < waiting-room {
			t.Errorf("the user lost %v of %d opens", lost, waiting)
		}
	})
}

// A user's program that is called like a guest has more children than the kernel
// side has room for guests: root's guests, and their children, are followed.
func TestForkingGuestOfOneUser(t *testing.T) {
	b := openTestAs(t, backend.Options{}, asIf{roomOfUser: room})
	guest := probetest.Guest(t, "qemu-system-x86_64")
	events := probetest.Trace(t, b, func() {
		probetest.Unleash(t, probetest.AsHostile(t, "/bin/sh", "kvm", "-c", probetest.Children(3*room, "read x <&3")))
		_ = guest.Run()
	})
	probetest.CheckGuest(t, events, guest)
	if lost := probetest.LossesOf(events, 0); len(lost) > 0 {
		t.Errorf("others lost %v", lost)
	}
	lost := probetest.LossesOf(events, probetest.Hostile)
	t.Logf("the user lost %v", lost)
	if lost["guest"] < 2*room {
		t.Error("that not all of the user's children are followed is not told")
	}
}

// What a user took is given back, whoever takes it next.
func TestRoomIsGivenBack(t *testing.T) {
	bothWays(t, func(t *testing.T, b *Backend) {
		for range 3 {
			_ = probetest.Playing("guest", probetest.AsHostile(t, "/proc/self/exe", "kvm")).Run()
		}
		var owner bpf.Owner
		for kind, n := range b.Losses() {
			t.Errorf("lost: %d of %s", n, kind)
		}
		if err := b.programs.coll.Maps[bpf.ProbesMapOwners].Lookup(uint32(probetest.Hostile), &owner); err != nil {
			t.Fatal(err)
		}
		if owner.Guests != 0 || owner.Calls != 0 {
			t.Errorf("the user has %d guests and %d calls left", owner.Guests, owner.Calls)
		}
	})
}

// A process that fails opens of long names as fast as it can fills no ring: root's
// guest is told whole, and the record says what of whom is not.
func TestFloodOfOneUser(t *testing.T) {
	b := openTest(t, backend.Options{})
	guest := probetest.Guest(t, "qemu-system-x86_64", probetest.ManyArgs(10<<10)...)
	// A reader that is far behind: nothing is read until the guest has ended.
	probetest.Unleash(t, probetest.Playing("flooding", probetest.AsHostile(t, "/proc/self/exe", "flood")))
	_ = guest.Run()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var events []event.Event
	if err := b.Run(ctx, func(e event.Event) { events = append(events, e) }); err != nil {
		t.Fatal(err)
	}
	probetest.CheckGuest(t, events, guest)
	if lost := probetest.LossesOf(events, 0); len(lost) > 0 {
		t.Errorf("others lost %v", lost)
	}
	told := 0
	for _, e := range events {
		if e.Proc != nil && e.Proc.UID == probetest.Hostile {
			told++
		}
	}
	lost := probetest.LossesOf(events, probetest.Hostile)
	t.Logf("%d opens of the user are told, %v are lost", told, lost)
	if lost["look"] == 0 || told == 0 {
		t.Errorf("%d opens of the user are told, and %v lost", told, lost)
	}
}

// neighbour is a user who harms nobody.
const neighbour = 4243

// Four processes of one user look for what does not exist under /dev until his part of
// the log is used up: root's guest and that of another user, which start afterwards,
// are in the record whole, and so is a guest of his own.
func TestFloodOfLog(t *testing.T) {
	b := openTest(t, backend.Options{})
	dir := t.TempDir()
	w, err := bootlog.NewWriter(bootlog.WriterOptions{
		Header: bootlog.Header{BootID: bootlog.CurrentBootID(), Started: event.Now()}, Dirs: []string{dir},
		MaxSize: 1 << 20, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	rec := recorder.New(w, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, rec.Record) }()

	for range 4 {
		probetest.Unleash(t, probetest.Playing("flooding", probetest.AsHostile(t, "/proc/self/exe", "flood")))
	}
	guests := map[uint32]*exec.Cmd{}
	for _, uid := range []uint32{0, neighbour, probetest.Hostile} {
		guest := probetest.Playing("guest", probetest.AsHostile(t, "/proc/self/exe", "qemu-system-x86_64", "-drive", "file=/dev/vg/lv,if=none"))
		guest.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
		_ = guest.Run()
		guests[uid] = guest
	}
	cancel()
	if err := errors.Join(<-done, w.Close()); err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(dir, bootlog.FileName(bootlog.CurrentBootID()))
	if info, err := os.Stat(path); err != nil || info.Size() > 1<<20 || info.Size() < 64<<10 {
		t.Errorf("the log: %v, %v", info, err)
	}
	log, err := bootlog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var events []event.Event
	for e, err := range log.Events() {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	for uid, guest := range guests {
		var kinds []event.Kind
		for _, e := range events {
			if e.Proc != nil && e.Proc.PID == guest.Process.Pid && (e.Kind != event.Open || e.Open.Path == probetest.MissingDisk) {
				kinds = append(kinds, e.Kind)
			}
		}
		if want := []event.Kind{event.Exec, event.Open, event.Exit}; !slices.Equal(kinds, want) {
			t.Errorf("of user %d's guest the log has %v, want %v", uid, kinds, want)
		}
	}
	if lost := probetest.LossesOf(events, 0); len(lost) > 0 {
		t.Errorf("others lost %v", lost)
	}
	if own := w.OwnLosses(); len(own) != 1 || own[0].UID != probetest.Hostile || own[0].What != "look" {
		t.Errorf("the log says %+v", own)
	} else if lost := probetest.LossesOf(events, probetest.Hostile); len(lost) != 1 || lost["look"] < own[0].Count {
		t.Errorf("the log counts %+v, and the record tells of %v", own, lost)
	}
}
