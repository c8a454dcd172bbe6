package json

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// TestWrite checks that nothing gets lost on the way to a program and back.
func TestWrite(t *testing.T) {
	for _, name := range []string{"demo", "held", "hostile", "incomplete", "kinds", "large", "empty"} {
		content, err := os.ReadFile(filepath.Join("..", "text", "testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		want, got := new(timeline.Timeline), new(timeline.Timeline)
		if err := json.Unmarshal(content, want); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := Write(&b, want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b.Bytes(), got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		var standard bytes.Buffer
		e := json.NewEncoder(words.JSONWriter(&standard))
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		versioned := struct {
			FormatVersion int `json:"format_version"`
			*timeline.Timeline
		}{FormatVersion, want}
		if err := e.Encode(versioned); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(standard.String(), b.String()); diff != "" {
			t.Errorf("%s (-encoding/json +got):\n%s", name, diff)
		}
	}
}
