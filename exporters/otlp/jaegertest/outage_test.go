package jaegertest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/bootrace/bootrace/exporters/delivery"
	"github.com/bootrace/bootrace/exporters/otlp"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// The boots of the outage's host: the first is large enough for many requests.
const (
	firstBoot  = "11111111-1111-4111-8111-111111111111"
	secondBoot = "22222222-2222-4222-8222-222222222222"
	manyGuests = 3000
)

// writeBoot writes the log of a boot that starts guests and has settled, once
// for those and once for a guest that came later.
func writeBoot(t *testing.T, dir, bootID string, guests int) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, bootID+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintf(f, `{"bootrace_log":1,"boot_id":%q,"host":"kvm7","started_ns":1}`+"\n", bootID)
	for _, e := range bootEvents(guests) {
		if _, err := f.Write(append(e.AppendJSON(nil), '\n')); err != nil {
			t.Fatal(err)
		}
	}
}

func bootEvents(guests int) []event.Event {
	const ms = event.Time(time.Millisecond)
	events := []event.Event{{At: ms, Kind: event.Clock, Clock: &event.ClockInfo{WallOffset: 1795593534529908368, Trusted: true}}}
	at := 1000 * ms
	start := func(i int) {
		proc := &event.Proc{PID: 1000 + i, PPID: 1, Comm: "qemu-system-x86"}
		path := fmt.Sprintf("/dev/vg0/guest-%d", i)
		events = append(events,
			event.Event{At: at, Kind: event.Exec, Proc: proc, Exec: &event.ExecInfo{Filename: "/usr/bin/qemu-system-x86_64",
				Args: []string{"qemu-system-x86_64", "-name", fmt.Sprintf("guest-%d", i), "-drive", "format=raw,file=" + path}}},
			event.Event{At: at + ms, Kind: event.Open, Proc: proc, Open: &event.OpenInfo{Path: path, Errno: 2, Size: -1}},
			event.Event{At: at + 2*ms, Kind: event.Exit, Proc: proc, Exit: &event.ExitInfo{Status: 1}})
		at += 3 * ms
	}
	settled := func() {
		at += 60000 * ms
		events = append(events, event.Event{At: at, Kind: event.Mark, Mark: &event.MarkInfo{Name: event.MarkSettled}})
	}
	for i := range guests {
		start(i)
	}
	settled()
	start(guests)
	settled()
	for i := range events {
		events[i].ID = uint64(i + 1)
	}
	return events
}

// flaky does something after each request that was taken.
type flaky struct {
	delivery.Sender
	sent  int
	after func(sent int)
}

func (f *flaky) Send(ctx context.Context, traces ptrace.Traces) error {
	err := f.Sender.Send(ctx, traces)
	if err == nil {
		f.sent++
		f.after(f.sent)
	}
	return err
}

// Jaeger is gone before, during and after sending, each time without a warning;
// in between the host reboots twice. In the end each span is there, once.
func TestOutage(t *testing.T) {
	j := newJaeger(t, t.TempDir())
	dir := t.TempDir()
	writeBoot(t, dir, firstBoot, manyGuests)

	// Before: it is not there at all.
	st := deliver(t, j, dir, firstBoot, nil)
	if st.Waiting < 3 || st.SendError == "" {
		t.Fatalf("status %+v", st)
	}
	// During: its power goes after the second request. Then the host reboots.
	j.start()
	st = deliver(t, j, dir, firstBoot, func(sent int) {
		if sent == 2 {
			j.stop()
		}
	})
	if st.Waiting == 0 || st.SendError == "" {
		t.Fatalf("status %+v", st)
	}
	writeBoot(t, dir, secondBoot, 10)
	st = deliver(t, j, dir, secondBoot, nil)
	if st.Waiting == 0 {
		t.Fatalf("status %+v", st)
	}
	j.start()
	if st = deliver(t, j, dir, secondBoot, nil); st.Waiting != 0 || st.SendError != "" || st.Refused != 0 {
		t.Fatalf("status %+v", st)
	}
	// After: it comes back with what it had, and the host reboots once more.
	j.stop()
	deliver(t, j, dir, "", nil)
	j.start()
	if st = deliver(t, j, dir, "", nil); st.Waiting != 0 {
		t.Fatalf("status %+v", st)
	}
	for _, boot := range []string{firstBoot, secondBoot} {
		made := spansOf(madeOf(t, filepath.Join(dir, boot+".jsonl"))...)
		compare(t, made, j.trace(boot))
		t.Logf("boot %s: %d spans, each once", boot, len(made))
	}
}

// deliver runs the host's delivery for a while: current is the boot that runs.
func deliver(t *testing.T, j *jaeger, dir, current string, after func(sent int)) delivery.Status {
	t.Helper()
	client, err := otlp.NewClient(otlp.Config{Endpoint: j.endpoint("grpc"), Protocol: otlp.GRPC, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var sender delivery.Sender = client
	if after != nil {
		sender = &flaky{Sender: client, after: after}
	}
	d, err := delivery.New(delivery.Options{
		Store: bootlog.Store{Dirs: []string{dir}, Current: current}, Dir: filepath.Join(dir, "export"),
		SpoolSize: 64 << 20, Sender: sender, Log: slog.New(slog.DiscardHandler),
		Settled: func(context.Context) (event.Time, bool) { return 0, false },
		Open: func(boot *bootlog.Boot) (*delivery.Record, error) {
			log, err := boot.Open()
			if err != nil {
				return nil, err
			}
			h := log.Header()
			b := timeline.NewBuilder(timeline.Boot{ID: h.BootID, Host: h.HostName, Current: boot.Current}, timeline.Options{})
			return &delivery.Record{Builder: b, Events: log.Events(), Closer: log}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := delivery.ReadStatus(filepath.Join(dir, "export"))
	if err != nil {
		t.Fatal(err)
	}
	return st
}
