package hold

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
)

// deadStorage is a gate whose second program lies where nothing answers any more.
type deadStorage struct {
	Gate
	dead    string
	reached chan struct{}
	over    <-chan struct{}
}

func (d deadStorage) Guard(path string) error {
	if path == d.dead {
		close(d.reached)
		<-d.over
	}
	return d.Gate.Guard(path)
}

// Where the programs are not found in time, nobody answers for those that are
// guarded by then: they go on, and nothing is held.
func TestStuckOpen(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may hold starts")
	}
	h := &host{t: t, program: filepath.Join(t.TempDir(), "qemu-system-a")}
	unpack(t, h.program)
	dead := filepath.Join(filepath.Dir(h.program), "qemu-system-b")
	unpack(t, dead)
	cfg := config.Default().Enforce
	cfg.Binaries = []string{filepath.Join(filepath.Dir(h.program), "qemu-system-*")}
	ctx, stop := context.WithCancel(t.Context())
	reached, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := Open(context.WithoutCancel(ctx), Options{
			attempts: []attempt{{gate: func() (Gate, error) {
				gate, err := openFanotify()
				return deadStorage{gate, dead, reached, ctx.Done()}, err
			}, execs: true}},
			Watch: newDisks().watch, Record: func(event.Event) {}, Config: cfg, Log: slog.New(slog.DiscardHandler),
		})
		ended <- err
	}()
	select {
	case <-reached:
	case err := <-ended:
		t.Skip("NOT RUN: ", err)
	}
	a := h.guest("a")
	for !a.held() {
		a.waits()
	}
	if status := a.ends(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	stop()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the programs") {
		t.Errorf("got %v", err)
	}
}
