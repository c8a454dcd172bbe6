package main

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/check"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/hold"
	"github.com/bootrace/bootrace/tracer/service"
)

// What the running service holds is what check goes by.
func TestAskService(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control")
	var o check.Options
	if askService(t.Context(), socket, time.Minute, &o); o.Service != "" || o.ServiceErr != nil {
		t.Errorf("no service: %+v", o)
	}
	st := service.Status{PID: 7, FromInitramfs: true, HoldErr: "no kprobes", Hold: &hold.Status{Programs: []string{"/usr/bin/kvm"}}}
	server, err := control.Listen(socket, func(context.Context, int, control.Request) (any, error) { return st, nil }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(t.Context()) }()
	askService(t.Context(), socket, time.Minute, &o)
	if !strings.Contains(o.Service, "process 7") || !o.FromInitramfs || o.HoldErr != st.HoldErr || o.Held == nil || len(o.Held.Programs) != 1 || o.ServiceErr != nil {
		t.Errorf("got %+v", o)
	}
}

// A service that hangs is none that does not run, and check does not wait for it.
func TestAskHungService(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control")
	hung, err := net.Listen("unix", socket) // the kernel accepts, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	var o check.Options
	if askService(t.Context(), socket, 50*time.Millisecond, &o); o.ServiceErr == nil || o.Service != "" {
		t.Errorf("got %+v", o)
	}
}
