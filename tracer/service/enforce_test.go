package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	if n := s.rec.Counts()[event.Source]; n < 2 {
		t.Errorf("%d events say when starts were held", n)
	}
}
