package scenarios

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each finding, and nothing where nothing is wrong.
func TestFindings(t *testing.T) {
	out, _ := play(t, "findings", nil)
	tl := readTimeline(t, filepath.Join(out, "trace.json"))
	want := []string{
		"linklate link-late",
		"missing missing",
		"nearmiss near-miss",
		"never never-ready",
		"notlive not-live",
		"nowhere never-ready",
		"removed removed",
	}
	if diff := cmp.Diff(want, kinds(tl)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if !tl.Complete {
		t.Errorf("the record is not complete: %+v", tl.Incomplete)
	}
}
