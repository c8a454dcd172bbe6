package otlp

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/bootrace/bootrace/tracer/event"
)

// TraceID is the trace of the boot with that id: the same 16 bytes.
func TraceID(bootID string) (trace.TraceID, error) {
	var id trace.TraceID
	bytes, err := hex.DecodeString(strings.ReplaceAll(bootID, "-", ""))
	if err != nil || len(bytes) != len(id) {
		return id, fmt.Errorf("boot id %q is not a UUID", bootID)
	}
	copy(id[:], bytes)
	if !id.IsValid() {
		return id, fmt.Errorf("boot id %q names no boot", bootID)
	}
	return id, nil
}

// spanID follows from what a span stands for. A key is unique among the spans
// of one kind that start at the same time.
func spanID(boot trace.TraceID, kind, key string, start event.Time) trace.SpanID {
	h := sha256.New()
	h.Write(boot[:])
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(start))
	h.Write(at[:])
	h.Write([]byte(kind))
	h.Write([]byte{0})
	h.Write([]byte(key))
	var sum [sha256.Size]byte
	var id trace.SpanID
	copy(id[:], h.Sum(sum[:0]))
	if !id.IsValid() {
		id[0] = 1 // all zero means none
	}
	return id
}

// bootSpanID is that of a boot's own span, so that the next boot can link to it.
func bootSpanID(boot trace.TraceID) trace.SpanID { return spanID(boot, "boot", "", 0) }
