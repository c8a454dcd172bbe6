package recorder

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/origin"
)

const waitEnv = "BOOTRACE_TEST_WAIT"

func TestMain(m *testing.M) {
	if os.Getenv(waitEnv) != "" {
		_, _ = os.Stdout.WriteString("\n")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	os.Exit(m.Run())
}

// Real processes with secrets in their command lines open a path under /dev in
// vain: the record has their names, and nothing more of what they were given.
func TestSecretsOfRealProcesses(t *testing.T) {
	forms, err := os.ReadFile("../guest/testdata/secrets.txt")
	if err != nil {
		t.Fatal(err)
	}
	r, m := newRecorder()
	r.Fill = origin.NewFinder("/").Fill
	told := 0
	for line := range strings.Lines(string(forms)) {
		args := strings.Split(strings.TrimSuffix(line, "\n"), "|")
		process := exec.Cmd{Path: "/proc/self/exe", Args: args, Env: []string{waitEnv + "=1"}}
		in, err := process.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := process.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		e := failedOpen(process.Process.Pid, "/dev/nothing", 0)
		e.Proc.Comm = "exe"
		r.Record(e)
		in.Close()
		if err := process.Wait(); err != nil {
			t.Fatal(err)
		}
		e = m.events[len(m.events)-1]
		if len(e.Proc.Args) == 1 && e.Proc.Args[0] == args[0] {
			told++
		}
		if text := string(e.AppendJSON(nil)); strings.Contains(text, "hunter2") {
			t.Errorf("%s: a secret: %s", args[0], text)
		}
	}
	if told != len(m.events) || told < 31 || len(m.of(event.Open)) != told {
		t.Errorf("the names of %d programs are in %d events", told, len(m.events))
	}
}
