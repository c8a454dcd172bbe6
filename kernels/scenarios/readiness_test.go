package scenarios

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/readiness"
)

// Disks in every state, and who goes on when. The script counts what is wrong;
// the machine's console has it.
func TestReadiness(t *testing.T) { testReadiness(t, asked()) }

func testReadiness(t *testing.T, w watch) {
	out := w.play(t, "readiness", nil)
	data, err := os.ReadFile(filepath.Join(out, "chain.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v readiness.Verdict
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	var members []string
	for _, m := range v.Members {
		members = append(members, m.Path+" "+m.Mapping)
	}
	want := []string{"/dev/vg0/top vg0-top", "/dev/vg0/mid vg0-mid", "/dev/vg0/base vg0-base"}
	if diff := cmp.Diff(want, members); diff != "" || !v.Ready {
		t.Errorf("the chain (-want +got): %s", diff)
	}
}
