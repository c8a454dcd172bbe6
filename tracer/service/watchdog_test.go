package service

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// While it is tried how starts can be held, which takes its time on a slow host,
// systemd is told that all is well, and `bootrace status` is answered.
func TestFedWhileTrying(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv(envSocket, socket)
	t.Setenv(envWatchdog, strconv.FormatInt(400*time.Millisecond.Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	s := testService(t, nil)
	s.enforcer.mu.Lock() // as follow does while it tries
	defer s.enforcer.mu.Unlock()

	ctx, stop := context.WithCancel(t.Context())
	fed := make(chan struct{})
	go func() { s.feed(ctx); close(fed) }()
	if err := systemd.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		said := make([]byte, 64)
		n, err := systemd.Read(said)
		if err != nil {
			t.Fatal("systemd hears nothing: ", err)
		}
		if string(said[:n]) != "WATCHDOG=1" {
			t.Errorf("systemd hears %q", said[:n])
		}
	}
	stop()
	<-fed
	answered := make(chan struct{})
	go func() { s.statusOf(t); close(answered) }()
	select {
	case <-answered:
	case <-time.After(10 * time.Second):
		t.Error("its status is not told")
	}
}
