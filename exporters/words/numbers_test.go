package words

import "testing"

func TestCapital(t *testing.T) {
	for s, want := range map[string]string{
		"it ended": "It ended", "open: no source": "Open: no source", "/dev/a is": "/dev/a is", "nbd://h/x is": "nbd://h/x is",
		"fat:rw:/srv/d is": "fat:rw:/srv/d is", "disk.qcow2 is": "disk.qcow2 is", "": "", "Éa": "Éa",
	} {
		if got := Capital(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}
