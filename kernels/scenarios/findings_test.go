package scenarios

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/kernels"
)

// Each finding, and nothing where nothing is wrong.
func TestFindings(t *testing.T) {
	if w := asked(); w.usual() && inMatrix(kernels.Default) {
		t.Skip("NOT RUN: TestMatrix judges the same acts on this kernel")
	}
	testFindings(t, asked())
}

// findings are what the scenario's acts lead to, by guest.
var findings = []string{
	"linklate link-late", "linklate would-hold",
	"missing missing", "missing would-hold",
	"nearmiss near-miss",
	"never never-ready", "never would-hold",
	"notlive not-live", "notlive would-hold",
	"nowhere never-ready", "nowhere would-hold",
	"removed removed", "removed would-hold",
}

func testFindings(t *testing.T, w watch) {
	out := w.play(t, "findings", nil)
	tl := readTimeline(t, filepath.Join(out, "trace.json"))
	if diff := cmp.Diff(findings, kinds(tl)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if !tl.Complete {
		t.Errorf("the record is not complete: %+v", tl.Incomplete)
	}
}
