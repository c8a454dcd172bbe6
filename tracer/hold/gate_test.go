package hold

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

func FuzzMetadata(f *testing.F) {
	var buf bytes.Buffer
	m := unix.FanotifyEventMetadata{Event_len: 24, Vers: unix.FANOTIFY_METADATA_VERSION, Metadata_len: 24, Mask: unix.FAN_OPEN_EXEC_PERM, Fd: 7, Pid: 42}
	if err := binary.Write(&buf, binary.NativeEndian, m); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Add(buf.Bytes()[:23])
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseMetadata(data)
		if err == nil && (len(data) < metadataLen || got.Vers != unix.FANOTIFY_METADATA_VERSION) {
			t.Errorf("%x is accepted: %+v", data, got)
		}
	})
}

func TestParseCall(t *testing.T) {
	execve := "59 0x7ffd1 0x7ffd2 0x7ffd3 0x0 0x0 0x0 0x7ffe0 0x7f0a\n"
	execveat := "322 0xffffff9c 0x7ffd1 0x7ffd2 0x7ffd3 0x0 0x0 0x7ffe0 0x7f0a\n"
	if unix.SYS_EXECVE != 59 {
		t.Skip("NOT RUN: the lines are those of another architecture")
	}
	for _, line := range []string{execve, execveat} {
		c, running, err := parseCall(line)
		if err != nil || running || c != (call{0x7ffd1, 0x7ffd2}) {
			t.Errorf("%q: %+v, %v, %v", line, c, running, err)
		}
	}
	if _, running, err := parseCall("running\n"); !running || err != nil {
		t.Errorf("running: %v, %v", running, err)
	}
	for line, want := range map[string]string{
		"11 0x1 0x2 0x3 0x0 0x0 0x0 0x4 0x5\n": "no exec of a 64-bit program", // execve of i386
		"-1 0x1 0x2\n":                         "not understood",
		"":                                     "not understood",
		"59 x 0x2 0x3 0x0 0x0 0x0 0x4 0x5":     "invalid syntax",
	} {
		if _, _, err := parseCall(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", line, err, want)
		}
	}
}

// A host that can't hold says why in one line.
func TestUnsupported(t *testing.T) {
	for errno, want := range map[error]string{
		unix.ENOSYS: "the kernel has no fanotify (CONFIG_FANOTIFY)",
		unix.EPERM:  "no right to: it takes CAP_SYS_ADMIN",
		unix.EINVAL: "no fanotify permission events (CONFIG_FANOTIFY_ACCESS_PERMISSIONS)",
		unix.EMFILE: "fs.fanotify.max_user_groups",
	} {
		err := error(&UnsupportedError{initReason(errno), errno})
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
		if err := try(t.Context(), func() (Gate, error) { return nil, err }, nil, time.Second); !errors.Is(err, errno) {
			t.Errorf("the trial's error is %v", err)
		}
	}
}

// blocked never reads what it is asked for, as it is before Linux 5.7.
type blocked struct{}

func (blocked) Of(ctx context.Context, _ int) (*Task, error) {
	<-ctx.Done()
	time.Sleep(50 * time.Millisecond) // and is late to notice
	return nil, ctx.Err()
}

// A kernel on which reading a held task blocks is refused, and its child goes on.
func TestTryBlocked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may hold starts")
	}
	if err := try(t.Context(), openFanotify, heldTask{}, tryLimit); err != nil {
		t.Skip("NOT RUN: ", err)
	}
	err := try(t.Context(), openFanotify, blocked{}, 3*time.Second)
	if unsupported := new(UnsupportedError); !errors.As(err, &unsupported) || !strings.Contains(err.Error(), "did not come in time") {
		t.Errorf("got %v", err)
	}
}

func TestLeadsTo(t *testing.T) {
	const pattern = "/usr/local/qemu-*/bin/qemu-system-x86_64"
	for path, want := range map[string]bool{
		"/usr/local/qemu-9/bin/qemu-system-x86_64":           true,
		"/usr/local/qemu-9/bin/qemu-system-x86_64.dpkg-new":  true,
		"/usr/local/qemu-9/bin/qemu-system-x86_64;5f3a9c01":  true,
		"/usr/local/qemu-9/bin/qemu-system-x86_64;5f3a9c011": false,
		"/usr/local/qemu-9/bin":                              true, // on the way
		"/usr/local/qemu-9":                                  true,
		"/usr/local/qemu-9.dpkg-new":                         true, // matches the pattern
		"/usr/local/other":                                   false,
		"/usr/local/qemu-9/bin/qemu-img":                     false,
		"/usr/local/qemu-9/bin/qemu-system-x86_64/x":         false,
	} {
		if got := leadsTo(path, pattern); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestStuckReader(t *testing.T) {
	r := reader{}
	if r.stuck(1, true, 0) || r.stuck(1, true, event.Time(stuckAfter)) {
		t.Error("stuck too soon")
	}
	if !r.stuck(1, true, event.Time(stuckAfter)+1) {
		t.Error("starts wait, and it is not noticed")
	}
	if r.stuck(2, true, 20e9) || r.stuck(2, false, 40e9) || r.stuck(2, true, 41e9) {
		t.Error("stuck although there was progress, or nothing to do")
	}
}

// While a start waits this process comes first, with all its threads, and while none
// does it does not; who takes starts always comes first. None of the threads has to wait
// for one that waits for a disk.
func TestPriority(t *testing.T) {
	before, processors := niceNow(), runtime.GOMAXPROCS(0)
	h := newHost(t, nil)
	nices := func() map[int]int {
		of := map[int]int{}
		if err := eachThread(func(tid int) error {
			n, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
			of[20-n]++
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return of
	}
	if of := nices(); of[urgent] != 1 || of[before] == 0 {
		t.Errorf("threads by nice value while nobody waits: %v", of)
	}
	late := h.guest("late")
	h.held(1)
	if of := nices(); of[before] != 0 {
		t.Errorf("threads by nice value while a start waits: %v", of)
	}
	h.disks.set("/dev/vg0/late", true)
	late.ends()
	h.settled()
	if of := nices(); of[urgent] != 1 {
		t.Errorf("threads by nice value after the answer: %v", of)
	}
	if n := runtime.GOMAXPROCS(0); n < enough {
		t.Errorf("%d processors while starts are held", n)
	}
	h.stop(nil)
	<-h.ended
	if n := niceNow(); n != before {
		t.Errorf("nice %d afterwards, %d before", n, before)
	}
	if n := runtime.GOMAXPROCS(0); n != processors {
		t.Errorf("%d processors afterwards, %d before", n, processors)
	}
}
