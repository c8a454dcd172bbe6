package readiness

import (
	"fmt"
	"testing"

	"github.com/bootrace/bootrace/tracer/guest"
)

// From udev's event to the verdict, while others wait for other disks: their
// number must not matter. The host is made up: what the kernel takes to answer
// is not in it, but the files of a database of udev's are.
func BenchmarkWake(b *testing.B) {
	for _, others := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) { benchmarkWake(b, others) })
	}
}

func benchmarkWake(b *testing.B, others int) {
	h := newHost(b)
	for i := range others {
		w := h.tracker.watch(Request{Disks: []guest.Image{Path(fmt.Sprintf("/dev/vg0/other%d", i))}}, h)
		defer w.Close()
		<-w.Changed()
	}
	for b.Loop() {
		w := h.tracker.watch(Request{Disks: []guest.Image{Path(lv)}}, h)
		<-w.Changed()
		h.activate(1, "vg0-web", lv)
		h.deliver()
		if _, err := w.Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
		w.Close()
		h.deactivate(1, "vg0-web", lv)
		h.deliver()
	}
}
