// Package json writes what programs read: a timeline.Timeline, the same from
// `bootrace show --format json` and `bootrace export --format json`, and the
// documents of the other commands.
//
// schema.json describes all of them (JSON Schema, draft 2020-12): the document
// of each command is in its $defs, by the command's name. It is made from the Go
// types by the tests of cmd/bootrace, which also hold each document against it.
package json

import (
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	v1 "github.com/go-json-experiment/json/v1"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/timeline"
)

//go:generate go test ../../cmd/bootrace -run ^TestSchema$ -update

// FormatVersion is the format_version of every document that a command prints
// for programs. It is raised when a field is removed or renamed, or changes what
// it means; fields and values of a text can be added without that.
//
// Documents without format_version are of version 1: there, `boots`, `release`
// and `accept` printed a bare array, a verdict had at_risk instead of an outcome,
// and a timeline had no summary.
const FormatVersion = 2

// document is what is written: an object, whose first field is the version.
type document[T any] struct {
	FormatVersion int `json:"format_version"`
	Content       T   `json:",embed"`
}

// Write writes tl. What it writes is read back by decoding into a Timeline.
func Write(w io.Writer, tl *timeline.Timeline) error { return Encode(w, tl) }

// Encode writes v, a struct or a pointer to one, the way that all of the
// program's JSON is written: with the version of the format, and indented,
// because people read it, too. The text is what encoding/json makes of v, with
// escapes for whatever a terminal does not show as it is; that package holds all of it in memory, twice, before it writes the first byte.
func Encode[T any](w io.Writer, v T) error {
	w = words.JSONWriter(w)
	err := json.MarshalWrite(w, document[T]{FormatVersion, v}, v1.DefaultOptionsV1(),
		jsontext.WithIndent("  "), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(true))
	if err == nil {
		_, err = io.WriteString(w, "\n")
	}
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
