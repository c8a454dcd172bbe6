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

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/exporters/otlp"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

const (
	// rateSpans is what is sent; a guest of bootEvents makes four spans.
	rateSpans  = 100_000
	rateGuests = rateSpans / 4
	leastRate  = 150_000 // spans a second
	rounds     = 3
	mostHeap   = 512 << 20
)

// A boot of 100,000 spans, beside the SDK's own way that loses none: the batch
// processor that blocks. Both talk gRPC to the same Jaeger, which runs on the
// same processors; the best of a few rounds counts. Where something else keeps
// the processors busy, the rate is what the time on them comes to.
func TestRate(t *testing.T) {
	j := newJaeger(t, "").start()
	var ours, sdk float64
	for round := range rounds {
		boot := fmt.Sprintf("33333333-3333-4333-8333-%012d", round)
		rate, spans := sendBoot(t, j, boot)
		ours = max(ours, rate)
		if got := strings.Count(string(j.get("/api/v3/traces/"+strings.ReplaceAll(boot, "-", ""))), `"spanId"`); got != spans {
			t.Errorf("%d of %d spans arrived", got, spans)
		}
		sdk = max(sdk, sendSDK(t, j, spans))
	}
	t.Logf("%.0f spans a second, %.0f by the SDK's batch processor, on %d processors", ours, sdk, runtime.NumCPU())
	if ours < leastRate {
		t.Errorf("%.0f spans a second are less than %d", ours, leastRate)
	}
}

// sendBoot sends a boot, and returns how fast.
func sendBoot(t *testing.T, j *jaeger, bootID string) (rate float64, spans int) {
	t.Helper()
	client, err := otlp.NewClient(otlp.Config{Endpoint: j.endpoint("grpc"), Protocol: otlp.GRPC, Compression: otlp.Uncompress, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var made []ptrace.Traces
	for r := range encoded(t, bootID) {
		made = append(made, r)
		spans += r.SpanCount()
	}
	runtime.GC()
	peak := watchHeap()
	took := timed(t, j, func() {
		for _, r := range made {
			if err := client.Send(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	})
	if heap := peak(); heap > mostHeap {
		t.Errorf("the heap grew to %d MiB", heap>>20)
	} else {
		t.Logf("%d spans, %.0f bytes each, in %s, the heap at most %d MiB", spans, float64(size(made))/float64(spans), took.Round(time.Millisecond), heap>>20)
	}
	return float64(spans) / took.Seconds(), spans
}

func size(requests []ptrace.Traces) (n int) {
	m := ptrace.ProtoMarshaler{}
	for _, r := range requests {
		n += m.TracesSize(r)
	}
	return n
}

func encoded(t *testing.T, bootID string) iter.Seq[ptrace.Traces] {
	t.Helper()
	b := timeline.NewBuilder(timeline.Boot{ID: bootID, Host: "kvm7"}, timeline.Options{})
	events := func(yield func(event.Event, error) bool) {
		for _, e := range bootEvents(rateGuests) {
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
func sendSDK(t *testing.T, j *jaeger, spans int) float64 {
	t.Helper()
	ctx := context.Background()
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(j.endpoint("grpc")))
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter, sdktrace.WithBlocking(), sdktrace.WithMaxExportBatchSize(2000)))
	tracer := provider.Tracer("bench")
	took := timed(t, j, func() {
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
	})
	return float64(spans) / took.Seconds()
}

// timed is how long work takes: by the clock, or where the processors had other
// things to do for most of that time, what it and Jaeger used of them.
func timed(t *testing.T, j *jaeger, work func()) time.Duration {
	t.Helper()
	start, used := time.Now(), usedCPU(t, j)
	work()
	clock, cpu := time.Since(start), (usedCPU(t, j)-used)/time.Duration(runtime.NumCPU())
	const busy = 0.6
	if cpu.Seconds() < busy*clock.Seconds() {
		t.Logf("NOT BY THE CLOCK: something else keeps the processors busy: %s by the clock, %s on the processors",
			clock.Round(time.Millisecond), cpu.Round(time.Millisecond))
		return cpu
	}
	return clock
}

// usedCPU is the processor time that this process and Jaeger have used.
func usedCPU(t *testing.T, j *jaeger) time.Duration {
	t.Helper()
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		t.Fatal(err)
	}
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
	return time.Duration(own.Utime.Nano()+own.Stime.Nano()) + time.Duration(user+system)*time.Second/ticks
}
