package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/recorder"
)

// hostile is a user who costs others what he can.
const hostile = 4242

// asUser returns a command of an unprivileged user, whose program is a copy of
// another under a new name.
func asUser(t *testing.T, program, name string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.MkdirTemp("", "hostile")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), copyFile(filepath.Join(dir, name), program, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, name), args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: hostile, Gid: hostile}, Setpgid: true}
	cmd.Stderr = os.Stderr
	return cmd
}

// unleash starts a command and returns once it says, by a line, that it has done its
// worst. It, and its children, go on until the test ends.
func unleash(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		in.Close()
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
}

// children is a shell's script that makes that many children, which do something
// each, and says when they are at it.
func children(n int, do string) string {
	return fmt.Sprintf("exec 3<&0; i=0; while [ $i -lt %d ]; do (%s) & i=$((i+1)); done; sleep 1; echo; wait", n, do)
}

// playFlooding opens 2,000 long names under /dev that do not exist: 8 MB of records.
func playFlooding() {
	path := "/dev/" + strings.Repeat(strings.Repeat("x", 200)+"/", 19)
	for i := range 2000 {
		_ = openErrno(path+strconv.Itoa(i), unix.O_RDONLY)
	}
	_, _ = os.Stdout.WriteString("\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// room is what these tests leave a user in the maps, so that they need few processes.
const room = 20

// bothWays are the ways to keep calls under way.
func bothWays(t *testing.T, test func(t *testing.T, b *eBPF)) {
	for name, without := range map[string]bool{"task storage": false, "a map for all": true} {
		t.Run(name, func(t *testing.T) {
			b := openTest(t, Options{noTaskStorage: without, roomOfUser: room})
			if !without && !b.programs.taskStorage {
				t.Skip("NOT TESTED: this kernel keeps nothing with tasks for programs that trace")
			}
			test(t, b)
		})
	}
}

// lossesOf returns what events say was lost of a user.
func lossesOf(events []event.Event, uid uint32) map[string]uint64 {
	sums := map[string]uint64{}
	for _, e := range events {
		if e.Kind == event.Loss && e.Loss.UID == uid {
			sums[e.Loss.What] += e.Loss.Count
		}
	}
	return sums
}

// A user whose threads wait in open(2) of a FIFO under /dev, more than the kernel
// side has room for, blinds nobody: root's guest is told whole. What he himself
// loses by that is told as his loss.
func TestWaitingOpensOfOneUser(t *testing.T) {
	const waiting = 3 * room
	bothWays(t, func(t *testing.T, b *eBPF) {
		dir, err := os.MkdirTemp("/dev", "bootrace-test-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		fifo := dir + "/fifo"
		if err := errors.Join(os.Chmod(dir, 0o755), unix.Mkfifo(fifo, 0o666), os.Chmod(fifo, 0o666)); err != nil {
			t.Fatal(err)
		}
		guest := fakeGuest(t, "qemu-system-x86_64", "-drive", "file=/dev/vg/lv,if=none")
		events := trace(t, b, func() {
			unleash(t, asUser(t, "/bin/sh", "patient", "-c", children(waiting, ": <"+fifo)))
			_ = guest.Run()
		})
		checkGuest(t, events, guest)
		if lost := lossesOf(events, 0); len(lost) > 0 {
			t.Errorf("others lost %v", lost)
		}
		lost := lossesOf(events, hostile)
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
	b := openTest(t, Options{roomOfUser: room})
	guest := fakeGuest(t, "qemu-system-x86_64")
	events := trace(t, b, func() {
		unleash(t, asUser(t, "/bin/sh", "kvm", "-c", children(3*room, "read x <&3")))
		_ = guest.Run()
	})
	checkGuest(t, events, guest)
	if lost := lossesOf(events, 0); len(lost) > 0 {
		t.Errorf("others lost %v", lost)
	}
	lost := lossesOf(events, hostile)
	t.Logf("the user lost %v", lost)
	if lost["guest"] < 2*room {
		t.Error("that not all of the user's children are followed is not told")
	}
}

// What a user took is given back, whoever takes it next.
func TestRoomIsGivenBack(t *testing.T) {
	bothWays(t, func(t *testing.T, b *eBPF) {
		for range 3 {
			guest := asUser(t, "/proc/self/exe", "kvm")
			guest.Env = []string{roleEnv + "=guest"}
			_ = guest.Run()
		}
		var owner bpf.Owner
		for kind, n := range b.Losses() {
			t.Errorf("lost: %d of %s", n, kind)
		}
		if err := b.programs.coll.Maps[bpf.ProbesMapOwners].Lookup(uint32(hostile), &owner); err != nil {
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
	b := openTest(t, Options{})
	guest := fakeGuest(t, "qemu-system-x86_64", manyArgs(10<<10)...)
	// A reader that is far behind: nothing is read until the guest has ended.
	flood := asUser(t, "/proc/self/exe", "flood")
	flood.Env = []string{roleEnv + "=flooding"}
	unleash(t, flood)
	_ = guest.Run()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var events []event.Event
	if err := b.Run(ctx, func(e event.Event) { events = append(events, e) }); err != nil {
		t.Fatal(err)
	}
	checkGuest(t, events, guest)
	if lost := lossesOf(events, 0); len(lost) > 0 {
		t.Errorf("others lost %v", lost)
	}
	told := 0
	for _, e := range events {
		if e.Proc != nil && e.Proc.UID == hostile {
			told++
		}
	}
	lost := lossesOf(events, hostile)
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
	b := openTest(t, Options{})
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
		flood := asUser(t, "/proc/self/exe", "flood")
		flood.Env = []string{roleEnv + "=flooding"}
		unleash(t, flood)
	}
	guests := map[uint32]*exec.Cmd{}
	for _, uid := range []uint32{0, neighbour, hostile} {
		guest := asUser(t, "/proc/self/exe", "qemu-system-x86_64", "-drive", "file=/dev/vg/lv,if=none")
		guest.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
		guest.Env = []string{roleEnv + "=guest"}
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
			if e.Proc != nil && e.Proc.PID == guest.Process.Pid && (e.Kind != event.Open || e.Open.Path == missingDisk) {
				kinds = append(kinds, e.Kind)
			}
		}
		if want := []event.Kind{event.Exec, event.Open, event.Exit}; !slices.Equal(kinds, want) {
			t.Errorf("of user %d's guest the log has %v, want %v", uid, kinds, want)
		}
	}
	if lost := lossesOf(events, 0); len(lost) > 0 {
		t.Errorf("others lost %v", lost)
	}
	if own := w.OwnLosses(); len(own) != 1 || own[0].UID != hostile || own[0].What != "look" {
		t.Errorf("the log says %+v", own)
	} else if lost := lossesOf(events, hostile); len(lost) != 1 || lost["look"] < own[0].Count {
		t.Errorf("the log counts %+v, and the record tells of %v", own, lost)
	}
}

// A user whose threads wait in open(2) of a FIFO under /dev, more than a return had room
// for by the kernel's own reckoning and by MaxActive, hides no open of root's guest from
// the trace files.
func TestWaitingOpensBesideTracefs(t *testing.T) {
	const waiting = ftrace.MaxActive + 100
	b := openTracefsTest(t, Options{})
	dir, err := os.MkdirTemp("/dev", "bootrace-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	fifo := dir + "/fifo"
	if err := errors.Join(os.Chmod(dir, 0o755), unix.Mkfifo(fifo, 0o666), os.Chmod(fifo, 0o666)); err != nil {
		t.Fatal(err)
	}
	guest := staying(fakeGuest(t, "qemu-system-x86_64", "-drive", "file=/dev/vg/lv,if=none"))
	events := trace(t, b, func() {
		unleash(t, asUser(t, "/bin/sh", "patient", "-c", children(waiting, ": <"+fifo)))
		_ = guest.Run()
	})
	if lost := lossesOf(events, 0); len(lost) > 0 {
		t.Errorf("lost: %v", lost)
	}
	checkGuest(t, events, guest)
}
