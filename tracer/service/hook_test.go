package service

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/hold"
	"github.com/bootrace/bootrace/tracer/readiness"
)

// hooked calls the service as libvirt's hook does, and returns what ends the hold.
func (s *Service) hooked(t *testing.T, ctx context.Context, pid int, name string) chan any {
	t.Helper()
	start := HookStart{Guest: name, Identity: "uuid:" + name, Since: event.Now(), Deadline: event.Now().Add(time.Minute),
		Blockers: []readiness.Blocker{{Kind: readiness.Missing, Path: "/dev/vg0/" + name, Detail: "does not exist"}}}
	text, err := json.Marshal(&start)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan any, 1)
	go func() {
		why, err := s.answer(ctx, pid, control.Request{Do: control.HookHold, Args: map[string]string{"start": string(text)}})
		if err != nil {
			why = err
		}
		ended <- why
	}()
	s.until(t, func() bool {
		st := s.statusOf(t)
		return st.Hold != nil && slices.ContainsFunc(st.Hold.Holds, func(h hold.Held) bool { return h.Guest == name })
	})
	return ended
}

func (s *Service) until(t *testing.T, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("it never comes to be: %+v", s.statusOf(t).Hold)
}

// A hold of libvirt's hook is one like any other: it is listed, released, counted
// and recorded, and it ends with its hook, and with the mode.
func TestHookHolds(t *testing.T) {
	cfg := config.Default()
	cfg.Mode = config.Enforcing
	s := testService(t, func(o *Options) { o.Config = func() (config.Config, error) { return cfg, nil } })
	s.cfg.Store(&cfg)
	released := s.hooked(t, t.Context(), 10, "a")
	if h := s.statusOf(t).Hold.Holds[0]; !h.Hook || h.PID != 10 || h.Identity != "uuid:a" || len(h.Blockers) != 1 || h.Left <= 0 {
		t.Errorf("held: %+v", h)
	}
	if names, err := s.enforcer.release("A"); err != nil || !slices.Equal(names, []string{"a"}) {
		t.Errorf("released %q, %v", names, err)
	}
	if why := <-released; why != event.ReleaseByHand {
		t.Errorf("ended: %v", why)
	}
	end, err := json.Marshal(HookEnd{HookStart{Guest: "a", Identity: "uuid:a"}, event.ReleaseByHand, event.HoldAllowed})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.answer(t.Context(), 10, control.Request{Do: control.HookHeld, Args: map[string]string{"end": string(end)}}); err != nil {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	s.hooked(t, gone, 11, "b")
	cancel()
	s.until(t, func() bool { return s.statusOf(t).Hold.Counts.Gone == 1 })
	ended := s.hooked(t, t.Context(), 12, "c")
	cfg.Mode = config.Trace
	s.cfg.Store(&cfg)
	s.enforcer.follow(t.Context())
	if why := <-ended; why != event.ReleaseTraceMode {
		t.Errorf("ended: %v", why)
	}
	s.until(t, func() bool { return s.statusOf(t).Hold.Counts.Allowed == 2 })
	if c := s.statusOf(t).Hold.Counts; c.Held != 3 || c.Holding != 0 {
		t.Errorf("counts %+v", c)
	}
	s.until(t, func() bool { return s.rec.Counts()[event.Release] == 3 }) // recorded just after it is counted
	if n := s.rec.Counts(); n[event.Hold] != 3 {
		t.Errorf("recorded: %v", n)
	}
}

// A domain is recorded in trace mode, too, and the answer does not hold it.
func TestHookRecordsDomain(t *testing.T) {
	s := testService(t, nil)
	got, err := s.answer(t.Context(), 10, control.Request{Do: control.Policy, Args: map[string]string{
		"name": "a", "domain": `{"name":"a","phase":"prepare/begin","disks":[{"path":"/dev/vg0/a"}]}`,
	}})
	if p, ok := got.(StartPolicy); err != nil || !ok || p.Enforce {
		t.Errorf("%+v, %v", got, err)
	}
	if n := s.rec.Counts()[event.Domain]; n != 1 {
		t.Errorf("%d domains are recorded", n)
	}
}

// `bootrace status`, and with it the take-over by another instance, is answered
// whatever is held: a thousand starts, and one that waits for thousands of disks
// with the longest of names.
func TestStatusOfMany(t *testing.T) {
	cfg := config.Default()
	cfg.Mode = config.Enforcing
	s := testService(t, func(o *Options) { o.Config = func() (config.Config, error) { return cfg, nil } })
	s.cfg.Store(&cfg)
	start := HookStart{Guest: "many", Since: event.Now()}
	for i := range 5000 {
		start.Blockers = append(start.Blockers, readiness.Blocker{Path: fmt.Sprint("/dev/vg0/", i, strings.Repeat("x", 4000)), Detail: strings.Repeat("y", 4000)})
	}
	s.hooks.mu.Lock()
	for pid := range 1000 {
		s.hooks.held[pid] = &hooked{start: start}
	}
	s.hooks.counts.Held = 1000
	s.hooks.mu.Unlock()
	socket := s.listen(t)
	var st Status
	if err := control.Call(t.Context(), socket, control.Request{Do: control.Status}, &st); err != nil {
		t.Fatal(err)
	}
	if n := len(st.Hold.Holds); n != 1000 {
		t.Fatalf("%d holds", n)
	}
	if h := &st.Hold.Holds[0]; len(h.Blockers)+h.More != 5000 || len(h.Blockers) == 0 {
		t.Errorf("%d blockers and %d more", len(h.Blockers), h.More)
	}
}

// listen serves s on a socket of its own.
func (s *Service) listen(t *testing.T) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "control")
	server, err := control.Listen(socket, s.answer, s.log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { _ = server.Serve(ctx) }()
	return socket
}
