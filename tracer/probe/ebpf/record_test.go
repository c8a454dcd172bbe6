package ebpf

import (
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"testing"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/probetest"
)

// The records under testdata/records come from TestRecord, run in a virtual
// machine with device-mapper: it prints lines "RECORD NUMBER-KIND BASE64", each
// of which is a file NUMBER-KIND.bin.
var record = flag.Bool("record", false, "print records for testdata/records")

func TestRecord(t *testing.T) {
	if !*record {
		t.Skip("run with -record to make new test data")
	}
	probetest.NeedDM(t)
	b := openTest(t, backend.Options{})
	probetest.Act(t, b)
	if err := b.reader.Flush(); err != nil {
		t.Fatal(err)
	}
	var r ringbuf.Record
	for n := 0; ; n++ {
		if err := b.reader.ReadInto(&r); errors.Is(err, ringbuf.ErrFlushed) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		h, _, err := view[bpf.Header](r.RawSample)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("RECORD %02d-%s %s\n", n, h.Kind, base64.StdEncoding.EncodeToString(r.RawSample))
	}
}
