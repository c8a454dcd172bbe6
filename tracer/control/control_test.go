package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func serve(t *testing.T, handle Handler) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "control")
	s, err := Listen(path, handle, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return path
}

func TestCall(t *testing.T) {
	path := serve(t, func(_ context.Context, pid int, r Request) (any, error) {
		if r.Do != Status {
			return nil, errors.New("can't " + r.Do)
		}
		return map[string]any{"pid": pid, "arg": r.Args["a"]}, nil
	})
	var got struct {
		PID int
		Arg string
	}
	if err := Call(t.Context(), path, Request{Do: Status, Args: map[string]string{"a": "x\ny"}}, &got); err != nil {
		t.Fatal(err)
	}
	if got.PID != syscall.Getpid() || got.Arg != "x\ny" {
		t.Errorf("got %+v", got)
	}
	err := Call(t.Context(), path, Request{Do: "fly"}, nil)
	if err == nil || !strings.Contains(err.Error(), "can't fly") {
		t.Errorf("a handler's error arrives as %v", err)
	}
}

func TestNoService(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	if err := Call(t.Context(), path, Request{Do: Status}, nil); !errors.Is(err, ErrNoService) {
		t.Errorf("without a socket: %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := Call(t.Context(), path, Request{Do: Status}, nil); !errors.Is(err, ErrNoService) {
		t.Errorf("with a dead socket: %v", err)
	}
	s, err := Listen(path, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("a dead socket is not replaced: %v", err)
	}
	s.Close()
}

func TestOneService(t *testing.T) {
	path := serve(t, nil)
	if _, err := Listen(path, nil, slog.New(slog.DiscardHandler)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second service: %v", err)
	}
}

func TestSlowService(t *testing.T) {
	path := serve(t, func(ctx context.Context, _ int, _ Request) (any, error) {
		<-ctx.Done()
		return nil, nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Call(ctx, path, Request{Do: Status}, nil); err == nil {
		t.Error("a service that doesn't answer is no error")
	}
}
