package hold

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
)

// A start that waits for thousands of disks is told in a few lines, and how many
// there are is told, too.
func TestManyDisks(t *testing.T) {
	h := newHost(t, nil)
	const n = 5000
	args := []string{"-name", "many"}
	for i := range n {
		args = append(args, "-drive", fmt.Sprint("file=/dev/vg0/lv", i, ",if=none,format=raw"))
	}
	many := h.start(args...)
	held := h.held(1)[0]
	if got := len(held.Blockers) + held.More; got != n || len(held.Blockers) == 0 {
		t.Errorf("%d blockers and %d more", len(held.Blockers), held.More)
	}
	if _, err := h.Release("many"); err != nil {
		t.Error(err)
	}
	many.ends()
	h.settled()
	for _, e := range append(h.of(event.Hold), h.of(event.Release)...) {
		if size := len(e.AppendJSON(nil)); size > 16<<10 || len(e.Hold.Blockers)+e.Hold.More != n {
			t.Errorf("%s: %d bytes, %d blockers and %d more", e.Kind, size, len(e.Hold.Blockers), e.Hold.More)
		}
	}
	if size := h.log.Len(); size > 8<<10 {
		t.Errorf("the journal gets %d bytes", size)
	}
}

func TestShorten(t *testing.T) {
	long := "/dev/" + strings.Repeat("é", 4000) + "/end"
	if got := shorten(long); len(got) > maxText || !strings.HasPrefix(got, "/dev/é") || !strings.HasSuffix(got, "/end") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	if got := shorten("/dev/vg/lv"); got != "/dev/vg/lv" {
		t.Errorf("got %q", got)
	}
}
