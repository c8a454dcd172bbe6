package hold

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The nice value of a service counts among sessions, too, as it leads one of its own;
// and all its threads have it but those that are always urgent.
func TestSessionNice(t *testing.T) {
	const child = "BOOTRACE_SESSION"
	read := func() string {
		text, err := os.ReadFile("/proc/self/autogroup")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	if os.Getenv(child) != "" {
		runtime.LockOSThread()
		but := unix.Gettid()
		if err := setNice(7, map[int]bool{but: true}); err != nil {
			t.Fatal(err)
		}
		if err := eachThread(func(tid int) error {
			raw, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
			if nice := 20 - raw; nice != 7 && (nice != urgent || tid != but) {
				t.Errorf("thread %d has the nice value %d", tid, nice)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
		if text := read(); !strings.HasSuffix(text, " nice 7") {
			t.Errorf("of its own session: %s", text)
		}
		return
	}
	if _, err := os.Stat("/proc/self/autogroup"); err != nil {
		t.Skip("NOT RUN: this kernel does not group processes by sessions: ", err)
	}
	before := read()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestSessionNice$")
	cmd.Env = append(os.Environ(), child+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if after := read(); after != before {
		t.Errorf("another session was %s, and is %s", before, after)
	}
}
