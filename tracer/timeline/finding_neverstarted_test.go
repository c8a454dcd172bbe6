package timeline

import (
	"testing"

	"github.com/bootrace/bootrace/tracer/event"
)

// TestHousekeeper: programs of udev's rules look at devices for udev, whatever
// their names are; a program of a service starts guests, for all that is known.
func TestHousekeeper(t *testing.T) {
	for _, c := range []struct {
		comm, parent string
		want         bool
	}{
		{"probe-acme", "(udev-worker)", true},
		{"probe-acme", "systemd-udevd", true}, // before systemd 251
		{"probe-bcache", "", true},            // over before its parent could be asked for
		{"agent", "systemd", false},
		{"sh", "", false},
	} {
		if got := Housekeeper(&event.Proc{Comm: c.comm, Parent: c.parent}); got != c.want {
			t.Errorf("%s of %q: %v", c.comm, c.parent, got)
		}
	}
}
