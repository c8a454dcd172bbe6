// Package json writes a timeline for programs: a timeline.Timeline as JSON, the
// same from `bootrace show --format json` and `bootrace export --format json`.
package json

import (
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	v1 "github.com/go-json-experiment/json/v1"

	"github.com/bootrace/bootrace/tracer/timeline"
)

// Write writes tl. What it writes is read back by decoding into a Timeline.
func Write(w io.Writer, tl *timeline.Timeline) error { return Encode(w, tl) }

// Encode writes v the way that all of the program's JSON is written: indented,
// because people read it, too. The text is what encoding/json makes of v; that
// package holds all of it in memory, twice, before it writes the first byte.
func Encode(w io.Writer, v any) error {
	err := json.MarshalWrite(w, v, v1.DefaultOptionsV1(), jsontext.WithIndent("  "), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(true))
	if err == nil {
		_, err = io.WriteString(w, "\n")
	}
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
