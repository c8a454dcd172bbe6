package service

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/control"
)

// asReader is the variable of the environment that makes this test binary a user who
// reads: the folder above those of a service.
const asReader = "BOOTRACE_TEST_READER"

func TestMain(m *testing.M) {
	if root := os.Getenv(asReader); root != "" {
		if err := json.NewEncoder(os.Stdout).Encode(readAs(root)); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// read is what a user could do.
type read struct {
	Boots, Events int
	Status        bool
	Refused       map[string]string // requests, with the error
	Files         []string          // others that could be opened
}

func readAs(root string) read {
	r := read{Refused: map[string]string{}}
	store := bootlog.Store{Dirs: []string{filepath.Join(root, "var"), filepath.Join(root, "run")}}
	boots, _ := store.List()
	for _, b := range boots {
		if l, err := bootlog.Open(b.Paths[0]); err == nil {
			r.Boots++
			for range l.Events() {
				r.Events++
			}
			l.Close()
		}
	}
	socket := filepath.Join(root, "run", "control")
	var st Status
	r.Status = control.Call(context.Background(), socket, control.Request{Do: control.Status}, &st) == nil && st.PID > 0
	for _, do := range []string{control.Release, control.Accept, control.Repair, control.Relinquish, control.Stop, control.Adopt, control.Policy, control.Disks, control.HookHold, control.HookHeld} {
		err := control.Call(context.Background(), socket, control.Request{Do: do, Args: map[string]string{"guest": "x"}}, nil)
		r.Refused[do] = "nothing"
		if err != nil {
			r.Refused[do] = err.Error()
		}
	}
	for _, name := range []string{"var/secret", "run/secret"} {
		if f, err := os.Open(filepath.Join(root, name)); err == nil {
			r.Files = append(r.Files, name)
			f.Close()
		}
	}
	return r
}

// Members of the group may read the boots, this one's and earlier ones, compressed or
// not, and the status. They can change nothing, and who is no member can do nothing.
func TestReaders(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: only root can be another user")
	}
	const group = 29920
	root, err := os.MkdirTemp("", "readers")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(root, 0o755))
	program := filepath.Join(root, "reader")
	copyProgram(t, program)
	// A boot of which the log is from before there was a group, and one of before it.
	for _, dir := range []string{"var", "run"} {
		must(os.Mkdir(filepath.Join(root, dir), 0o700))
		must(os.WriteFile(filepath.Join(root, dir, "secret"), nil, 0o600))
	}
	for n, id := range []string{"11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"} {
		w, err := bootlog.NewWriter(bootlog.WriterOptions{
			Header: bootlog.Header{BootID: id}, Dirs: []string{filepath.Join(root, "var")}, Logger: slog.New(slog.DiscardHandler)})
		must(err)
		e := mark("start", "")
		w.Append(&e)
		must(w.Close())
		if n == 0 {
			store := bootlog.Store{Dirs: []string{filepath.Join(root, "var")}}
			must(store.Rotate(t.Context(), bootlog.Limits{}))
		}
	}
	s := testService(t, func(o *Options) {
		o.RunDir, o.StateDir = filepath.Join(root, "run"), filepath.Join(root, "var")
		o.Readers = func() int { return group }
	})
	s.rec.Record(mark("start", ""))
	s.server, err = control.Listen(filepath.Join(root, "run", "control"), s.answer, s.log)
	must(err)
	s.share(t.Context())
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(ctx) }()
	defer func() { stop(); must(<-served) }()
	_, err = s.do(t, control.Sync)
	must(err)
	// What is compressed later stays readable.
	store, limits := s.store()
	must(store.Rotate(t.Context(), limits))

	as := func(uid, gid uint32, groups ...uint32) read {
		t.Helper()
		cmd := exec.Command(program)
		cmd.Env, cmd.Dir = []string{asReader + "=" + root}, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.Output()
		must(err)
		var r read
		must(json.Unmarshal(out, &r))
		return r
	}
	for name, r := range map[string]read{"a supplementary group": as(29921, 29921, group), "the primary group": as(29921, group)} {
		if r.Boots != 3 || r.Events != 3 || !r.Status || len(r.Files) > 0 {
			t.Errorf("%s: %+v", name, r)
		}
		for do, why := range r.Refused {
			if !strings.Contains(why, "only root may ask it to "+do) {
				t.Errorf("%s: %s: %s", name, do, why)
			}
		}
	}
	r := as(29922, 29922)
	if r.Boots != 0 || r.Status || len(r.Files) > 0 {
		t.Errorf("no member: %+v", r)
	}
	for do, why := range r.Refused {
		if !strings.Contains(why, "only root and the members of group bootrace may") {
			t.Errorf("no member: %s: %s", do, why)
		}
	}
	if st := s.statusOf(t); st.PID == 0 || ctx.Err() != nil {
		t.Error("the service was stopped")
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
