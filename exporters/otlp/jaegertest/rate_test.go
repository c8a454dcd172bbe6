package jaegertest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/exporters/otlp"
	"github.com/bootrace/bootrace/exporters/otlp/internal/troubled"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

const (
	// Each of the guests fails for want of its disks, is started again, and runs: 93,001
	// spans.
	rateGuests = 1000
	rateDisks  = 32
	leastRate  = 150_000 // spans a second, sending alone
	rounds     = 3
	mostHeap   = 512 << 20
)

// rate is how many spans a second were sent: by the clock, with Jaeger on the same
// processors, and by the time that this process alone was on one.
type rate struct{ clock, own float64 }

func (r *rate) best(other rate) { r.clock, r.own = max(r.clock, other.clock), max(r.own, other.own) }

func (r rate) String() string {
	return fmt.Sprintf("%.0f (%.0f a processor second of our own)", r.clock, r.own)
}

// A boot of 93,000 spans, with 1,000 guests in trouble: from its events to Jaeger, and
// the sending alone; beside the SDK's own way that loses none, the batch processor that
// blocks, and beside plain pdata, with as many spans that carry less. All talk gRPC to the
// same Jaeger, which runs on the same processors; the best of a few rounds counts. Where
// something else keeps the processors busy, the rate is what the time on them comes to.
func TestRate(t *testing.T) {
	j := newJaeger(t, "").start()
	var whole, sending, sdk, plain rate
	for round := range rounds {
		boot := fmt.Sprintf("33333333-3333-4333-8333-%012d", round)
		all, sent, spans := sendBoot(t, j, boot)
		whole.best(all)
		sending.best(sent)
		if got := strings.Count(string(j.get("/api/v3/traces/"+strings.ReplaceAll(boot, "-", ""))), `"spanId"`); got != spans {
			t.Errorf("%d of %d spans arrived", got, spans)
		}
		sdk.best(sendSDK(t, j, spans))
		plain.best(sendPlain(t, j, spans))
	}
	t.Logf("spans a second, on %d processors: timeline, encoding and sending %s; sending alone %s; the SDK's batch processor %s; plain pdata %s",
		runtime.NumCPU(), whole, sending, sdk, plain)
	if sending.clock < leastRate {
		t.Errorf("%.0f spans a second are less than %d", sending.clock, leastRate)
	}
}

func newClient(t *testing.T, j *jaeger) *otlp.Client {
	t.Helper()
	client, err := otlp.NewClient(otlp.Config{Endpoint: j.endpoint("grpc"), Protocol: otlp.GRPC, Compression: otlp.Uncompress, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// sendBoot sends a boot and another one like it, and returns how fast: the first from its
// events on, the second when its requests are made.
func sendBoot(t *testing.T, j *jaeger, bootID string) (whole, sending rate, spans int) {
	t.Helper()
	client := newClient(t, j)
	events := troubled.Events(rateGuests, rateDisks)
	runtime.GC()
	peak := watchHeap()
	whole = timed(t, j, func() (sent int) {
		for r := range encoded(t, bootID, events) {
			if err := client.Send(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			sent += r.SpanCount()
		}
		return sent
	})
	heap := peak()
	var made []ptrace.Traces
	for r := range encoded(t, "4"+bootID[1:], events) {
		made = append(made, r)
		spans += r.SpanCount()
	}
	sending = timed(t, j, func() int {
		for _, r := range made {
			if err := client.Send(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		return spans
	})
	t.Logf("%d spans, %.0f bytes each, the heap at most %d MiB", spans, float64(size(made))/float64(spans), heap>>20)
	if heap > mostHeap {
		t.Errorf("the heap grew to %d MiB", heap>>20)
	}
	return whole, sending, spans
}

func size(requests []ptrace.Traces) (n int) {
	m := ptrace.ProtoMarshaler{}
	for _, r := range requests {
		n += m.TracesSize(r)
	}
	return n
}

func encoded(t *testing.T, bootID string, list []event.Event) iter.Seq[ptrace.Traces] {
	t.Helper()
	b := timeline.NewBuilder(timeline.Boot{ID: bootID, Host: "kvm7"}, timeline.Options{})
	events := func(yield func(event.Event, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
	return func(yield func(ptrace.Traces) bool) {
		for r, err := range otlp.EncodeAll(b.Stands(events, false, 0)) {
			if err != nil {
				t.Fatal(err)
			}
			if !yield(r) {
				return
			}
		}
	}
}

// watchHeap returns a function that tells how large the heap became.
func watchHeap() func() uint64 {
	var peak atomic.Uint64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse))
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 { close(done); <-ended; return peak.Load() }
}

// sendSDK sends as many spans with the SDK, and returns how fast. They carry
// about what ours do.
func sendSDK(t *testing.T, j *jaeger, spans int) rate {
	t.Helper()
	ctx := context.Background()
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(j.endpoint("grpc")))
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter, sdktrace.WithBlocking(), sdktrace.WithMaxExportBatchSize(2000)))
	tracer := provider.Tracer("bench")
	return timed(t, j, func() int {
		for i := range spans {
			_, s := tracer.Start(ctx, "open /dev/vg0/guest", trace.WithAttributes(
				attribute.String("bootrace.guest.name", "guest"), attribute.String("file.path", "/dev/vg0/guest"),
				attribute.Int("process.pid", i), attribute.Bool("bootrace.race", false), attribute.Bool("bootrace.boot.complete", true),
				attribute.String("error.type", "ENOENT")))
			s.End()
		}
		if err := provider.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		return spans
	})
}

// sendPlain sends as many spans with pdata and nothing else, and returns how fast. They
// carry what the SDK's do.
func sendPlain(t *testing.T, j *jaeger, spans int) rate {
	t.Helper()
	client := newClient(t, j)
	return timed(t, j, func() int {
		for from := 0; from < spans; from += 2000 {
			traces := ptrace.NewTraces()
			list := traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
			for i := from; i < min(from+2000, spans); i++ {
				s := list.AppendEmpty()
				s.SetTraceID(pcommon.TraceID{1, 15: 1})
				s.SetSpanID(pcommon.SpanID{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i), 7: 1})
				s.SetName("open /dev/vg0/guest")
				s.SetStartTimestamp(pcommon.NewTimestampFromTime(time.Now()))
				s.SetEndTimestamp(pcommon.NewTimestampFromTime(time.Now()))
				a := s.Attributes()
				a.PutStr("bootrace.guest.name", "guest")
				a.PutStr("file.path", "/dev/vg0/guest")
				a.PutInt("process.pid", int64(i))
				a.PutBool("bootrace.race", false)
				a.PutBool("bootrace.boot.complete", true)
				a.PutStr("error.type", "ENOENT")
			}
			if err := client.Send(t.Context(), traces); err != nil {
				t.Fatal(err)
			}
		}
		return spans
	})
}

// timed is how fast work sends the spans that it counts: by the clock, or where the
// processors had other things to do for most of that time, by what it and Jaeger used of
// them.
func timed(t *testing.T, j *jaeger, work func() (spans int)) rate {
	t.Helper()
	start, own, all := time.Now(), ownCPU(t), usedCPU(t, j)
	spans := float64(work())
	clock, cpu := time.Since(start), (usedCPU(t, j)-all)/time.Duration(runtime.NumCPU())
	own = ownCPU(t) - own
	const busy = 0.6
	if cpu.Seconds() < busy*clock.Seconds() {
		t.Logf("NOT BY THE CLOCK: something else keeps the processors busy: %s by the clock, %s on the processors",
			clock.Round(time.Millisecond), cpu.Round(time.Millisecond))
		clock = cpu
	}
	return rate{spans / clock.Seconds(), spans / own.Seconds()}
}

// ownCPU is the processor time that this process has used.
func ownCPU(t *testing.T) time.Duration {
	t.Helper()
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		t.Fatal(err)
	}
	return time.Duration(own.Utime.Nano() + own.Stime.Nano())
}

// usedCPU is the processor time that this process and Jaeger have used.
func usedCPU(t *testing.T, j *jaeger) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", j.command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	// The second field, in parentheses, is the only one that can hold spaces.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const utime, stime, ticks = 11, 12, 100
	user, err1 := strconv.Atoi(fields[utime])
	system, err2 := strconv.Atoi(fields[stime])
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return ownCPU(t) + time.Duration(user+system)*time.Second/ticks
}
