package text

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/timeline"
)

// What could not be followed is said, within bounds, whatever its name is.
func TestRacesHeaderProblems(t *testing.T) {
	g := &timeline.Guest{Name: "web\x1b[31m"}
	for n := range 1000 {
		g.Disks = append(g.Disks, timeline.Disk{
			Path: fmt.Sprintf("/dev/vg0/%d", n) + strings.Repeat("n", 4096), Problem: "it is its own backing file\n",
		})
	}
	g.Disks = append(g.Disks, timeline.Disk{Path: "/dev/vg0/fine"})
	for _, opts := range []Options{{}, {Width: 40, Color: true}} {
		var b bytes.Buffer
		if err := Races(&b, &timeline.Timeline{BootID: "b", Guests: []*timeline.Guest{g}}, opts); err != nil {
			t.Fatal(err)
		}
		checkOutput(t, b.Bytes(), opts)
		if n := strings.Count(b.String(), "own backing file"); opts.Width == 0 && n != mostHeaders {
			t.Errorf("told %d times:\n%s", n, b.String())
		}
		if !strings.Contains(b.String(), "990 more images") || strings.Contains(b.String(), "fine") {
			t.Errorf("got\n%s", b.String())
		}
	}
}
