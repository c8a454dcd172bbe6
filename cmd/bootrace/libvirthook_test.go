package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/readiness"
	"github.com/bootrace/bootrace/tracer/service"
)

const domainXML = `<domain><name>web</name><uuid>3aad3b6b-ddf8-474a-8906-06d83ef318cb</uuid><devices>
<disk type='block' device='disk'><driver type='raw'/><source dev='/dev/vg0/web'/><target dev='vda'/></disk></devices></domain>`

// Whatever happens, the start goes on, unless the policy is to deny it.
func TestLibvirtHook(t *testing.T) {
	enforce := service.StartPolicy{Enforce: true, Deadline: time.Minute}
	deny := enforce
	deny.Deny = true
	ready := waited{Verdict: readiness.Verdict{Ready: true, At: 1}, Waited: time.Second}
	late := waited{Verdict: readiness.Verdict{At: 1, Blockers: []readiness.Blocker{{Kind: readiness.Missing, Path: "/dev/vg0/web"}}}}
	timeout := errors.New("not ready")
	for _, tc := range []struct {
		name    string
		xml     string
		answer  any // nil: no service; an error: the service's
		out     waited
		err     error
		waits   bool
		denied  bool
		records bool
		letGo   bool // its exec is not to be held once more
	}{
		{name: "no service", xml: domainXML},
		{name: "a service that fails", xml: domainXML, answer: errors.New("no")},
		{name: "trace mode", xml: domainXML, answer: service.StartPolicy{}},
		{name: "no deadline", xml: domainXML, answer: service.StartPolicy{Enforce: true}},
		{name: "ready after a while", xml: domainXML, answer: enforce, out: ready, waits: true, records: true},
		{name: "too late, allow", xml: domainXML, answer: enforce, out: late, err: timeout, waits: true, records: true, letGo: true},
		{name: "too late, deny", xml: domainXML, answer: deny, out: late, err: timeout, waits: true, denied: true, records: true},
		{name: "no netlink, deny", xml: domainXML, answer: deny, err: errors.New("no netlink"), waits: true},
		{name: "not XML, deny", xml: "<domain", answer: deny},
		{name: "no disks, deny", xml: "<domain><name>web</name></domain>", answer: deny},
	} {
		t.Run(tc.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "control")
			recorded, letGo := false, ""
			if tc.answer != nil {
				server, err := control.Listen(socket, func(ctx context.Context, _ int, r control.Request) (any, error) {
					switch {
					case r.Do == control.HookHold:
						<-ctx.Done() // nobody releases it
						return nil, ctx.Err()
					case r.Do == control.HookHeld:
						recorded, letGo = true, r.Args["let-go"]
						return nil, nil
					case r.Do != control.Policy || r.Args["name"] != "web" || !strings.Contains(r.Args["domain"], event.DomainStarts):
						t.Errorf("asked %+v", r)
					}
					if err, ok := tc.answer.(error); ok {
						return nil, err
					}
					return tc.answer, nil
				}, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() { _ = server.Serve(ctx) }()
			}
			waits := false
			h := libvirtHook{in: strings.NewReader(tc.xml), socket: socket, log: slog.New(slog.DiscardHandler), begin: time.Minute,
				wait: func(_ context.Context, r readiness.Request, limit time.Duration, _ *slog.Logger, tell func(*readiness.Verdict)) (waited, error) {
					waits = true
					if tc.out.At != 0 {
						tell(&late.Verdict)
					}
					if limit != time.Minute || len(r.Disks) != 1 || r.Disks[0].Path != "/dev/vg0/web" {
						t.Errorf("waits %s for %+v", limit, r)
					}
					return tc.out, tc.err
				}}
			err := h.bounded(t.Context())
			var exit *exitError
			if denied := errors.As(err, &exit) && exit.status == exitNotYet; denied != tc.denied || err != nil && !denied {
				t.Errorf("%v", err)
			}
			if waits != tc.waits {
				t.Errorf("waits %v", waits)
			}
			if recorded != tc.records {
				t.Errorf("recorded %v", recorded)
			}
			if want := map[bool]string{true: "3aad3b6b-ddf8-474a-8906-06d83ef318cb"}[tc.letGo]; letGo != want {
				t.Errorf("%q is let go, want %q", letGo, want)
			}
		})
	}
}

// hookOf is a hook on the domain that waits for what never comes.
func hookOf(socket string) libvirtHook {
	return libvirtHook{in: strings.NewReader(domainXML), socket: socket, log: slog.New(slog.DiscardHandler), begin: time.Minute,
		wait: func(ctx context.Context, _ readiness.Request, _ time.Duration, _ *slog.Logger, tell func(*readiness.Verdict)) (waited, error) {
			v := readiness.Verdict{At: 1, Blockers: []readiness.Blocker{{Kind: readiness.Missing, Path: "/dev/vg0/web"}}}
			tell(&v)
			<-ctx.Done()
			return waited{Verdict: v}, ctx.Err()
		}}
}

func answering(t *testing.T, answer control.Handler) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "control")
	server, err := control.Listen(socket, answer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { _ = server.Serve(ctx) }()
	return socket
}

// A hold of the hook's ends when the service says so, be the policy to deny, and
// with the service.
func TestHookIsReleased(t *testing.T) {
	policy := service.StartPolicy{Enforce: true, Deadline: time.Minute, Deny: true}
	ended := make(chan string, 1)
	h := hookOf(answering(t, func(_ context.Context, _ int, r control.Request) (any, error) {
		switch r.Do {
		case control.Policy:
			return policy, nil
		case control.HookHold:
			return event.ReleaseByHand, nil
		}
		ended <- r.Args["end"]
		return nil, nil
	}))
	if err := h.bounded(t.Context()); err != nil {
		t.Error(err)
	}
	var end service.HookEnd
	if err := json.Unmarshal([]byte(<-ended), &end); err != nil || end.Reason != event.ReleaseByHand || end.Outcome != event.HoldAllowed || end.Guest != "web" {
		t.Errorf("%v, %+v", err, end)
	}
}

// The hook comes to an end by itself where the service hangs, or libvirt never
// hands the domain over.
func TestHookIsBounded(t *testing.T) {
	hung := hookOf(answering(t, func(ctx context.Context, _ int, _ control.Request) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	if err := hung.bounded(t.Context()); err != nil {
		t.Error(err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	silent := hookOf("")
	silent.in, silent.begin = in, 50*time.Millisecond
	if err := silent.bounded(t.Context()); err != nil {
		t.Error(err)
	}
}
