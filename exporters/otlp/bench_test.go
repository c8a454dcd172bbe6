package otlp

import (
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/exporters/otlp/internal/troubled"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// BenchmarkEncode makes requests of a boot in which 1,000 guests, each with 32 disks,
// fail for want of them, are started again, and run: from the events to the bytes that
// are sent. Spans a second are those of the processor.
func BenchmarkEncode(b *testing.B) {
	events := troubled.Events(1000, 32)
	boot := timeline.Boot{ID: "33333333-3333-4333-8333-333333333333", Host: "kvm7"}
	spans, bytes := 0, 0
	m := ptrace.ProtoMarshaler{}
	before := processor(b)
	for b.Loop() {
		for _, r := range requestsOf(b, standsOf(boot, events)) {
			data, err := m.MarshalTraces(r)
			if err != nil {
				b.Fatal(err)
			}
			spans += r.SpanCount()
			bytes += len(data)
		}
	}
	b.ReportMetric(float64(spans)/(processor(b)-before), "spans/cpu-s")
	b.ReportMetric(float64(spans)/float64(b.N), "spans/op")
	b.ReportMetric(float64(bytes)/float64(spans), "bytes/span")
}

// processor is the processor time that this process has used, in seconds.
func processor(b *testing.B) float64 {
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	return float64(own.Utime.Nano()+own.Stime.Nano()) / 1e9
}
