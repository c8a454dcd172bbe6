package tracefs

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/probe/procs"
	"github.com/bootrace/bootrace/tracer/probe/syscalls"
	"github.com/bootrace/bootrace/tracer/probe/tasks"
)

// Processes that this machine cannot have: above the highest pid.
const (
	guestPID = 1<<22 + 10
	otherPID = 1<<22 + 20
)

// testCalls knows a guest with a thread, and another process.
func testCalls() *calls {
	c := newCalls(guest.Programs())
	c.described, c.tasks.Told = true, true
	c.tasks.Remember(&tasks.Task{Proc: event.Proc{PID: guestPID, PPID: 7, Comm: "qemu-kvm"}})
	c.tasks.Exec(0, guestPID, "/usr/bin/qemu-kvm")
	c.tasks.Process(procs.Event{Kind: procs.Fork, TID: guestPID + 1, PID: guestPID, Parent: 7})
	c.tasks.Remember(&tasks.Task{Proc: event.Proc{PID: otherPID, Comm: "lvm"}, Args: []byte("lvm\x00vgchange\x00")})
	c.tasks.Exec(0, otherPID, "/usr/sbin/lvm")
	return &c
}

func told(e procs.Event) hit { return hit{at: e.At, tid: e.TID, proc: procEvent{Event: e}} }

func handleAll(c *calls, hits ...hit) []event.Event {
	var events []event.Event
	for i := range hits {
		events = append(events, c.handle(&hits[i])...)
	}
	return events
}

func TestCallsOpens(t *testing.T) {
	const file, pointer = unix.S_IFREG | 0o644, -0x123456789abcd // a kernel address
	open := func(tid int, path string, flags uint32) hit {
		return hit{at: 100, tid: tid, event: evOpen, path: path, flags: flags}
	}
	done := func(tid int, ret int64, mode, rdev uint32) hit {
		return hit{at: 110, tid: tid, event: evOpened, ret: ret, mode: mode, rdev: rdev, size: 4096}
	}
	for name, tt := range map[string]struct {
		hits []hit
		want string // kind of what was opened, or errno; empty: no event
	}{
		"guest's image":            {[]hit{open(guestPID, "/images/a", unix.O_RDWR), done(guestPID, pointer, file, 0)}, "file"},
		"by a thread of it":        {[]hit{open(guestPID+1, "/dev/vg/lv", 0), done(guestPID+1, pointer, unix.S_IFBLK, 253<<20)}, "block"},
		"of the system's":          {[]hit{open(guestPID, "/usr/lib/x.so", 0), done(guestPID, pointer, file, 0)}, ""},
		"failed, by anybody":       {[]hit{open(otherPID, "/dev/vg/lv", 0), done(otherPID, -int64(unix.ENOENT), 0, 0)}, "ENOENT"},
		"failed elsewhere":         {[]hit{open(otherPID, "/srv/x", 0), done(otherPID, -int64(unix.ENOENT), 0, 0)}, ""},
		"other disk, not a guest":  {[]hit{open(otherPID, "/dev/sda", 0), done(otherPID, pointer, unix.S_IFBLK, 8<<20)}, ""},
		"of an exec":               {[]hit{open(guestPID, "/images/tool", fmodeExec), done(guestPID, pointer, file, 0)}, ""},
		"its entry was not seen":   {[]hit{done(guestPID, pointer, file, 0)}, ""},
		"two threads at a time":    {[]hit{open(guestPID, "/images/a", 2), open(guestPID+1, "/images/b", 2), done(guestPID, pointer, file, 0)}, "file"},
		"a process that has ended": {[]hit{open(otherPID+1, "/dev/vg/lv", 0), done(otherPID+1, -int64(unix.ENXIO), 0, 0)}, "ENXIO"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			for _, e := range handleAll(testCalls(), tt.hits...) {
				got += e.Open.Type + unix.ErrnoName(unix.Errno(e.Open.Errno))
				if e.From != 100 || e.At != 110 || e.Src != Name {
					t.Errorf("event %+v", e)
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Where the kernel keeps room for few returns, starts that are held take none of it, and
// are no opens that were missed.
func TestCallsOpensByDescriptor(t *testing.T) {
	const file = unix.S_IFREG | 0o644
	c := testCalls()
	c.byDescriptor = true
	events := handleAll(c,
		hit{at: 10, tid: otherPID, event: evOpen, path: "/usr/bin/qemu-kvm", flags: fmodeExec}, // held, and killed
		told(procs.Event{At: 20, Kind: procs.Exit, TID: otherPID, PID: otherPID}),
		hit{at: 30, tid: guestPID, event: evFile, mode: unix.S_IFIFO}, // a pipe, which nobody opened
		hit{at: 40, tid: guestPID, event: evOpen, path: "/images/a", flags: unix.O_RDWR},
		hit{at: 41, tid: guestPID, event: evFile, mode: file, size: 4096},
		hit{at: 50, tid: guestPID, event: evOpen, path: "/images/b", flags: unix.O_RDWR},
		hit{at: 51, tid: guestPID, event: evFailed, ret: -int64(unix.ENOENT)},
		hit{at: 60, tid: guestPID, event: evOpen, path: "/images/c", flags: unix.O_RDWR}, // its return was missed
		hit{at: 70, tid: guestPID, event: evOpen, path: "/dev/vg/d", flags: unix.O_RDWR}, // by the kernel itself
		hit{at: 71, tid: guestPID, event: evOpened, ret: -int64(unix.ENXIO)},
	)
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprint(e.Open.Path, " ", e.Open.Type, unix.ErrnoName(unix.Errno(e.Open.Errno)), " ", e.Open.Size, " ", e.From, " ", e.At))
	}
	want := []string{"/images/a file 4096 40 41", "/images/b ENOENT -1 50 51", "/dev/vg/d ENXIO -1 70 71"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := c.missed[lossOpen]; n != 1 || len(c.opens) != 0 {
		t.Errorf("%d opens are counted as lost, want 1; under way %v", n, c.opens)
	}
}

// A call whose return was not told is counted, and not taken for another.
func TestCallsMissed(t *testing.T) {
	c := testCalls()
	events := handleAll(c,
		hit{at: 1, tid: otherPID, event: evOpen, path: "/dev/vg/lv"},
		hit{at: 2, tid: otherPID, event: evOpen, path: "/usr/lib/x"},
		hit{at: 3, tid: otherPID, event: evOpened, ret: 1},
		hit{at: 4, tid: otherPID, event: evRequest, nr: bpf.DMDevCreate},
		hit{at: 5, tid: otherPID, event: evRequest, nr: bpf.DMDevCreate},
		hit{at: 6, tid: otherPID, event: "symlink", path: "/dev/a"}, // calls symlinkat, before Linux 4.17
		hit{at: 7, tid: otherPID, event: "symlinkat", path: "/dev/a"},
		hit{at: 8, tid: otherPID, event: "symlinkat" + suffixReturn},
		hit{at: 9, tid: otherPID, event: "symlink" + suffixReturn},
		hit{at: 10, tid: otherPID, event: "rename", path: "/dev/a"},
		hit{at: 11, tid: otherPID, event: "rename", path: "/dev/a"},
	)
	if len(events) != 1 || events[0].Kind != event.Link {
		t.Errorf("events %+v", events)
	}
	if c.missed[lossOpen] != 1 || c.missed[lossDM] != 1 || c.missed[lossLink] != 1 {
		t.Errorf("missed %v", c.missed)
	}
	// What was missed is told of the time in which it was.
	for what, want := range map[string]event.Time{lossOpen: 1, lossDM: 4, lossLink: 10} {
		if got := c.takeMissedFrom(what, 100); got != want {
			t.Errorf("%s was missed from %d on, want %d", what, got, want)
		}
		if got := c.takeMissedFrom(what, 100); got != 100 {
			t.Errorf("%s is told again, from %d on", what, got)
		}
	}
}

// A thread that has ended was in none of its calls any more: their returns were
// missed, too.
func TestCallsMissedAtTheEnd(t *testing.T) {
	c := testCalls()
	handleAll(c,
		hit{at: 1, tid: guestPID + 1, event: evOpen, path: "/dev/vg/lv"},
		hit{at: 2, tid: otherPID, event: evRequest, nr: bpf.DMDevCreate},
		hit{at: 3, tid: otherPID, event: "symlink", path: "/dev/a"},
		hit{at: 4, tid: otherPID, event: evOpen, path: "/dev/vg/lv"},
		hit{at: 5, tid: otherPID, event: evOpened, ret: 1},
		told(procs.Event{At: 6, Kind: procs.Exit, TID: guestPID + 1, PID: guestPID}),
		told(procs.Event{At: 7, Kind: procs.Exit, TID: otherPID, PID: otherPID}),
	)
	if c.missed[lossOpen] != 1 || c.missed[lossDM] != 1 || c.missed[lossLink] != 1 {
		t.Errorf("missed %v", c.missed)
	}
}

func TestCallsDeviceMapper(t *testing.T) {
	const dev = 253 << 8
	c := testCalls()
	request := func(at event.Time, nr, flags uint32) hit {
		return hit{at: at, tid: otherPID, event: evRequest, nr: nr, name: "vg-lv", uuid: "LVM-x", dev: dev, flags: flags, cookie: 77, start: dmData, new: "vg-new"}
	}
	done := func(at event.Time, ret int64) hit {
		return hit{at: at, tid: otherPID, event: evRequest + suffixReturn, ret: ret}
	}
	resume := request(30, bpf.DMDevResume, 0)
	resume.name, resume.uuid = "", "" // LVM resumes by number
	events := handleAll(c,
		request(10, bpf.DMDevCreate, 0), done(12, 0),
		request(20, bpf.DMTableLoad, 0), done(22, 0),
		resume,
		hit{at: 31, tid: otherPID, event: evStatus, name: "vg-lv", uuid: "LVM-x", dev: dev},
		hit{at: 32, tid: otherPID, event: evLive},
		done(33, 0),
		request(40, bpf.DMDevResume, syscalls.DMSuspend), done(41, 0),
		request(50, bpf.DMDevRename, 0), done(51, 0),
		request(60, bpf.DMDevRemove, 0), done(61, -int64(unix.EBUSY)),
		request(70, bpf.DMRemoveAll, 0), done(71, 0),
		done(80, 0), // its entry was not seen
	)
	var kinds []event.Kind
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	want := []event.Kind{event.DMCreate, event.DMLoad, event.DMResume, event.DMSuspend, event.DMRename, event.DMRemove, event.Loss}
	if !slices.Equal(kinds, want) {
		t.Fatalf("got %v, want %v", kinds, want)
	}
	live := events[2]
	if live.From != 30 || live.At != 33 || live.DM.LiveAt != 32 || live.DM.Name != "vg-lv" || live.DM.UUID != "LVM-x" || live.DM.Dev == nil || live.DM.Dev.Major != 253 || live.DM.Cookie != 77 {
		t.Errorf("resume: %+v %+v", live, *live.DM)
	}
	if !slices.Equal(live.Proc.Args, []string{"lvm", "vgchange"}) || live.Proc.Comm != "lvm" {
		t.Errorf("by %+v", *live.Proc)
	}
	if events[4].DM.NewName != "vg-new" || events[5].DM.Errno != int(unix.EBUSY) {
		t.Errorf("rename %+v, remove %+v", *events[4].DM, *events[5].DM)
	}
}

// A mapping that is made again has another number than before: LVM removes it by
// its old one.
func TestCallsMadeAgain(t *testing.T) {
	const old = 253<<8 | 2
	c := testCalls()
	create := hit{at: 10, tid: otherPID, event: evRequest, nr: bpf.DMDevCreate, name: "vg-lv", uuid: "LVM-x"}
	done := hit{at: 15, tid: otherPID, event: evRequest + suffixReturn}
	events := handleAll(c,
		create, done,
		hit{at: 20, tid: otherPID, event: evRequest, nr: bpf.DMDevResume, dev: old},
		hit{at: 21, tid: otherPID, event: evStatus, name: "vg-lv", uuid: "LVM-x", dev: old}, done,
		hit{at: 30, tid: otherPID, event: evRequest, nr: bpf.DMDevRemove, dev: old}, done,
		create, done,
	)
	if len(events) != 4 {
		t.Fatalf("events %+v", events)
	}
	if gone := events[2].DM; gone.Name != "vg-lv" || gone.UUID != "LVM-x" {
		t.Errorf("removed: %+v", *gone)
	}
	if again := events[3].DM; again.Dev != nil { // nobody here can say which
		t.Errorf("made again: %+v", *again)
	}
}

// On a busy host a mapping has another name, or is gone, before anybody can ask for its
// number: what its maker gave of it is not forgotten.
func TestCallsNumberNotKnown(t *testing.T) {
	c := testCalls()
	request := func(at event.Time, nr uint32, name, uuid string) hit {
		return hit{at: at, tid: otherPID, event: evRequest, nr: nr, name: name, uuid: uuid, start: dmData, new: "vg-new"}
	}
	done := hit{at: 100, tid: otherPID, event: evRequest + suffixReturn}
	c.opened[7] = true
	events := handleAll(c,
		request(10, bpf.DMDevCreate, "vg-lv", "LVM-x"), done,
		request(20, bpf.DMDevResume, "vg-lv", ""), done,
		request(30, bpf.DMDevRename, "vg-lv", ""), done,
		request(40, bpf.DMDevRemove, "vg-new", ""), done,
	)
	if len(events) != 4 || events[3].DM.UUID != "LVM-x" {
		t.Errorf("events %+v", events)
	}
	if len(c.opened) > 0 {
		t.Error("it may be any mapping whose table went live: the next open of each is the first")
	}
	// One that was removed by a number that nobody knows takes what may be it along.
	handleAll(c,
		request(50, bpf.DMDevCreate, "vg-lv", "LVM-x"), done,
		hit{at: 60, tid: otherPID, event: evRequest, nr: bpf.DMDevRemove, dev: 253<<8 | 9}, done)
	if len(c.devices) > 0 {
		t.Errorf("left: %+v", c.devices)
	}
}
