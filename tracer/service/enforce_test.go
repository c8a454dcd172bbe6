package service

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
)

// groups counts the fanotify groups of this process's threads: one of them has
// descriptors of its own.
func groups(t *testing.T) int {
	t.Helper()
	descriptors, err := filepath.Glob("/proc/self/task/*/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range descriptors {
		if target, err := os.Readlink(fd); err == nil && strings.Contains(target, "[fanotify]") {
			n++
		}
	}
	return n
}

// In trace mode there is nothing that could hold anybody; enforce mode comes and
// goes by a reload.
func TestModes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may hold starts")
	}
	cfg := config.Default()
	cfg.Enforce.Binaries = []string{filepath.Join(t.TempDir(), "qemu-*")}
	s := testService(t, func(o *Options) {
		o.Config = func() (config.Config, error) { return cfg, nil }
	})
	t.Cleanup(func() { s.enforcer.close(); s.background.Wait() })
	s.enforcer.follow(t.Context())
	if st := s.statusOf(t); groups(t) != 0 || st.Hold != nil || st.HoldErr != "" {
		t.Errorf("in trace mode: %d groups, %+v", groups(t), st.Hold)
	}
	if _, err := s.answer(t.Context(), 1, control.Request{Do: control.Release, Args: map[string]string{"guest": "a"}}); err == nil || !strings.Contains(err.Error(), "the mode is trace") {
		t.Errorf("release: %v", err)
	}
	cfg.Mode = config.Enforcing
	s.reload()
	<-s.mode
	s.enforcer.follow(t.Context())
	st := s.statusOf(t)
	if st.HoldErr != "" {
		t.Skip("NOT RUN: ", st.HoldErr)
	}
	if groups(t) != 1 || st.Hold == nil || len(st.Hold.Unused) != 1 {
		t.Errorf("in enforce mode: %d groups, %+v", groups(t), st.Hold)
	}
	if _, err := s.answer(t.Context(), 1, control.Request{Do: control.Release, Args: map[string]string{"guest": "a"}}); err == nil || !strings.Contains(err.Error(), `no guest called "a" is held`) {
		t.Errorf("release: %v", err)
	}
	if err := s.enforcer.healthy(); err != nil {
		t.Error(err)
	}
	cfg.Mode = config.Trace
	s.reload()
	s.enforcer.follow(t.Context())
	if st := s.statusOf(t); groups(t) != 0 || st.Hold != nil {
		t.Errorf("back in trace mode: %d groups, %+v", groups(t), st.Hold)
	}
	if n := s.rec.Counts()[event.Policy]; n != 3 {
		t.Errorf("the policy is recorded %d times: at the start, and at each change of the mode", n)
	}
	if n := s.rec.Counts()[event.Source]; n < 2 {
		t.Errorf("%d events say when starts were held", n)
	}
}

// What libvirt's hook has let go at its deadline is not held once more, and another
// guest is.
func TestHookLetsGo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may hold starts")
	}
	program := filepath.Join(t.TempDir(), "qemu-system-x86_64")
	data, err := os.ReadFile("/bin/true")
	if err == nil {
		err = os.WriteFile(program, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Mode, cfg.Enforce.Binaries, cfg.Enforce.Deadline = config.Enforcing, []string{program}, 2*time.Second
	s := testService(t, func(o *Options) { o.Config = func() (config.Config, error) { return cfg, nil } })
	t.Cleanup(func() { s.enforcer.close(); s.background.Wait() })
	s.enforcer.follow(t.Context())
	if st := s.statusOf(t); st.HoldErr != "" {
		t.Skip("NOT RUN: ", st.HoldErr)
	}
	const uuid = "3aad3b6b-ddf8-474a-8906-06d83ef318cb"
	told := control.Request{Do: control.HookHeld, Args: map[string]string{"text": "not ready", "let-go": uuid}}
	if _, err := s.answer(t.Context(), 1, told); err != nil {
		t.Fatal(err)
	}
	for held := range uint64(2) { // the first is let go
		start := exec.Command("/bin/sh", "-c", `exec "$0" "$@"`, program, "-name", "web", "-uuid", uuid, "-drive", "file=/dev/nowhere/web,format=raw,if=none")
		if out, err := start.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		c := s.statusOf(t).Hold.Counts
		for range 1000 { // it is counted after it goes on
			if c = s.statusOf(t).Hold.Counts; c.Passed+c.Allowed == held+1 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if c.Held != held || c.Passed != 1 {
			t.Errorf("after start %d: %+v", held+1, c)
		}
	}
}
