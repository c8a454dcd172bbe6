package delivery

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/exporters/otlp"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

const (
	raceLog = "../../cmd/bootrace/testdata/logs/race.jsonl"
	raceID  = "0d2b306f-ab2c-4bb8-904f-64eca438565f"
)

// receiver keeps what it was sent, by span: sent twice must be the same.
type receiver struct {
	t     *testing.T
	spans map[trace.SpanID][]byte
	fail  error
	calls int
}

func (r *receiver) Send(_ context.Context, traces ptrace.Traces) error {
	r.calls++
	if r.fail != nil {
		return r.fail
	}
	for _, rs := range traces.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				one := ptrace.NewTraces()
				s.CopyTo(one.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty())
				m := ptrace.ProtoMarshaler{}
				data, err := m.MarshalTraces(one)
				if err != nil {
					r.t.Fatal(err)
				}
				id := trace.SpanID(s.SpanID())
				if before, ok := r.spans[id]; ok && !bytes.Equal(before, data) {
					r.t.Errorf("%s was sent before, with other content", s.Name())
				}
				r.spans[id] = data
			}
		}
	}
	return nil
}

// host is a host with recorded boots, a delivery and a receiver.
type host struct {
	*receiver
	t    *testing.T
	opts Options
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{receiver: &receiver{t: t, spans: map[trace.SpanID][]byte{}}, t: t}
	dir := t.TempDir()
	h.opts = Options{
		Store: bootlog.Store{Dirs: []string{dir}}, Dir: filepath.Join(dir, "export"), SpoolSize: 64 << 20,
		Sender: h.receiver, Log: slog.New(slog.DiscardHandler), Wait: time.Nanosecond,
		Settled: func(context.Context) (event.Time, bool) { return 0, false },
		Open:    open,
	}
	return h
}

func open(boot *bootlog.Boot) (*Record, error) {
	log, err := boot.Open()
	if err != nil {
		return nil, err
	}
	b := timeline.NewBuilder(timeline.Boot{ID: log.Header().BootID, Current: boot.Current}, timeline.Options{})
	return &Record{Builder: b, Events: log.Events(), Closer: log}, nil
}

// record puts lines of the recorded boot into the host's log of it.
func (h *host) record(lines []string) {
	h.t.Helper()
	path := filepath.Join(h.opts.Store.Dirs[0], raceID+".jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// deliver runs a delivery once, as after a restart.
func (h *host) deliver() Status {
	h.t.Helper()
	d, err := New(h.opts)
	if err != nil {
		h.t.Fatal(err)
	}
	_ = d.Once(h.t.Context())
	st, err := ReadStatus(h.opts.Dir)
	if err != nil {
		h.t.Fatal(err)
	}
	return st
}

func raceLines(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(raceLog)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(string(data), "\n")
}

// all is how many spans the whole boot has.
func all(t *testing.T) int {
	t.Helper()
	h := newHost(t)
	h.record(raceLines(t))
	h.deliver()
	return len(h.spans)
}

func TestSendsEachSpanOnce(t *testing.T) {
	h := newHost(t)
	h.record(raceLines(t))
	first := h.deliver()
	calls := h.calls
	second := h.deliver()
	if len(h.spans) == 0 || first.Sent != uint64(len(h.spans)) || first.Waiting != 0 || h.calls != calls || second.Sent != first.Sent {
		t.Errorf("%d spans, %+v, then %d more calls, %+v", len(h.spans), first, h.calls-calls, second)
	}
}

// A receiver that is down costs the spool, and nothing is lost by it, however
// often the delivery is started anew.
func TestDown(t *testing.T) {
	h := newHost(t)
	h.record(raceLines(t))
	h.fail = &otlp.Error{Address: "r", Why: "nothing listens there"}
	for range 3 {
		if st := h.deliver(); st.Waiting == 0 || !strings.Contains(st.SendError, "nothing listens there") {
			t.Errorf("status %+v", st)
		}
	}
	h.fail = nil
	if st := h.deliver(); st.Waiting != 0 || st.SendError != "" || len(h.spans) != all(t) {
		t.Errorf("%d spans, status %+v", len(h.spans), st)
	}
}

// The running boot is sent as far as it has settled; a guest that comes later is
// sent later, and the rest when the host has rebooted.
func TestSettles(t *testing.T) {
	lines := raceLines(t)
	cut := len(lines) / 2
	mark := `{"id":` + "100000" + `,"t_ns":7000000000,"kind":"mark","mark":{"name":"settled"}}` + "\n"
	h := newHost(t)
	h.opts.Store.Current = raceID
	h.record(lines[:cut])
	h.deliver()
	if len(h.spans) != 0 {
		t.Fatalf("%d spans of a boot that has not settled", len(h.spans))
	}
	h.record(append(append([]string{}, lines[:cut]...), mark))
	h.deliver()
	settled := len(h.spans)
	if settled == 0 {
		t.Fatal("nothing is sent of a boot that has settled")
	}
	h.record(append(append(append([]string{}, lines[:cut]...), mark), lines[cut:]...))
	if h.deliver(); len(h.spans) != settled {
		t.Errorf("%d spans more, though it has not settled again", len(h.spans)-settled)
	}
	h.opts.Store.Current = "" // it was rebooted
	if h.deliver(); len(h.spans) <= settled {
		t.Error("the rest is not sent after the reboot")
	}
}

// A crash between spooling and noting: what is in the spool counts as made.
func TestCrash(t *testing.T) {
	h := newHost(t)
	h.record(raceLines(t))
	h.fail = errors.New("down")
	h.deliver()
	d, err := New(h.opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(d.madePath(raceID)); err != nil {
		t.Fatal(err)
	}
	before, _ := d.spool.Depth()
	if st := h.deliver(); st.Waiting != before {
		t.Errorf("%d requests wait, and %d before", st.Waiting, before)
	}
}

// A spool without room leaves the boot in its log until there is some.
func TestFull(t *testing.T) {
	h := newHost(t)
	h.record(raceLines(t))
	h.opts.SpoolSize = 10
	if st := h.deliver(); !strings.Contains(st.MakeError, "the spool is full") || len(h.spans) != 0 {
		t.Errorf("status %+v", st)
	}
	h.opts.SpoolSize = 64 << 20
	if h.deliver(); len(h.spans) != all(t) {
		t.Errorf("%d spans", len(h.spans))
	}
}

// A disk without room leaves the boot in its log, too, and says so.
func TestDiskFull(t *testing.T) {
	h := newHost(t)
	h.record(raceLines(t))
	if err := os.Mkdir(h.opts.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", h.opts.Dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skipf("NOT RUN: no file system of its own for the spool: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(h.opts.Dir, 0) })
	d, err := New(h.opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Once(t.Context()); !errors.Is(err, unix.ENOSPC) || len(h.spans) != 0 || !strings.Contains(d.status.MakeError, "no space left on device") {
		t.Errorf("%d spans, %v, status %+v", len(h.spans), err, d.status)
	}
	if err := unix.Mount("", h.opts.Dir, "", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	if st := h.deliver(); st.MakeError != "" || len(h.spans) != all(t) {
		t.Errorf("%d spans, status %+v", len(h.spans), st)
	}
}

// What a receiver never takes is set aside and does not hold up the rest.
func TestRefused(t *testing.T) {
	h := newHost(t)
	h.record(raceLines(t))
	h.fail = &otlp.Error{Address: "r", Why: "bad", Final: true}
	if st := h.deliver(); st.Waiting != 0 || st.Refused == 0 || !strings.Contains(st.LastRefusal, "bad") {
		t.Errorf("status %+v", st)
	}
}

// An entry that the disk has not kept is set aside, too.
func TestDamaged(t *testing.T) {
	h := newHost(t)
	h.record(raceLines(t))
	h.fail = errors.New("down")
	h.deliver()
	files, err := filepath.Glob(filepath.Join(h.opts.Dir, "spool", "*.otlp"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], []byte{0xff, 0xff}, 0o600); err != nil {
		t.Fatal(err)
	}
	h.fail = nil
	if st := h.deliver(); st.Waiting != 0 || st.Refused != 1 {
		t.Errorf("status %+v", st)
	}
}

// The notes of a boot go with its log.
func TestForgets(t *testing.T) {
	h := newHost(t)
	h.record(raceLines(t))
	h.deliver()
	if err := os.Remove(filepath.Join(h.opts.Store.Dirs[0], raceID+".jsonl")); err != nil {
		t.Fatal(err)
	}
	h.deliver()
	if files, err := filepath.Glob(filepath.Join(h.opts.Dir, "*"+madeSuffix)); err != nil || len(files) != 0 {
		t.Errorf("notes %q, %v", files, err)
	}
}

// Waiting grows up to its limit, and a receiver's own wish counts.
func TestBackOff(t *testing.T) {
	h := newHost(t)
	h.opts.Wait, h.opts.MaxWait = time.Second, 8*time.Second
	d, err := New(h.opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 8 * time.Second} {
		d.backOff(errors.New("down"))
		if pause := time.Until(d.after); d.wait != want || pause > d.wait || pause < d.wait/3 {
			t.Errorf("waits %s of %s", pause, d.wait)
		}
	}
	d.backOff(&otlp.Error{After: time.Hour})
	if pause := time.Until(d.after); pause < 59*time.Minute {
		t.Errorf("waits %s", pause)
	}
}

// Run delivers until it is told to stop.
func TestRun(t *testing.T) {
	h := newHost(t)
	h.record(raceLines(t))
	d, err := New(h.opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := d.Run(ctx); err != nil || len(h.spans) != all(t) {
		t.Errorf("%d spans, %v", len(h.spans), err)
	}
}
