package rights

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// names of the capabilities that units name.
var names = map[string]int{
	"CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_SYS_PTRACE": unix.CAP_SYS_PTRACE, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN,
	"CAP_DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "CAP_DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH, "CAP_SYS_RESOURCE": unix.CAP_SYS_RESOURCE,
	"CAP_SYS_NICE": unix.CAP_SYS_NICE, "CAP_SYSLOG": unix.CAP_SYSLOG, "CAP_MKNOD": unix.CAP_MKNOD, "CAP_CHOWN": unix.CAP_CHOWN,
	"CAP_FOWNER": unix.CAP_FOWNER, "CAP_SYS_MODULE": unix.CAP_SYS_MODULE, "CAP_SYS_CHROOT": unix.CAP_SYS_CHROOT,
}

// The units and the process from the initramfs give up the same.
func TestUnitsKeepTheSame(t *testing.T) {
	for unit, without := range map[string]int{"bootrace-early.service": -1, "bootrace.service": unix.CAP_SYS_CHROOT} {
		text, err := os.ReadFile("../../packaging/systemd/" + unit)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, line := range regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.*)$`).FindAllStringSubmatch(string(text), -1) {
			for _, name := range strings.Fields(line[1]) {
				c, known := names[name]
				if !known {
					t.Fatalf("%s: %s is not known", unit, name)
				}
				got = append(got, c)
			}
		}
		want := slices.DeleteFunc(slices.Clone(kept), func(c int) bool { return c == without })
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s keeps %v, want %v", unit, got, want)
		}
	}
	for _, c := range needed {
		if !slices.Contains(kept, c.bit) {
			t.Errorf("%s is needed and not kept", c.name)
		}
	}
}

// All threads, and what they run, have what is kept and no more.
func TestConfine(t *testing.T) {
	if os.Getenv("BOOTRACE_CONFINE") == "" {
		if os.Geteuid() != 0 {
			t.Skip("only root has anything to give up")
		}
		own := exec.Command("/proc/self/exe", "-test.run=^TestConfine$", "-test.v")
		own.Env = append(os.Environ(), "BOOTRACE_CONFINE=1")
		if out, err := own.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	before, _ := effective("/")
	if err := Confine(); err != nil {
		t.Fatal(err)
	}
	var keep uint64
	for _, c := range kept {
		keep |= 1 << c
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil || len(tasks) < 2 {
		t.Fatal(len(tasks), err)
	}
	child, err := exec.Command("/bin/cat", "/proc/self/status").Output()
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(child)}
	for _, task := range tasks {
		if text, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status"); err == nil {
			texts = append(texts, string(text))
		}
	}
	for _, text := range texts {
		for _, want := range []string{fmt.Sprintf("CapEff:\t%016x\n", before&keep), "NoNewPrivs:\t1\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in:\n%s", want, text)
			}
		}
	}
}
