// Package json writes a timeline for programs: a timeline.Timeline as JSON, the
// same from `bootrace show --format json` and `bootrace export --format json`.
package json

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/bootrace/bootrace/tracer/timeline"
)

// Write writes tl. What it writes is read back by decoding into a Timeline.
func Write(w io.Writer, tl *timeline.Timeline) error { return Encode(w, tl) }

// Encode writes v the way that all of the program's JSON is written: indented,
// because people read it, too.
func Encode(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	if err := out.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
