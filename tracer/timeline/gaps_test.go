package timeline

import (
	"slices"
	"testing"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/event"
)

// What the probes may lose puts in doubt what it is about, and not the whole boot.
func TestLossSubjects(t *testing.T) {
	whole := []bpf.Kind{bpf.KindGuest} // a guest that is not known can be any
	for kind := bpf.Kind(1); kind < bpf.KindMax; kind++ {
		all := lossSubject(&event.LossInfo{Source: "ebpf", What: kind.String()}) == whatAll
		if all != slices.Contains(whole, kind) {
			t.Errorf("a loss of %q puts the whole boot in doubt: %t", kind, all)
		}
	}
}
