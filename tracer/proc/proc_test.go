package proc

import (
	"errors"
	"os"
	"slices"
	"testing"
)

func TestOurselves(t *testing.T) {
	dir := Dir("/", os.Getpid())
	status, err := ReadStatus(dir)
	if err != nil || status.PID != os.Getpid() || status.PPID != os.Getppid() || status.FSUID != uint32(os.Geteuid()) || status.FSGID != uint32(os.Getegid()) {
		t.Errorf("%+v, %v", status, err)
	}
	stat, err := ReadStat(dir)
	if err != nil || stat.Comm != status.Comm || stat.PPID != os.Getppid() || stat.Start == 0 {
		t.Errorf("%+v, %v", stat, err)
	}
}

func TestStatus(t *testing.T) {
	const text = "Name:\tqemu: Tgid:\t9\nState:\tS (sleeping)\nTgid:\t42\nPid:\t43\nPPid:\t1\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t5 36 107 \n"
	s, err := ParseStatus(text)
	if err != nil || s.Comm != "qemu: Tgid:\t9" || s.PID != 42 || s.PPID != 1 || s.UID != 1 || s.FSUID != 4 || s.FSGID != 8 || !slices.Equal(s.Groups, []uint32{5, 36, 107}) {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := ParseStatus("Name:\tx\n"); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

// A SIGKILL that waits for a task to go on is in either of two masks.
func TestKilled(t *testing.T) {
	for text, want := range map[string]bool{
		"SigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\nSigBlk:\t0000000000000100\n": false,
		"SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n":                            true,
		"SigPnd:\t0000000000000000\nShdPnd:\t0000000000004100\n":                            true,
		"SigPnd:\t0000000000000080\nShdPnd:\t0000000000004200\n":                            false, // SIGFPE, SIGUSR1 and SIGTERM
		"SigPnd:\t\nShdPnd:\tx\n":                                                           false,
	} {
		s, err := ParseStatus("Name:\tqemu\nTgid:\t42\n" + text)
		if err != nil || s.Killed != want {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
}

func TestStat(t *testing.T) {
	for line, want := range map[string]Stat{
		"7 (a) b (c) R 3 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0": {Comm: "a) b (c", State: 'R', PPID: 3, Start: 1},
	} {
		if got, err := ParseStat([]byte(line)); err != nil || got != want {
			t.Errorf("%q: got %+v, %v", line, got, err)
		}
	}
	for _, line := range []string{"", "1", "1 )a(", "1 (a) R 1", "1 (a) R x 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0",
		"1 (a) R 1 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 9223372036854775807 0"} {
		if got, err := ParseStat([]byte(line)); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: got %+v, %v", line, got, err)
		}
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("1 (a) b) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 77 1"))
	f.Fuzz(func(_ *testing.T, line []byte) {
		_, _ = ParseStat(line)
		_, _ = ParseStatus(string(line))
	})
}
