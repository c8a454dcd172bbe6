// Package samples has the timelines that the exporters' tests write: those of
// package text, so that all formats tell the same boots.
package samples

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/bootrace/bootrace/tracer/timeline"
)

// Load returns the sample of that name, for a test of a package beside text.
func Load(tb testing.TB, name string) *timeline.Timeline {
	tb.Helper()
	content, err := os.ReadFile(filepath.Join("..", "text", "testdata", name+".json"))
	if err != nil {
		tb.Fatal(err)
	}
	tl := new(timeline.Timeline)
	if err := json.Unmarshal(content, tl); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return tl
}
