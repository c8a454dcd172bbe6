package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/charmbracelet/x/ansi"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/service"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"bootrace": main,
		"asnobody": func() {
			if err := becomeNobody(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(125)
			}
			os.Args = os.Args[1:]
			main()
		},
		"incontainer": func() {
			fmt.Fprintln(os.Stderr, execWithout(containerLacks, append([]string{"bootrace"}, os.Args[2:]...)))
			os.Exit(125)
		},
	})
}

// containerLacks are capabilities that root in a container has not.
var containerLacks = []int{unix.CAP_SYS_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_PTRACE, unix.CAP_NET_ADMIN, unix.CAP_SYS_RESOURCE}

// execWithout goes on as this program with other arguments, and root without
// capabilities.
func execWithout(capabilities []int, args []string) error {
	runtime.LockOSThread() // the capabilities are this thread's
	for _, c := range capabilities {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return err
		}
	}
	return unix.Exec("/proc/self/exe", args, os.Environ())
}

// becomeNobody gives up root, in all threads.
func becomeNobody() error {
	if os.Geteuid() != 0 {
		return nil
	}
	return errors.Join(syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534))
}

// The scripts say what each command prints and how it ends. Besides what
// testscript has, they know:
//
//	exits STATUS PROGRAM ARG...  run it; what it says on stderr is one line, and JSON
//	                             that it prints is as the schema says
//	field PATH WANT              a field of the JSON on stdout; WANT is JSON or a string
//	fits COLUMNS                 no line of stdout is wider
//	[root], [devmapper], [service], [configured]
//
// Recorded boots are in logs/ of each script's folder: race.jsonl, in which a
// guest came 2.6 s before its volume, and clean.jsonl, in which it did not.
// They are made of events that a real host recorded.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("LC_ALL", "C.UTF-8")
			env.Setenv("TZ", "UTC")
			return os.CopyFS(filepath.Join(env.WorkDir, "logs"), os.DirFS("testdata/logs"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "field": field, "fits": fits,
		},
		Condition: condition,
	})
}

func condition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "devmapper":
		return devmap.Registered("/"), nil
	case "service":
		return exists(service.RunDir), nil
	case "configured":
		return exists("/etc/bootrace"), nil
	}
	return false, fmt.Errorf("condition %q is not known", name)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARG...")
	}
	status := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		status = exit.ExitCode()
	}
	if want := args[0]; strconv.Itoa(status) != want {
		ts.Fatalf("exit status %d, want %s", status, want)
	}
	if err := printed(args[1:], ts.ReadFile("stdout")); err != nil {
		ts.Fatalf("what it prints is not what exporters/json/schema.json says: %v", err)
	}
	switch said := ts.ReadFile("stderr"); {
	case said == "":
	case status == exitDone:
		ts.Fatalf("success, and yet stderr has %q", said)
	case strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "bootrace: "):
		ts.Fatalf("stderr is not one line that begins with the program's name: %q", said)
	}
}

func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field PATH WANT")
	}
	in := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	in.UseNumber()
	var v any
	ts.Check(in.Decode(&v))
	if in.More() {
		ts.Fatalf("more than one JSON document")
	}
	for _, key := range strings.Split(args[0], ".") {
		v = step(ts, v, key)
	}
	text, ok := v.(string)
	if !ok {
		var b bytes.Buffer
		out := json.NewEncoder(&b)
		out.SetEscapeHTML(false)
		ts.Check(out.Encode(v))
		text = strings.TrimSpace(b.String())
	}
	if text != args[1] {
		ts.Fatalf("%s is %s, want %s", args[0], text, args[1])
	}
}

// step goes from v to its field or element key; len is the number of elements.
func step(ts *testscript.TestScript, v any, key string) any {
	switch v := v.(type) {
	case map[string]any:
		if inner, ok := v[key]; ok {
			return inner
		}
	case []any:
		if key == "len" {
			return len(v)
		}
		if i, err := strconv.Atoi(key); err == nil && i < len(v) {
			return v[i]
		}
	}
	ts.Fatalf("there is no field %q", key)
	return nil
}

func fits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fits COLUMNS")
	}
	width, err := strconv.Atoi(args[0])
	ts.Check(err)
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if w := ansi.StringWidth(strings.TrimSuffix(line, "\n")); w > width {
			ts.Fatalf("%d columns: %q", w, line)
		}
	}
}
